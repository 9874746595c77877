"""Makes app/security/common_passwords.bin from a list of passwords, the most common first.

    .venv/bin/python -m requirements.common_passwords common-credentials-1M.txt

docs/dependencies.md says where the list is from. The same list always gives the same file.
"""

import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from app.security.common_passwords import FILE, fingerprint, fold_password

LIST_SHA256: Final = "eac6323842b3261da0ef4c180c8e23f4d056522ea97c2925b8687f453b40a2be"
LINES: Final = 200_000
MIN_LENGTH: Final = 8  # what PASSWORD_MIN_LENGTH is by default
SHORTEST: Final = 4  # what is left of a password without its punctuation may be a letter or two by chance


def make(source: Path) -> None:
    content = source.read_bytes()
    if sha256(content).hexdigest() != LIST_SHA256:
        raise SystemExit(f"{source} is another list: its SHA-256 is not {LIST_SHA256}.")
    lines = content.decode(errors="replace").splitlines()[:LINES]
    passwords = {folded for line in lines if len(folded := fold_password(line)) >= SHORTEST}
    FILE.write_bytes(b"".join(sorted({fingerprint(password) for password in passwords})))
    long = sum(len(password) >= MIN_LENGTH for password in passwords)
    print(f"{len(passwords)} passwords, {long} of them of {MIN_LENGTH} characters or more.")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
