"""Limits how often somebody may guess a password, in a while and in a row."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from app.database.transactions import Database, Executor, Transaction
from app.errors import InvalidCredentials, TooManyFailures, TooManyRequests
from app.models.audit import AuditEventName
from app.security.devices import DeviceCookies
from app.security.throttle_keys import account_name, address_block
from app.services.operations.audit import Anonymous, AuditService, Client, UserActor
from app.services.protection.failures import FailureCounter
from app.services.protection.throttling import MOST_FAILURES, Bucket, Charge, ThrottleService
from app.setting_types import Rate

_AUDITED: Final = Rate(1, timedelta(minutes=10))


class Guess(NamedTuple):
    """An attempt to log in, or to prove that one is still the user.

    Failures in a row are counted for `counted`; a success clears all of `forgiven`. `device` is None unless
    the user has logged in on it before. Where nothing is limited, there are no charges and no keys.
    """

    user_id: int | None
    client: Client
    device: str | None
    charges: list[Charge]
    counted: bytes | None
    forgiven: list[bytes]


@dataclass(frozen=True, slots=True)
class GuessService:
    db: Database
    throttle: ThrottleService
    failures: FailureCounter
    devices: DeviceCookies
    audit: AuditService

    @contextmanager
    def login(
        self, username: str, user_id: int | None, device: str | None, client: Client, *, is_public: bool
    ) -> Iterator[Guess]:
        """For as long as it takes to verify a password and to open the session. Raises TooManyRequests.

        Nothing depends on whether the account exists. A known device pays for itself alone: a guesser may
        share its address. A password that `is_public` has nobody to guess it, so failures close nothing.
        """
        address = {Bucket.LOGIN_ADDRESS: address_block(client.ip_address)}
        account = {} if is_public else {Bucket.LOGIN_ACCOUNT: account_name(username)}
        proof = {Bucket.PROOF: str(user_id)}
        cleared = [charge.key for charge in self.throttle.charges(account | proof)]
        alternatives = [self._guess(user_id, client, None, address | account, cleared)]
        if device is not None and user_id is not None and self.devices.is_known(device, user_id):
            own = {Bucket.LOGIN_DEVICE: device}
            alternatives.insert(0, self._guess(user_id, client, device, own, cleared))
        guess = self._begin(alternatives)
        with self._judged(guess):
            yield guess

    @contextmanager
    def proof(self, user: UserActor) -> Iterator[None]:
        """For as long as it takes to verify the password of a signed-in user. Raises TooManyRequests.

        Each session is charged by itself, so that a stolen one does not keep the owner from a new password.
        Failures in a row are counted for the user.
        """
        charges = self.throttle.charges({Bucket.PROOF: str(user.session_id or user.user_id)})
        in_a_row = [charge.key for charge in self.throttle.charges({Bucket.PROOF: str(user.user_id)})]
        counted = in_a_row[0] if in_a_row else None
        guess = Guess(user.user_id, user.client, None, charges, counted, in_a_row)
        with self._judged(self._begin([guess])):
            yield
            self.forgive(self.db, guess)

    def device_of(self, guess: Guess, user_id: int) -> str:
        """For the cookie of a browser that has shown the right password."""
        return guess.device or self.devices.issue(user_id)

    def forgive(self, within: Executor, guess: Guess) -> None:
        """The password was right. Raises TooManyFailures if it came too late; then roll back."""
        if guess.charges:
            self.failures.forgive(within, guess.charges, guess.counted, guess.forgiven)

    def forget(self, transaction: Transaction, emails: Iterable[str], user_id: int | None = None) -> None:
        """For accounts that are new or have a new password: whatever was tried before counts no more."""
        wanted = [{Bucket.LOGIN_ACCOUNT: email} for email in emails]
        if user_id is not None:
            wanted.append({Bucket.PROOF: str(user_id)})
        if keys := [charge.key for each in wanted for charge in self.throttle.charges(each)]:
            self.failures.forget(transaction, keys)

    def _guess(
        self,
        user_id: int | None,
        client: Client,
        device: str | None,
        wanted: dict[Bucket, str],
        cleared: list[bytes],
    ) -> Guess:
        charges = self.throttle.charges(wanted)
        of_account = [charge.key for charge in charges if charge.bucket != Bucket.LOGIN_ADDRESS]
        counted = of_account[0] if of_account else None
        forgiven = sorted({*cleared, counted} - {None}) if counted else []
        return Guess(user_id, client, device, charges, counted, forgiven)

    def _begin(self, alternatives: list[Guess]) -> Guess:
        """The first one that has not failed too often in a row: a device may be in wrong hands too."""
        for guess in alternatives:
            try:
                self.throttle.charge(guess.charges, guess.counted)
            except TooManyRequests as error:
                if isinstance(error, TooManyFailures) and guess is not alternatives[-1]:
                    continue
                self._report(error, guess)
                raise
            break
        return guess

    @contextmanager
    def _judged(self, guess: Guess) -> Iterator[None]:
        """Counts a failure. Those that come too late are refused without a word on their password."""
        with self.throttle.undone_if_unserved(guess.charges):
            try:
                yield
            except (InvalidCredentials, TooManyFailures) as error:
                if isinstance(error, InvalidCredentials) and self._count(guess) <= MOST_FAILURES:
                    raise
                refusal = TooManyFailures()
                self._report(refusal, guess)
                raise refusal from None

    def _count(self, guess: Guess) -> int:
        return 0 if guess.counted is None else self.failures.count(guess.counted, guess.user_id)

    def _report(self, error: TooManyRequests, guess: Guess) -> None:
        """In the audit trail at most once in `_AUDITED`, as a refusal costs the sender nothing."""
        self.throttle.report(error, "login.throttled", guess.client, user_id=guess.user_id)
        refusing = [charge.key for charge in guess.charges if charge.bucket == error.bucket]
        key = refusing[0] if refusing else guess.charges[-1].key
        user_id = None if error.bucket == Bucket.LOGIN_ADDRESS else guess.user_id
        with suppress(TooManyRequests):
            self.throttle.charge([Charge("audit", self.throttle.keys.of("audit", key.hex()), _AUDITED)])
            event, actor = AuditEventName.LOGIN_THROTTLED, Anonymous(guess.client)
            self.audit.record(self.db, event, actor, user_id, bucket=error.bucket)
