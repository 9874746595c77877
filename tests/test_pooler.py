"""Behind PgBouncer in transaction mode, which refuses the startup parameter that carries our timeouts."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from tests.support import (
    HEALTH,
    PATIENCE_SECONDS,
    Lines,
    MakeDatabase,
    MakeService,
    StartProcess,
    at_once,
    bearer,
    eventually,
    look_into,
    reserved_port,
)
from tests.support.commands import run_command

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed"),
]
Pool = Callable[[str], str]


def _as_whom(socket: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """It does not run as root; the owner of the server's socket may use it."""
    if os.geteuid() != 0:
        return ()
    return ("-u", Path(socket).owner() if isinstance(socket, str) else "nobody")


@contextmanager
def pgbouncer(folder: Path, server: URL) -> Iterator[int]:
    """The port of a pooler in transaction mode before this server."""
    with reserved_port() as port:
        file, socket = folder / "pgbouncer.ini", server.query.get("host")
        file.write_text(
            f"[databases]\n* = host={socket or server.host} port={server.port or 5432}"
            f" user={server.username}{f' password={server.password}' if server.password else ''}\n"
            f"[pgbouncer]\npool_mode = transaction\nauth_type = any\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n",
            encoding="utf-8",
        )
        assert PGBOUNCER is not None
        process = subprocess.Popen([PGBOUNCER, "-q", *_as_whom(socket), str(file)], stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[Pool]:
    """The URL by which a database is reached through a pooler of this test."""
    with ExitStack() as poolers:

        def pool(url: str) -> str:
            server = make_url(url)
            port = poolers.enter_context(pgbouncer(tmp_path, server))
            through = server.set(host="127.0.0.1", port=port, password="any", query={})

            def answers() -> bool:
                try:
                    create_engine(through).connect().close()
                except OperationalError:
                    return False
                return True

            eventually(answers)
            return through.render_as_string(hide_password=False)

        yield pool


def test_a_pooler_refuses_our_timeouts(pooled: Pool, fresh_database_url: str) -> None:
    url = make_url(pooled(fresh_database_url)).set(drivername="postgresql")

    with pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter"):
        psycopg2.connect(
            url.render_as_string(hide_password=False), options="-c statement_timeout=5s -c lock_timeout=3s"
        )


def test_behind_a_pooler_the_start_migrates_and_serves(
    start_process: StartProcess, make_database: MakeDatabase, pooled: Pool
) -> None:
    started = start_process(pooled(make_database()), WEB_CONCURRENCY="2").serves()

    assert started.register().status_code == 201
    assert "database.options_refused" in started.output


def test_behind_a_pooler_the_service_does_what_it_does_without(
    start_service: MakeService,
    fresh_database_url: str,
    pooled: Pool,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", lines)  # pytest has put its own back since the fixture did
    api = start_service(database_url=pooled(fresh_database_url), log_level="WARNING", log_format="json")

    first = api.log_in()
    pair = api.refresh(first["refresh_token"]).json()

    assert api.http.get(HEALTH).status_code == 200
    assert api.me(pair["access_token"]).status_code == 200
    assert api.http.get("/api/v1/me/sessions", headers=bearer(pair["access_token"])).status_code == 200
    assert api.log_out(pair["access_token"]).status_code == 204
    assert api.operator.cleanup.prune() is not None
    refusals = len(lines.events("database.options_refused"))
    at_once(8, lambda _: api.log_in())  # on new connections
    assert 0 < refusals == len(lines.events("database.options_refused"))


@pytest.mark.parametrize("of_the_role", [False, True])
def test_behind_a_pooler_the_doctor_wants_timeouts_of_the_role(
    fresh_database_url: str, pooled: Pool, *, of_the_role: bool
) -> None:
    if of_the_role:
        url, engine = make_url(fresh_database_url), look_into(fresh_database_url)
        with engine.connect() as connection:
            for setting in ("statement_timeout = '5s'", "lock_timeout = '3s'"):
                order = f"ALTER ROLE {url.username} IN DATABASE {url.database} SET {setting}"
                connection.execute(text(order))
        engine.dispose()

    result = run_command(pooled(fresh_database_url), "doctor")

    (line,) = [line for line in result.stdout.splitlines() if line.split()[1] == "timeouts"]
    assert line.startswith("ok" if of_the_role else "fault")
    assert ("ALTER ROLE" in line) is not of_the_role
