"""Runs the suite several times, to find what is not always green: `make test-repeat N=10`."""

import re
import subprocess
import sys
import time


def main(times: int, options: list[str]) -> int:
    """Stops at the first red run, and shows what it said. Returns an exit status."""
    for number in range(1, times + 1):
        begin = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "--quiet", "--color=no", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", run.stdout)
        said = ", ".join(counts) or "no test ran"
        print(f"run {number} of {times}: {said}, {time.monotonic() - begin:.0f} s", flush=True)
        if run.returncode:
            print(run.stdout)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
