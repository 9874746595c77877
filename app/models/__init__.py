"""Tables: columns and constraints, no rules."""

from app.database import Base
from app.models.audit import AuditEvent
from app.models.sessions import LoginSession
from app.models.users import User

__all__ = ["AuditEvent", "Base", "LoginSession", "User"]
