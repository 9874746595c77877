"""Device cookies: which browsers have logged in to an account before (OWASP, *Device Cookies*)."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hmac import compare_digest, digest
from secrets import token_urlsafe

LIFETIME_DAYS = 400  # no browser keeps a cookie longer (RFC 6265bis §5.5)


@dataclass(frozen=True, slots=True)
class DeviceCookies:
    """A device's text is `<user id>.<nonce>.<HMAC-SHA256 of both>`. It is no credential.

    The first secret is for new devices; those of the others are still known.
    """

    secrets: Sequence[bytes] = field(repr=False)

    def issue(self, user_id: int) -> str:
        claim = f"{user_id}.{token_urlsafe(16)}"
        return f"{claim}.{_seal(self.secrets[0], claim)}"

    def is_known(self, device: str | None, user_id: int) -> bool:
        """Whether `device` was issued to this user."""
        if device is None or not device.isascii():
            return False
        claim, _, seal = device.rpartition(".")
        is_theirs = claim.partition(".")[0] == str(user_id)
        return is_theirs and any(compare_digest(seal, _seal(secret, claim)) for secret in self.secrets)


def _seal(secret: bytes, claim: str) -> str:
    return urlsafe_b64encode(digest(secret, claim.encode(), "sha256")).rstrip(b"=").decode()
