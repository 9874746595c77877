"""Tells users of logins on devices that their accounts do not know."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import DateTime, bindparam, exists, select

from app.clock import Clock
from app.database.transactions import Transaction
from app.models import LoginSession, User
from app.models.users import Role
from app.services.credentials.passwords import VerifiedUser
from app.services.delivery.account_mails import AccountMails, Recipient
from app.services.protection.guesses import Guess

_FIRST_LOGIN_WITHIN: Final = timedelta(days=1)

_ip_address, _user_agent = (
    bindparam(name, type_=getattr(LoginSession, name).type) for name in ("ip_address", "user_agent")
)
_another = exists().where(LoginSession.user_id == User.id, LoginSession.id != bindparam("newest"))
_SELECT: Final = select(
    _another.label("has_others"),
    _another.where(
        LoginSession.ip_address.is_not_distinct_from(_ip_address),
        LoginSession.user_agent.is_not_distinct_from(_user_agent),
    ).label("has_alike"),
    (User.created_at > bindparam("recently", type_=DateTime(timezone=True))).label("is_new"),
).where(User.id == bindparam("owner"), User.role != Role.GUEST)


@dataclass(frozen=True, slots=True)
class NewDeviceNotices:
    mails: AccountMails
    clock: Clock

    def send(self, transaction: Transaction, user: VerifiedUser, guess: Guess, session_id: UUID) -> None:
        """Unless the device shows its cookie, an earlier session was of the same client, or nobody has
        logged in before to an account that is new."""
        if guess.device is not None or "new_device_login" in self.mails.unwanted:
            return
        parameters = {
            "owner": user.id,
            "newest": session_id,
            "ip_address": guess.client.ip_address,
            "user_agent": guess.client.user_agent,
            "recently": self.clock() - _FIRST_LOGIN_WITHIN,
        }
        rows = transaction.execute(_SELECT, parameters)
        if not rows:  # guests share their account
            return
        found = rows[0]
        if not found.has_alike and (found.has_others or not found.is_new):
            to = Recipient(user.id, user.email)
            self.mails.notify(transaction, "new_device_login", to, guess.client)
