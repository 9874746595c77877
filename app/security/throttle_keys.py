"""Names buckets without saying whose they are: keyed hashes of addresses, emails and devices."""

import ipaddress
from dataclasses import dataclass, field
from hmac import digest

from app.security.emails import normalize_email

_UNKNOWN_ADDRESS = "unknown"


@dataclass(frozen=True, slots=True)
class ThrottleKeys:
    """`secret` is derived, so that the table alone does not tell which emails were tried."""

    secret: bytes = field(repr=False)

    def of(self, scope: str, value: str) -> bytes:
        """HMAC-SHA256. Scopes contain no NUL, so no two pairs are hashed as the same text."""
        return digest(self.secret, f"{scope}\0{value}".encode(errors="replace"), "sha256")


def address_block(ip_address: str | None) -> str:
    """What one subscriber has: an IPv4 address, also if it is IPv4-mapped, or a /64 of IPv6 (RFC 6177 §2)."""
    if ip_address is None:
        return _UNKNOWN_ADDRESS
    address = ipaddress.ip_address(ip_address)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def account_name(username: str) -> str:
    """The same for every spelling of an email. What is no email is nobody's, and stands for itself."""
    try:
        return normalize_email(username)
    except ValueError:
        return username
