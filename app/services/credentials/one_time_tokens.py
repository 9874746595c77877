"""The tokens in the links of mails: each is good once, for one purpose, until it expires."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import DateTime, bindparam, delete
from sqlalchemy.dialects.postgresql import insert

from app.clock import Clock
from app.database.transactions import Executor
from app.models import OneTimeToken
from app.models.one_time_tokens import Purpose
from app.security.one_time_tokens import hash_one_time_token, new_one_time_token

LIFETIMES: Final[Mapping[Purpose, timedelta]] = {
    Purpose.PASSWORD_RESET: timedelta(minutes=30),
    Purpose.INVITATION: timedelta(hours=72),
    Purpose.EMAIL_VERIFICATION: timedelta(hours=24),
    Purpose.EMAIL_CHANGE: timedelta(hours=24),
    Purpose.EMAIL_RESTORE: timedelta(hours=72),
}

_insert = insert(OneTimeToken)
_UPSERT: Final = _insert.on_conflict_do_update(
    index_elements=["user_id", "purpose"],
    set_={name: _insert.excluded[name] for name in ("token_hash", "email", "created_at", "expires_at")},
)
_SPEND: Final = (
    delete(OneTimeToken)
    .where(
        OneTimeToken.token_hash == bindparam("hash_of_token"),
        OneTimeToken.purpose == bindparam("wanted"),
        OneTimeToken.expires_at > bindparam("now", type_=DateTime(timezone=True)),
    )
    .returning(OneTimeToken.user_id, OneTimeToken.email)
)


class IssuedToken(NamedTuple):
    token: str
    expires_at: datetime


class SpentToken(NamedTuple):
    """What the token was good for; `email` as in the model."""

    user_id: int
    email: str | None


@dataclass(frozen=True, slots=True)
class OneTimeTokenService:
    clock: Clock

    def issue(
        self, within: Executor, purpose: Purpose, user_id: int, *, email: str | None = None
    ) -> IssuedToken:
        """The user's earlier token of this purpose is good for nothing any more."""
        token, now = new_one_time_token(), self.clock()
        values = {
            "token_hash": hash_one_time_token(token),
            "purpose": purpose,
            "user_id": user_id,
            "email": email,
            "created_at": now,
            "expires_at": now + LIFETIMES[purpose],
        }
        within.execute(_UPSERT, values)
        return IssuedToken(token, now + LIFETIMES[purpose])

    def spend(self, within: Executor, purpose: Purpose, token: str) -> SpentToken | None:
        """None if there is no such token, or no longer: of two who spend one at once, one gets it."""
        parameters = {"hash_of_token": hash_one_time_token(token), "wanted": purpose, "now": self.clock()}
        rows = within.execute(_SPEND, parameters)
        return SpentToken._make(rows[0]) if rows else None
