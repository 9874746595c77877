"""For the tests of siblings: an auth service that exists only in memory.

auth = FakeAuthService()
verifier = auth.verifier()
claims = verifier.verify(auth.issue_test_token(user_id=42, role="admin"))
"""

import json
import threading
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from kanban_auth_verify.clock import Clock
from kanban_auth_verify.verifier import AsyncVerifier, Verifier

_HEARTBEAT_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 10


class MovableClock(Clock):
    """Goes on by itself, and further when it is moved."""

    def __init__(self) -> None:
        self._moved = 0.0

    def now(self) -> float:
        return super().now() + self._moved

    def monotonic(self) -> float:
        return super().monotonic() + self._moved

    def move(self, seconds: float) -> None:
        self._moved += seconds


class FakeAuthService:
    """Signs with ES256. Its tokens and verifiers live by `clock`; while it `is_down` nobody can connect."""

    url: Final = "http://auth.test"
    service_token: Final = "kas_test"

    def __init__(self, *, issuer: str = "kanban-auth", audience: str | None = None) -> None:
        self.issuer = issuer
        self.audience = audience
        self.clock = MovableClock()
        self.is_down = False
        self.page_size = 1000
        self._private_keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self._revocations: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._readers: dict[int, int] = {}
        self.rotate_key()

    def verifier(self, **options: Any) -> Verifier:
        """Knows the sign-outs too. `options` are those of `Verifier`."""
        return Verifier(self.url, **self._options(options))

    def async_verifier(self, **options: Any) -> AsyncVerifier:
        return AsyncVerifier(self.url, **self._options(options))

    def issue_test_token(
        self,
        user_id: int = 1,
        *,
        role: str = "user",
        session_id: UUID | None = None,
        lifetime: int = 900,
        **claims: Any,
    ) -> str:
        """Of a session of its own. `lifetime` is in seconds; `claims` replace single ones."""
        now = int(self.clock.now())
        payload = {
            "iss": self.issuer,
            "sub": str(user_id),
            "role": role,
            "sid": str(session_id or uuid4()),
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + lifetime,
        }
        if self.audience is not None:
            payload |= {"aud": self.audience, "client_id": self.audience}
        kid, key = next(reversed(self._private_keys.items()))
        return jwt.encode(payload | claims, key, "ES256", headers={"typ": "at+jwt", "kid": kid})

    def rotate_key(self) -> None:
        """From now on another key signs; the one before goes on being published."""
        self._private_keys[str(uuid4())] = ec.generate_private_key(ec.SECP256R1())

    def end_session(self, session_id: UUID) -> None:
        """When this returns, verifiers that are connected know."""
        self.publish(sid=str(session_id), reason="logout")

    def end_sessions_of(self, user_id: int) -> None:
        """All tokens of the user that were issued until now."""
        self.publish(sub=str(user_id), issued_before=int(self.clock.now()), reason="user_disabled")

    def change_role(self, user_id: int, role: str) -> None:
        """All tokens of the user that name another role."""
        self.publish(sub=str(user_id), role=role, reason="role_changed")

    def publish(self, **item: Any) -> None:
        """An item of any shape."""
        complete = {"sid": None, "sub": None, "issued_before": None, "role": None, **item}
        with self._changed:
            cursor = len(self._revocations) + 1
            expires_at = int(self.clock.now()) + 3600
            self._revocations.append({"cursor": str(cursor), **complete, "expires_at": expires_at})
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: all(at >= cursor for at in self._readers.values()), _PATIENCE_SECONDS
            )

    def http_client(self) -> httpx.Client:
        """For `Verifier(http_client=...)`."""
        return httpx.Client(transport=httpx.MockTransport(self._answer))

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        own = {
            "issuer": self.issuer,
            "audience": self.audience,
            "service_token": self.service_token,
            "http_client": self.http_client,
            "clock": self.clock,
        }
        return own | options

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("it is down", request=request)
        if request.url.path == "/.well-known/jwks.json":
            headers = {"Cache-Control": "public, max-age=600"}
            return httpx.Response(200, json={"keys": self._jwks()}, headers=headers)
        if request.headers.get("authorization") != f"Bearer {self.service_token}":
            return httpx.Response(401)
        after = int(request.url.params.get("after", "0"))
        if request.headers["accept"] == "text/event-stream":
            stream = _Stream(self, after)
            return httpx.Response(200, stream=stream, headers={"Content-Type": "text/event-stream"})
        items = self._revocations[after : after + self.page_size]
        end = after + len(items)
        page = {"revocations": items, "cursor": str(end), "has_more": end < len(self._revocations)}
        return httpx.Response(200, json=page)

    def _jwks(self) -> list[dict[str, Any]]:
        return [
            ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig", "alg": "ES256"}
            for kid, key in self._private_keys.items()
        ]


class _Stream(httpx.SyncByteStream):
    """What a reader asks for next tells how far it has come."""

    def __init__(self, auth: FakeAuthService, after: int) -> None:
        self._auth = auth
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        changed, revocations, readers = self._auth._changed, self._auth._revocations, self._auth._readers  # noqa: SLF001
        try:
            while not self._auth.is_down:
                with changed:
                    readers[id(self)] = self._after
                    changed.notify_all()
                    changed.wait_for(lambda: len(revocations) > self._after, _HEARTBEAT_SECONDS)
                    new = revocations[self._after :]
                    self._after += len(new)
                yield _events(new)
        finally:
            with changed:
                readers.pop(id(self), None)
                changed.notify_all()


def _events(items: list[dict[str, Any]]) -> bytes:
    events = [f"event: revocation\nid: {item['cursor']}\ndata: {json.dumps(item)}\n\n" for item in items]
    return ("".join(events) or ": ping\n\n").encode()
