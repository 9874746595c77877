"""Attacks the service, in production settings with two workers, and prints a table: `make attack`.

Ends with status 1 when a bar is missed. Names of attacks as arguments: only these.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from app import devdb
from benchmarks.attack import edge, flood, guessing
from benchmarks.attack.table import Row, markdown
from benchmarks.attack.target import Start, starter

Attack = Callable[[Start], Iterator[Row]]
ATTACKS: dict[str, Attack] = {"edge": edge.attack, "flood": flood.attack, "guessing": guessing.attack}
"""Each starts the service as it needs it, and gives its rows one by one."""


def main(names: list[str]) -> int:
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    start = starter(devdb.attach(data))
    rows: list[Row] = []
    try:
        for name in names or ATTACKS:
            for row in ATTACKS[name](start):
                print(f"{row.attack}: {row.measured}: {row.value} ({row.bar})", file=sys.stderr, flush=True)
                rows.append(row)
    finally:
        devdb.detach(data)
    print(markdown(rows))
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
