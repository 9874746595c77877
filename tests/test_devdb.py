"""The embedded server: shared while somebody needs it, gone when nobody does."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from app import devdb
from tests.support import PATIENCE_SECONDS, clean_environment, eventually

pytestmark = pytest.mark.process
USER = (
    "import sys; from pathlib import Path; from app import devdb; "
    "print(devdb.attach(Path(sys.argv[1])), flush=True); sys.stdin.read()"
)


@pytest.fixture(scope="module")
def initialized() -> Iterator[Path]:
    """Where a server has been: to make a data directory takes seconds, to copy it does not."""
    with tempfile.TemporaryDirectory(prefix="kanban-auth-") as folder:
        devdb.attach(Path(folder))
        devdb.detach(Path(folder), timeout=PATIENCE_SECONDS)
        yield Path(folder)


@pytest.fixture
def empty() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    yield folder
    for process in servers(folder):
        process.kill()
    shutil.rmtree(folder)


@pytest.fixture
def data(empty: Path, initialized: Path) -> Path:
    subprocess.run(["cp", "-a", initialized / "pg", empty / "pg"], check=True)  # with its owner
    return empty


def servers(data: Path) -> list[psutil.Process]:
    """The keeper and the server of a data directory, without the server's own children."""
    keepers, postgres = [], {}
    for process in psutil.process_iter(["cmdline", "ppid"]):
        arguments = process.info["cmdline"] or []
        if "--keep" in arguments and str(data) in arguments:
            keepers.append(process)
        if arguments and arguments[0].endswith("/postgres") and str(data / "pg") in arguments:
            postgres[process.pid] = process  # a child has the server's name until it gives itself another
    return keepers + [each for each in postgres.values() if each.info["ppid"] not in postgres]


def start_user(data: Path) -> "subprocess.Popen[str]":
    """A process that uses the server until its standard input ends."""
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(data)],
        cwd=devdb.PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert user.stdout is not None
    assert user.stdout.readline().startswith("postgresql://")
    return user


def end(user: "subprocess.Popen[str]") -> None:
    user.communicate(timeout=PATIENCE_SECONDS)


@pytest.mark.slow
def test_the_data_of_the_embedded_server_survives_a_restart(data: Path) -> None:
    for statement in ("CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)"):
        connection = psycopg2.connect(devdb.attach(data))
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()
        devdb.detach(data, timeout=PATIENCE_SECONDS)
        assert servers(data) == []


@pytest.mark.slow
def test_a_killed_user_of_the_embedded_server_leaves_nothing_behind(data: Path) -> None:
    user = start_user(data)
    running = servers(data)
    assert len(running) == 2

    user.send_signal(signal.SIGKILL)
    end(user)

    assert psutil.wait_procs(running, timeout=PATIENCE_SECONDS)[1] == []


def test_the_embedded_server_is_shared_and_ends_with_its_last_user(data: Path) -> None:
    one, other = start_user(data), start_user(data)
    running = servers(data)
    assert len(running) == 2

    end(one)
    with psycopg2.connect((data / "url").read_text(encoding="utf-8")) as connection:
        assert connection.server_version >= 180000
    connection.close()
    end(other)

    assert psutil.wait_procs(running, timeout=PATIENCE_SECONDS)[1] == []


@pytest.mark.slow
def test_an_embedded_server_whose_keeper_was_killed_is_taken_over(data: Path) -> None:
    user = start_user(data)
    (keeper,) = [process for process in servers(data) if "--keep" in process.cmdline()]
    keeper.kill()
    end(user)
    assert psutil.wait_procs([keeper], timeout=PATIENCE_SECONDS)[1] == []
    assert len(servers(data)) == 1

    devdb.attach(data)
    devdb.detach(data, timeout=PATIENCE_SECONDS)

    assert servers(data) == []


@pytest.mark.slow
def test_a_stale_process_number_is_no_embedded_server(data: Path) -> None:
    devdb.attach(data)
    devdb.detach(data, timeout=PATIENCE_SECONDS)
    (data / "pg" / "postmaster.pid").write_text(
        f"{os.getpid()}\n{data}/pg\n1\n5432\n{data}/pg\n\n  1 1\nready   \n", encoding="utf-8"
    )

    psycopg2.connect(devdb.attach(data)).close()
    devdb.detach(data, timeout=PATIENCE_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with a space", "x" * 100])
def test_the_embedded_server_runs_in_any_path(empty: Path, name: str) -> None:
    folder = empty / name

    psycopg2.connect(devdb.attach(folder)).close()
    devdb.detach(folder, timeout=PATIENCE_SECONDS)


@pytest.mark.slow
def test_an_embedded_server_that_does_not_start_says_why(empty: Path) -> None:
    with pytest.raises(SystemExit, match="set DATABASE_URL"):
        devdb.attach(empty, "no_such_setting = 1")
    os.close(devdb._locks.pop(empty))


def test_the_development_key_is_made_once_and_kept_to_ourselves(empty: Path) -> None:
    key = devdb.secret_key(empty)

    assert len(key) == 64
    assert devdb.secret_key(empty) == key
    assert stat.S_IMODE((empty / "secret_key").stat().st_mode) == 0o600


def run_command(environment: dict[str, str], *command: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "app.dev", *command],
        cwd=devdb.PROJECT, env=environment, stdout=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


GIVEN = {
    "ENVIRONMENT": "development",
    "DATABASE_URL": "postgresql://elsewhere/db",
    "SECRET_KEY": "given",
}


def test_a_given_database_is_used_instead_of_the_embedded_one() -> None:
    process = run_command(clean_environment(**GIVEN), "sh", "-c", "echo $DATABASE_URL; exit 3")

    assert process.communicate(timeout=PATIENCE_SECONDS)[0] == "postgresql+psycopg2://elsewhere/db\n"
    assert process.returncode == 3


def test_of_several_sigterms_the_command_gets_one(tmp_path: Path) -> None:
    counted, enough = tmp_path / "counted", tmp_path / "enough"
    script = (
        "import pathlib, signal, time\n"
        f"signal.signal(15, lambda *_: open({str(counted)!r}, 'a').write('x'))\n"
        "print('up', flush=True)\n"
        f"while not pathlib.Path({str(enough)!r}).exists(): time.sleep(0.01)\n"
    )
    process = run_command(clean_environment(**GIVEN), sys.executable, "-c", script, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"

    os.killpg(process.pid, signal.SIGTERM)
    process.terminate()
    eventually(counted.exists)
    process.terminate()
    enough.touch()

    process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, counted.read_text(encoding="utf-8")) == (0, "x")


def test_sigterm_reaches_the_command_that_the_embedded_server_is_for() -> None:
    script = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); "
        "print('up', flush=True); signal.pause()"
    )
    process = run_command(clean_environment(**GIVEN), sys.executable, "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"

    process.terminate()

    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 7
