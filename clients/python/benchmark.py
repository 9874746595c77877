"""What it costs to verify one ES256 token, beside the signature alone: `python benchmark.py`.

CPU time of one thread, the best of many rounds, so that a busy machine shows nearly the same.
"""

import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kanban_auth_verify.testing import FakeAuthService

ROUNDS = 40
CALLS = 250
LIMIT = 150


def microseconds(call: Callable[[], object]) -> float:
    def one_round() -> float:
        began = time.thread_time()
        for _ in range(CALLS):
            call()
        return (time.thread_time() - began) / CALLS * 1e6

    return min(one_round() for _ in range(ROUNDS))


def main() -> None:
    auth = FakeAuthService(audience="kanban")
    token = auth.issue_test_token(42)
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    public_key, signature = key.public_key(), key.sign(b"x" * 400, algorithm)
    with auth.verifier() as verifier:
        verifying = microseconds(lambda: verifier.verify(token))
    signature_alone = microseconds(lambda: public_key.verify(signature, b"x" * 400, algorithm))
    print(f"verify {verifying:.0f} µs (limit {LIMIT}), of that the signature {signature_alone:.0f} µs")


if __name__ == "__main__":
    main()
