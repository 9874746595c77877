"""`make install`: what was not installed is not believed. With a pip that does as it is told, at once."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil
import pytest

from app.devdb import PROJECT
from tests.support import PATIENCE_SECONDS, eventually

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed"),
]
INSTALLING = "Installing what poetry.lock pins into .venv ...\n"
REAL_VENV = """
import os, subprocess, sys
make = [sys.executable, "-Im", "venv", "--without-pip", *sys.argv[1:]]
sys.exit("VENV" in os.environ or subprocess.call(make))
"""
FAKE_PIP = """
import os, pathlib, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
if os.environ["PIP"] == "fails":
    sys.exit(1)
pathlib.Path(sys.prefix, "half").touch()
if os.environ["PIP"] == "hangs":
    signal.pause()
pathlib.Path(sys.prefix, "whole").touch()
"""


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.venv = folder / ".venv"
        self.requirements = folder / "requirements" / "dev.txt"
        self.requirements.parent.mkdir()
        self.requirements.touch()
        for name in ("Makefile", "requirements/install.py"):
            shutil.copy2(PROJECT / name, folder / name)
        fakes = folder / "fakes"
        fakes.mkdir()
        (fakes / "venv.py").write_text(REAL_VENV, encoding="utf-8")
        (fakes / "pip.py").write_text(FAKE_PIP, encoding="utf-8")
        # Without clean_environment(), as these programs must not be measured: a signal would end the
        # measurement with a traceback of its own.
        self.environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": str(fakes)}

    def start(self, pip: Literal["works", "fails", "hangs"]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["make", "install"], cwd=self.venv.parent, env=self.environment | {"PIP": pip},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def install(self, pip: Literal["works", "fails"] = "works") -> tuple[int, str, str]:
        make = self.start(pip)
        output, errors = make.communicate(timeout=PATIENCE_SECONDS)
        return make.returncode, output, errors

    def is_whole(self) -> bool:
        return (self.venv / "whole").exists()


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    folder = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    yield Checkout(folder)
    shutil.rmtree(folder)


@pytest.fixture
def installed(checkout: Checkout) -> Checkout:
    assert checkout.install() == (0, INSTALLING, "")
    assert checkout.is_whole()
    return checkout


def test_it_installs_once(installed: Checkout) -> None:
    assert installed.install("fails") == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_install_that_was_ended_is_begun_again(installed: Checkout, number: signal.Signals) -> None:
    installed.requirements.write_text("# others\n", encoding="utf-8")
    (installed.venv / "half").unlink()
    make = installed.start("hangs")
    wait_for(installed.venv / "half")
    os.killpg(make.pid, number)
    _, errors = make.communicate(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in errors
    assert not installed.is_whole()

    assert installed.install() == (0, INSTALLING, "")
    assert installed.is_whole()


def test_an_install_that_failed_is_begun_again(checkout: Checkout) -> None:
    for _ in range(2):
        status, output, errors = checkout.install("fails")

        assert status != 0
        assert output == INSTALLING
        assert "Nothing is installed; the next make begins again." in errors


def test_without_the_venv_module_nothing_is_believed_either(installed: Checkout) -> None:
    python = installed.venv / "bin" / "python"
    kept = python.rename(python.with_name("kept"))
    installed.environment["VENV"] = "is missing"
    status, _, errors = installed.install()
    assert status != 0
    assert "apt install python3-venv" in errors

    kept.rename(python)
    del installed.environment["VENV"]
    assert installed.install() == (0, INSTALLING, "")


def test_of_two_at_once_one_installs_and_the_other_waits(checkout: Checkout) -> None:
    both = [checkout.start("works") for _ in range(2)]
    outputs = [make.communicate(timeout=PATIENCE_SECONDS)[0] for make in both]

    assert [make.returncode for make in both] == [0, 0]
    assert sorted(outputs) == ["", INSTALLING]


def test_a_pip_that_outlives_its_make_is_waited_for(checkout: Checkout) -> None:
    make = checkout.start("hangs")
    wait_for(checkout.venv / "half")
    (pip,) = [child for child in psutil.Process(make.pid).children(recursive=True) if not child.children()]
    for parent in pip.parents()[:2]:
        parent.kill()
    second = checkout.start("works")
    with pytest.raises(subprocess.TimeoutExpired):
        second.communicate(timeout=1)

    pip.kill()
    make.communicate(timeout=PATIENCE_SECONDS)
    assert second.communicate(timeout=PATIENCE_SECONDS)[0] == INSTALLING
    assert checkout.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["its Python is gone", "its Python is another", "it has moved"])
def test_what_no_longer_fits_is_made_again(installed: Checkout, change: str) -> None:
    python = installed.venv / "bin" / "python"
    if change == "it has moved":
        stamp = installed.venv / "installed"
        stamp.write_text(stamp.read_text(encoding="utf-8").replace("kanban", "elsewhere"), encoding="utf-8")
    elif change == "its Python is gone":
        python.unlink()
        python.symlink_to("/nonexistent/python")
    else:
        python.unlink()
        python.write_text("#!/bin/sh\necho /elsewhere cpython-27\n", encoding="ascii")
        python.chmod(0o755)

    assert installed.install() == (0, INSTALLING, "")
    assert installed.is_whole()


def test_an_environment_that_is_kept_elsewhere_is_left_alone(checkout: Checkout, tmp_path: Path) -> None:
    checkout.venv.symlink_to(tmp_path)

    assert checkout.install() == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def wait_for(path: Path) -> None:
    eventually(path.exists, lambda: path)
