"""The signing keys as this process knows them."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from app.clock import Clock
from app.database.transactions import Database
from app.errors import NotReady
from app.security import jws
from app.services.keys.reading import KeyReader, KeySnapshot, LoadedKey

_PAUSE: Final = timedelta(seconds=10)


class KeySet(NamedTuple):
    """A JWK set (RFC 7517 §5), serialized. `etag` is an HTTP entity tag (RFC 9110 §8.8.3)."""

    body: bytes
    etag: str


class SigningKeys:
    """Reads the keys when it is told to, and answers from memory.

    `algorithm` is that of new access tokens; None if they are signed with a shared secret.
    """

    def __init__(self, db: Database, reader: KeyReader, algorithm: str | None, clock: Clock) -> None:
        self.algorithm = algorithm
        self.snapshot = KeySnapshot()
        self.tried_at: datetime | None = None
        self.loaded = False
        self._db = db
        self._reader = reader
        self._clock = clock
        self._looked_at: datetime | None = None
        self._key_set: tuple[tuple[str, ...], KeySet] | None = None

    def load(self) -> None:
        """One statement. Raises DatabaseUnavailable."""
        self.tried_at = self._clock()
        self.snapshot = self._reader.read(self._db, self.snapshot)
        self.loaded = True

    def may_look_again(self) -> bool:
        """For a kid that is not known: once in ten seconds, so that strangers cause no load."""
        return self._looked_at is None or abs(self._clock() - self._looked_at) >= _PAUSE

    def look_again(self) -> None:
        """Raises DatabaseUnavailable; then nothing was seen, and another look is due."""
        self.load()
        self._looked_at = self._clock()

    def find(self, kid: str) -> LoadedKey | None:
        return self.snapshot.keys.get(kid)

    def signer(self) -> jws.Key:
        """The key that signs access tokens now. Raises NotReady if there is none."""
        key = self.algorithm and self.snapshot.signer(self.algorithm, self._clock())
        if not key or key.private is None:
            lost = self.snapshot.undecryptable(self._clock(), self.algorithm)
            raise NotReady("no key can sign" + "; SECRET_KEY decrypts none of them" * bool(lost))
        return key.private.key

    def is_ready(self) -> bool:
        """Whether access tokens can be signed."""
        return self.algorithm is None or self.snapshot.signer(self.algorithm, self._clock()) is not None

    def check(self) -> None:
        """Raises NotReady if no access token can be signed."""
        if self.algorithm is not None:
            self.signer()

    def key_set(self) -> KeySet:
        """Raises NotReady before the keys were read: siblings would remember that there are none."""
        if not self.loaded:
            raise NotReady("the signing keys were not read yet")
        trusted = self.snapshot.trusted(self._clock())
        kids = tuple(each.kid for each in trusted)
        if self._key_set is None or self._key_set[0] != kids:
            self._key_set = kids, _serialized(trusted)
        return self._key_set[1]


def _serialized(keys: list[LoadedKey]) -> KeySet:
    body = json.dumps({"keys": [each.public_jwk for each in keys]}, separators=(",", ":")).encode()
    return KeySet(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
