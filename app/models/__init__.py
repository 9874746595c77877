"""Tables: columns and constraints, no rules."""

from app.database import Base
from app.models.sessions import LoginSession
from app.models.users import User

__all__ = ["Base", "LoginSession", "User"]
