"""Tables: columns and constraints, without business rules."""

from app.models.audit import AuditEvent
from app.models.declarative import Base
from app.models.one_time_tokens import OneTimeToken
from app.models.outbox import OutboxMessage
from app.models.revocations import TokenRevocation
from app.models.service_tokens import ServiceToken
from app.models.sessions import LoginSession
from app.models.signing_keys import SigningKey
from app.models.sweeps import Sweep
from app.models.throttles import ConsecutiveFailures, Throttle
from app.models.users import User

__all__ = [
    "AuditEvent",
    "Base",
    "ConsecutiveFailures",
    "LoginSession",
    "OneTimeToken",
    "OutboxMessage",
    "ServiceToken",
    "SigningKey",
    "Sweep",
    "Throttle",
    "TokenRevocation",
    "User",
]
