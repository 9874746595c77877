"""Limits how many mails somebody can ask for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.errors import TooManyRequests
from app.security.throttle_keys import address_block
from app.services.operations.audit import Client
from app.services.protection.throttling import Bucket, ThrottleService


@dataclass(frozen=True, slots=True)
class MailRequests:
    throttle: ThrottleService

    @contextmanager
    def limited(self, kind: str, whose: Iterable[str], client: Client) -> Iterator[None]:
        """Mails of one kind about an account, and all from one address. Raises TooManyRequests."""
        wanted = [{Bucket.RECOVER_ACCOUNT: f"{kind} {each}"} for each in whose]
        wanted.append({Bucket.RECOVER_ADDRESS: address_block(client.ip_address)})
        charges = [charge for each in wanted for charge in self.throttle.charges(each)]
        try:
            self.throttle.charge(charges)
        except TooManyRequests as error:
            self.throttle.report(error, "mail.throttled", client, kind=kind)
            raise
        with self.throttle.undone_if_unserved(charges):
            yield
