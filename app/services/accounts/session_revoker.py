"""Lets accounts and credentials revoke sessions without importing `services/sessions`."""

from typing import Protocol

from app.database.transactions import Transaction
from app.models.sessions import RevocationReason
from app.services.operations.audit import Actor


class SessionRevoker(Protocol):
    def revoke_all(
        self, transaction: Transaction, actor: Actor, user_id: int, reason: RevocationReason
    ) -> None:
        """Revoke a user's sessions within the transaction."""
