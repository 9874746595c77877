"""How many cores this process may use."""

import os
import sys
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> int:
    """1 at least. A quota of a container (cgroup v2) counts in whole cores."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas(cgroups, own_cgroup)]))


def _quotas(cgroups: Path, own_cgroup: Path) -> list[int]:
    """Of the process's group and of all groups around it."""
    try:
        lines = own_cgroup.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    (own, *_) = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")] or [""]
    folders = [cgroups / own, *(cgroups / own).parents]
    return [quota for folder in folders if (quota := _quota(folder / "cpu.max")) is not None]


def _quota(file: Path) -> int | None:
    """`cpu.max` is a quota and a period in microseconds; the quota may be `max`."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return int(quota) // int(period)
    except (OSError, ValueError):
        return None
