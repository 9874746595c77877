"""The tokens in the links of mails: each is good once, for one purpose, until it expires."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, DateTime, Exists, bindparam, delete, exists, select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.clock import Clock
from app.database.transactions import Executor
from app.models import OneTimeToken, User
from app.models.one_time_tokens import Purpose
from app.security.one_time_tokens import hash_one_time_token, new_one_time_token

LIFETIMES: Final[Mapping[Purpose, timedelta]] = {
    Purpose.PASSWORD_RESET: timedelta(minutes=30),
    Purpose.INVITATION: timedelta(hours=72),
    Purpose.EMAIL_VERIFICATION: timedelta(hours=24),
    Purpose.EMAIL_CHANGE: timedelta(hours=24),
    Purpose.EMAIL_RESTORE: timedelta(hours=72),
}

VOIDABLE: Final = (Purpose.PASSWORD_RESET, Purpose.INVITATION, Purpose.EMAIL_CHANGE)
"""What a thief may have asked for: void with a new password, and when the user is disabled."""

_issued = select(
    User.id.label("user_id"),
    *(
        bindparam(name, type_=getattr(OneTimeToken, name).type).label(name)
        for name in ("token_hash", "purpose", "email", "created_at", "expires_at")
    ),
).where(User.id == bindparam("owner"))
_insert = insert(OneTimeToken).from_select([column.name for column in _issued.selected_columns], _issued)
_renewed = {name: _insert.excluded[name] for name in ("token_hash", "email", "created_at", "expires_at")}
_ISSUE: Final = _insert.on_conflict_do_update(
    index_elements=["user_id", "purpose"], index_where=text("purpose <> 'email_restore'"), set_=_renewed
)
_ISSUE_WAY_BACK: Final = _insert.on_conflict_do_update(
    index_elements=["email", "user_id"], index_where=text("purpose = 'email_restore'"), set_=_renewed
)
_now = bindparam("now", type_=DateTime(timezone=True))
_is_good = (
    OneTimeToken.token_hash == bindparam("hash_of_token"),
    OneTimeToken.purpose.in_(bindparam("purposes", expanding=True)),
    OneTimeToken.expires_at > _now,
)
_columns = (OneTimeToken.purpose, OneTimeToken.user_id, OneTimeToken.email, OneTimeToken.created_at)
_SPEND: Final = delete(OneTimeToken).where(*_is_good).returning(*_columns)
_SELECT_OWNER: Final = select(User.email).join(OneTimeToken).where(*_is_good)
_VOID: Final = delete(OneTimeToken).where(
    OneTimeToken.user_id == bindparam("owner"),
    OneTimeToken.purpose.in_(bindparam("purposes", expanding=True)),
    OneTimeToken.created_at >= bindparam("since", type_=DateTime(timezone=True)),
)
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_way_back(email: ColumnElement[str], now: ColumnElement[datetime]) -> Exists:
    """Whether somebody can still go back to `email`, which was theirs for certain."""
    return exists().where(
        OneTimeToken.purpose == Purpose.EMAIL_RESTORE,
        OneTimeToken.is_reservation,
        OneTimeToken.email == email,
        OneTimeToken.expires_at > now,
    )


_RESERVE: Final = (
    update(OneTimeToken)
    .where(
        OneTimeToken.purpose == Purpose.EMAIL_RESTORE,
        OneTimeToken.user_id == bindparam("owner"),
        OneTimeToken.email == bindparam("wanted"),
    )
    .values(is_reservation=True)
)
_SELECT_WAYS_BACK: Final = select(OneTimeToken.email).where(
    OneTimeToken.purpose == Purpose.EMAIL_RESTORE,
    OneTimeToken.user_id == bindparam("owner"),
    OneTimeToken.expires_at > _now,
)


_SELECT_WAY_BACK: Final = select(
    is_way_back(bindparam("wanted", type_=OneTimeToken.email.type), _now).where(
        OneTimeToken.user_id != bindparam("owner")
    )
)


class IssuedToken(NamedTuple):
    token: str
    expires_at: datetime


class SpentToken(NamedTuple):
    """What the token was good for; `email` as in the model."""

    purpose: str
    user_id: int
    email: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OneTimeTokenService:
    clock: Clock

    def issue(
        self, within: Executor, purpose: Purpose, user_id: int, *, email: str | None = None
    ) -> IssuedToken:
        """The user's earlier token of this purpose is good for nothing any more.

        A way back is a way back to one email: who changes it twice can still go back to the first one.
        Where there is no such user, the token is good for nothing.
        """
        token, now = new_one_time_token(), self.clock()
        values = {
            "token_hash": hash_one_time_token(token),
            "purpose": purpose,
            "owner": user_id,
            "email": email,
            "created_at": now,
            "expires_at": now + LIFETIMES[purpose],
        }
        within.execute(_ISSUE_WAY_BACK if purpose == Purpose.EMAIL_RESTORE else _ISSUE, values)
        return IssuedToken(token, now + LIFETIMES[purpose])

    def owner_of(self, within: Executor, token: str, *purposes: Purpose) -> str | None:
        """The email of the account; the token is not spent. None if it cannot be."""
        rows = within.execute(_SELECT_OWNER, self._good(token, purposes))
        return str(rows[0].email) if rows else None

    def spend(self, within: Executor, token: str, *purposes: Purpose) -> SpentToken | None:
        """None if there is no such token, or no longer: of two who spend one at once, one gets it."""
        rows = within.execute(_SPEND, self._good(token, purposes))
        return SpentToken._make(rows[0]) if rows else None

    def _good(self, token: str, purposes: tuple[Purpose, ...]) -> dict[str, object]:
        return {"hash_of_token": hash_one_time_token(token), "purposes": purposes, "now": self.clock()}

    @staticmethod
    def void(within: Executor, user_id: int, *purposes: Purpose, since: datetime | None = None) -> None:
        """The user's tokens of these purposes, issued at `since` or later, are good for nothing any more."""
        parameters = {"owner": user_id, "purposes": purposes, "since": since or _EVER}
        within.execute(_VOID, parameters)

    @staticmethod
    def reserve(within: Executor, user_id: int, email: str) -> None:
        """As long as the user can go back to `email`, nobody else gets it."""
        within.execute(_RESERVE, {"owner": user_id, "wanted": email})

    def ways_back_of(self, within: Executor, user_id: int) -> list[str]:
        """The emails that the user can still go back to."""
        rows = within.execute(_SELECT_WAYS_BACK, {"owner": user_id, "now": self.clock()})
        return [row.email for row in rows]

    def is_way_back_of_others(self, within: Executor, email: str, user_id: int) -> bool:
        """Whether somebody other than this user can still go back to `email`."""
        parameters = {"wanted": email, "owner": user_id, "now": self.clock()}
        return bool(within.execute(_SELECT_WAY_BACK, parameters)[0][0])
