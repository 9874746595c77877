"""Where a request stands in the queue for hashing."""

from dataclasses import dataclass
from enum import StrEnum

from app.security.throttle_keys import address_block


class Lane(StrEnum):
    """Each lane has a share of the queue and of the hashes, however long the others are."""

    SIGNED_IN = "signed_in"
    LOGIN = "login"
    REGISTRATION = "registration"


@dataclass(frozen=True, slots=True)
class Turn:
    """`known_device`: somebody has logged in to this account from there before."""

    lane: Lane
    address: str | None
    known_device: bool = False

    @property
    def network(self) -> str:
        return address_block(self.address)
