"""Accounts from elsewhere."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
from sqlalchemy import Engine, event, text

from tests.support import NOWHERE, PASSWORD, MakeDatabase, MakeService, look_into, patient
from tests.support.commands import Ended, run_command

RunCommand = Callable[..., Ended]


@pytest.fixture
def run(fresh_database_url: str) -> RunCommand:
    """Runs commands on the fresh database."""
    return partial(run_command, fresh_database_url)


HASH = "$2b$04$SWlt4H7Dn6Pjeu2KRCFm7.YbHTAwUfkhpBvwpaujr8CBWp2SFhMnW"


def write(path: Path, *rows: str, header: str = "email,hashed_password,role") -> str:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def table(*rows: str, header: str = "email,hashed_password") -> bytes:
    return "\n".join([header, *rows, ""]).replace("HASH", HASH).encode()


def test_imported_users_log_in_with_their_passwords(
    run: RunCommand, fresh_database_url: str, start_service: MakeService, tmp_path: Path
) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    file = write(tmp_path / "users.csv", f"Ada@Example.com,{hashed},admin", f"bob@example.com,{hashed},user")

    result = run("users", "import", file, "--json")

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"imported": 2, "skipped": []}
    api = start_service(database_url=fresh_database_url)
    assert {api.token(email).status_code for email in ("ada@example.com", "bob@example.com")} == {200}


def test_an_import_is_all_or_nothing_unless_told_otherwise(run: RunCommand, tmp_path: Path) -> None:
    file = write(
        tmp_path / "users.csv",
        f"ada@example.com,{HASH},user",
        f"no email,{HASH},user",
        "bob@example.com,plain text,user",
        f"eve@example.com,{HASH},root",
        f"ADA@example.com,{HASH},user",
        f"dan@example.com,{HASH[:-5]},user",
        "short@example.com",
        f"tom@example.com,{HASH},guest",
    )

    refused = run("users", "import", file, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["imported"] == 0
    assert run("users", "list").stdout == ""
    kept = run("users", "import", file, "--keep-going")

    assert kept.returncode == 1
    assert kept.stdout == "2 users imported, 6 rows skipped.\n"
    reported = json.loads(refused.stdout)["skipped"]
    assert sorted(each["line"] for each in reported) == [3, 4, 5, 6, 7, 8]
    assert all(f"line {each['line']}: " in kept.stderr for each in reported)
    assert {each["line"]: each["reason"] for each in reported}[6] == "registered, or in an earlier row"
    assert "plain text" not in kept.stdout + kept.stderr
    names = {line.split()[-1] for line in run("users", "list").stdout.splitlines()}
    assert names == {"ada@example.com", "tom@example.com"}


def test_an_import_refuses_hashes_that_would_keep_a_core_busy(run: RunCommand, tmp_path: Path) -> None:
    """A login with one of cost 17 takes seconds, with one of cost 31 a day."""
    hashes = {cost: HASH.replace("$04$", f"${cost:02}$") for cost in (3, 4, 12, 13, 17, 31)}
    rows = [f"cost{cost}@example.com,{hashed},user" for cost, hashed in hashes.items()]

    result = run("users", "import", write(tmp_path / "users.csv", *rows), "--keep-going")

    assert result.returncode == 1
    assert result.stdout == "2 users imported, 4 rows skipped.\n"
    assert "line 2: cost3@example.com: hashed_password is no bcrypt hash\n" in result.stderr
    for line, cost in ((5, 13), (6, 17), (7, 31)):
        reason = f"hashed_password has the cost {cost}, and 12 is the highest"
        assert f"line {line}: cost{cost}@example.com: {reason}\n" in result.stderr


def test_a_file_may_come_from_a_spreadsheet(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_bytes(
        f"\ufeffemail , role\t, hashed_password\r\na@b.example, user, {HASH}\r\n".encode()
    )

    result = run("users", "import", str(tmp_path / "users.csv"))

    assert (result.returncode, result.stdout) == (0, "1 user imported, 0 rows skipped.\n"), result.stderr


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "users.csv, first line, separated by commas: no column email, hashed_password"),
        (
            b"email,role\na@b.c,user\n",
            "users.csv, first line, separated by commas: no column hashed_password",
        ),
        (b"email,hashed_password\n\xff\xfe@example.com,x\n", "users.csv, line 2: is not in UTF-8"),
        (b"\xff\xfee\0m\0a\0i\0l\0", "users.csv, line 1: is not in UTF-8"),
        (b"email,hashed_password\n" + b"a@b.c,\n" * 9999 + b"\xe4@b.c,\n", "users.csv, line 10001: is not"),
        (table('"ada@example.com,HASH', *["bob@example.com,HASH"] * 20), "line 2: a quote is not closed; n"),
        (table('"ada@example.com,HASH', '"bob@example.com","HASH"'), "line 2: a quote is not closed; n"),
        (table("bob@example.com,HASH", '"ada@example.com,HASH', '"'), "line 3: a quote is not closed; n"),
        (table('"ada"@example.com,HASH'), "line 2: a quote ends before its field does; o"),
        (b'"email,hashed_password\n' + b"a@b.c,\n", "users.csv, line 1: a quote is not closed; nothing was"),
        (table("x" * 131_073 + ",HASH"), "users.csv, line 2: field larger than field limit (131072); "),
        (table("a@example.com,HASH", header="a@example.com,HASH"), "unknown column 'a@example.com', '…'"),
    ],
)
def test_an_import_of_a_file_that_is_no_such_table_is_refused(
    database_url: str, tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "users.csv").write_bytes(content)

    result = run_command(database_url, "users", "import", str(tmp_path / "users.csv"), "--keep-going")

    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert HASH[:7] not in result.stderr


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (f'"ada@example.com,{HASH}","{HASH}"', "ada@example.com,…"),
        (f"{HASH},ada@example.com", "…"),
        (f"{'x' * 5000},{HASH}", f"{'x' * 63}…"),
        (f'"ada\x1b[2J\x85@example.com",{HASH}', "ada [2J @example.com"),
    ],
)
def test_what_is_reported_of_an_email_is_short_and_no_hash(
    database_url: str, tmp_path: Path, row: str, shown: str
) -> None:
    file = write(tmp_path / "users.csv", row, header="email,hashed_password")

    for options in ((), ("--json",)):
        result = run_command(database_url, "users", "import", file, *options)
        assert result.returncode == 1
        assert HASH[:7] not in result.stdout + result.stderr
    assert [each["email"] for each in json.loads(result.stdout)["skipped"]] == [shown]


def test_a_quote_that_is_not_closed_imports_no_line_before_it(run: RunCommand, tmp_path: Path) -> None:
    rows = [f"user{number}@example.com,{HASH},user" for number in range(1500)]

    result = run("users", "import", write(tmp_path / "users.csv", *rows, f'"ada,{HASH}'), "--keep-going")

    assert "line 1502: a quote is not closed; nothing was imported" in result.stderr
    assert run("users", "list").stdout == ""


@pytest.mark.slow
def test_ten_thousand_users_are_imported(run: RunCommand, tmp_path: Path) -> None:
    rows = [f"user{number}@example.com,{HASH},user" for number in range(10_000)]
    file = write(tmp_path / "users.csv", *rows)

    result = run("users", "import", file)

    assert result.stdout == "10000 users imported, 0 rows skipped.\n"


def test_an_import_takes_a_few_statements_however_many_rows(run: RunCommand, tmp_path: Path) -> None:
    """So that ten thousand are a matter of seconds."""
    statements: list[str] = []
    command = threading.get_ident()

    def note(*arguments: Any) -> None:
        if threading.get_ident() == command:  # services of other tests may be at work
            statements.append(arguments[2])

    file = write(tmp_path / "users.csv", *(f"user{n}@example.com,{HASH},user" for n in range(1000)))
    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert run("users", "import", file).returncode == 0
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    assert 0 < len(statements) < 20


def test_imported_users_keep_their_ids_and_later_ones_get_higher_ones(
    run: RunCommand, fresh_database_url: str, start_service: MakeService, tmp_path: Path
) -> None:
    """Tables of sibling services refer to the ids."""
    header = "id,email,hashed_password,role,created_at,is_active"
    file = write(
        tmp_path / "users.csv",
        f"4711,ada@example.com,{HASH},admin,2020-02-29 10:00:00+02,true",
        f"7,bob@example.com,{HASH},user,2021-01-01T00:00:00,f",
        header=header,
    )

    result = run("users", "import", file)

    assert (result.returncode, result.stdout) == (0, "2 users imported, 0 rows skipped.\n"), result.stderr
    bob, ada = map(json.loads, (run("users", "list", "--json", "--q", name).stdout for name in "ba"))
    assert (ada[0]["id"], ada[0]["created_at"]) == (4711, "2020-02-29T08:00:00Z")
    assert (bob[0]["id"], bob[0]["created_at"], bob[0]["is_active"]) == (7, "2021-01-01T00:00:00Z", False)
    api = start_service(database_url=fresh_database_url)
    assert api.register().json()["id"] == 4712
    below = write(tmp_path / "below.csv", f"12,eve@example.com,{HASH}", header="id,email,hashed_password")
    assert run("users", "import", below).returncode == 0
    assert api.register().json()["id"] == 4713


def test_an_id_that_is_taken_is_an_error(run: RunCommand, tmp_path: Path) -> None:
    header = "id,email,hashed_password"
    first = write(tmp_path / "first.csv", f"5,ada@example.com,{HASH}", header=header)
    assert run("users", "import", first).returncode == 0
    rows = (f"5,bob@example.com,{HASH}", f"6,eve@example.com,{HASH}", f"6,tom@example.com,{HASH}")

    result = run("users", "import", write(tmp_path / "second.csv", *rows, header=header))

    assert (result.returncode, result.stdout) == (1, "0 users imported, 2 rows skipped.\n")
    assert "line 2: bob@example.com: the id 5 is taken, or in an earlier row\n" in result.stderr
    assert "line 4: tom@example.com: the id 6 is taken, or in an earlier row\n" in result.stderr


def test_who_registers_during_an_import_gets_none_of_its_ids(
    run: RunCommand, fresh_database_url: str, start_service: MakeService, tmp_path: Path
) -> None:
    api = start_service(database_url=patient(fresh_database_url))
    rows = (f"{number},imported{number}@example.com,{HASH}" for number in range(1, 2001))
    registrations: list[Future[httpx.Response]] = []

    def register_once(*arguments: Any) -> None:
        if "INSERT INTO users" in arguments[2] and not registrations:
            registrations.append(pool.submit(api.register))

    file = write(tmp_path / "users.csv", *rows, header="id,email,hashed_password")
    with ThreadPoolExecutor(1) as pool:
        event.listen(Engine, "before_cursor_execute", register_once)
        try:
            result = run("users", "import", file)
        finally:
            event.remove(Engine, "before_cursor_execute", register_once)

    assert result.returncode == 0, result.stderr
    assert registrations[0].result().json()["id"] == 2001


def test_an_imported_email_is_verified_unless_the_file_says_otherwise(
    run: RunCommand, fresh_database: Engine, tmp_path: Path
) -> None:
    header = "email,hashed_password,email_verified"
    says = write(tmp_path / "1.csv", f"ada@b.example,{HASH},f", f"bob@b.example,{HASH},t", header=header)
    silent = write(tmp_path / "2.csv", "eve@b.example,", header="email,hashed_password")
    assert [run("users", "import", file).returncode for file in (says, silent)] == [0, 0]

    with fresh_database.connect() as connection:
        query = text("SELECT email, email_verified_at IS NOT NULL, hashed_password IS NULL FROM users")
        found = {email: (verified, empty) for email, verified, empty in connection.execute(query)}
    assert found == {
        "ada@b.example": (False, False),
        "bob@b.example": (True, False),
        "eve@b.example": (True, True),
    }


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("id", "0", "id is no whole number"),
        ("id", "-1", "id is no whole number"),
        ("id", "1.0", "id is no whole number"),
        ("id", "٣", "id is no whole number"),
        ("id", "", "id is no whole number"),
        ("id", "9223372036854775808", "id is no whole number"),
        ("id", "9" * 5000, "id is no whole number"),
        ("created_at", "yesterday", "created_at is no time"),
        ("created_at", "", "created_at is no time"),
        ("created_at", "2999-01-01", "created_at is before 1970 or in the future"),
        ("created_at", "0001-01-01T00:00:00+14:00", "created_at is before 1970 or in the future"),
        ("is_active", "", "is_active is neither true nor false"),
        ("is_active", "maybe", "is_active is neither true nor false"),
        ("email_verified", "", "email_verified is neither true nor false"),
        ("role", "", "role is none of user, admin, guest"),
    ],
)
def test_a_value_that_is_not_usable_is_named(
    database_url: str, tmp_path: Path, column: str, value: str, reason: str
) -> None:
    file = write(
        tmp_path / "users.csv", f"ada@example.com,{HASH},{value}", header=f"email,hashed_password,{column}"
    )

    result = run_command(database_url, "users", "import", file)

    assert result.returncode == 1
    assert f"line 2: ada@example.com: {reason}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_row_that_is_longer_than_the_first_line_is_no_user(database_url: str, tmp_path: Path) -> None:
    """Such as one with a hash of passlib's without quotes, which has commas in it."""
    result = run_command(
        database_url, "users", "import", write(tmp_path / "users.csv", f"ada@example.com,{HASH},user,7")
    )

    assert "has more fields than the first line" in result.stderr


def test_a_row_that_is_shorter_than_the_first_line_is_no_user_without_a_password(
    run: RunCommand, tmp_path: Path
) -> None:
    rows = ("ada@example.com", "bob@example.com,")

    result = run(
        "users",
        "import",
        write(tmp_path / "users.csv", *rows, header="email,hashed_password"),
        "--keep-going",
    )

    assert result.stdout == "1 user imported, 1 row skipped.\n"
    assert result.stderr.endswith("line 2: ada@example.com: has fewer fields than the first line\n")


def test_emails_of_private_networks_move_in_and_log_in(
    run: RunCommand, fresh_database_url: str, start_service: MakeService, tmp_path: Path
) -> None:
    """Many a board has an admin@board.local; strangers still open no such account."""
    domains = ("board.local", "localhost", "pc.localhost", "nas.home.arpa", "x.invalid")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    rows = (f"Ada@{domain.upper()},{hashed}" for domain in domains)
    file = write(tmp_path / "users.csv", *rows, header="email,hashed_password")
    guests = [{"email": f"guest@{domain}", "role": "guest", "password": "guest"} for domain in domains]

    result = run("users", "import", file)

    assert result.returncode == 0, result.stderr
    api = start_service(database_url=fresh_database_url, bootstrap_users=json.dumps(guests))
    for domain in domains:
        assert api.token(f"ada@{domain}").status_code == 200
        assert api.token(f"guest@{domain}", "guest").status_code == 200
        assert api.register(f"eve@{domain}").status_code == 400


def test_a_dry_run_imports_nothing(
    run: RunCommand, fresh_database_url: str, start_service: MakeService, tmp_path: Path
) -> None:
    file = write(tmp_path / "users.csv", f"99,ada@example.com,{HASH}", header="id,email,hashed_password")

    result = run("users", "import", file, "--dry-run")

    assert (result.returncode, result.stdout) == (0, "1 user would be imported, 0 rows skipped.\n")
    assert run("users", "list").stdout == ""
    assert start_service(database_url=fresh_database_url).register().json()["id"] < 99


@pytest.fixture
def django(make_database: MakeDatabase) -> str:
    """The URL of a database with users of another project."""
    url = make_database()
    engine = look_into(url)
    with engine.connect() as connection:
        for statement in (
            "CREATE SCHEMA app",
            """CREATE TABLE app."user" (pk int, mail text, "Password" bytea, active bool,
                joined timestamptz, superuser bool)""",
            f"""INSERT INTO app."user" VALUES
                (30, 'Ada@example.com', '{HASH}'::text::bytea, true, '2020-02-29 10:00+02', true),
                (31, 'bob@example.com', '{HASH}'::text::bytea, false, '2020-02-29 10:00+02', false)""",
            """CREATE VIEW moving AS
                SELECT *, CASE WHEN superuser THEN 'admin' ELSE 'user' END AS role FROM app."user" """,
        ):
            connection.execute(text(statement))
    engine.dispose()
    return url


MAP = "id=pk,email=mail,hashed_password=Password,is_active=active,created_at=joined"


def test_users_are_copied_from_another_database(run: RunCommand, django: str) -> None:
    copy = ("migrate-from", "--url", django.replace("+psycopg2", "+asyncpg"))

    tried = run(*copy, "--table", "app.user", "--map", MAP, "--dry-run")
    assert (tried.returncode, tried.stdout) == (0, "2 users would be imported, 0 rows skipped.\n")
    assert run("users", "list").stdout == ""
    result = run(*copy, "--table", "moving", "--map", f"{MAP},role=role")

    assert (result.returncode, result.stdout) == (0, "2 users imported, 0 rows skipped.\n"), result.stderr
    ada, bob = json.loads(run("users", "list", "--json").stdout)
    assert ada == {
        "id": 30,
        "email": "ada@example.com",
        "role": "admin",
        "is_active": True,
        "created_at": "2020-02-29T08:00:00Z",
        "email_verified": True,
    }
    assert (bob["id"], bob["role"], bob["is_active"]) == (31, "user", False)
    again = run(*copy, "--table", "app.user", "--map", MAP, "--keep-going")
    assert (again.returncode, again.stdout) == (1, "0 users imported, 2 rows skipped.\n")
    assert "row 2: bob@example.com: registered, or in an earlier row\n" in again.stderr


@pytest.mark.parametrize(
    ("time", "kind"),
    [
        ("infinity", "timestamptz"),
        ("-infinity", "timestamp"),
        ("12000-01-01", "timestamptz"),
        ("0044-03-15 BC", "timestamp"),
        ("infinity", "date"),
        ("294276-12-31", "timestamptz"),
    ],
)
def test_a_time_that_python_cannot_hold_is_an_error_of_its_row(
    run: RunCommand, django: str, time: str, kind: str
) -> None:
    engine = look_into(django)
    with engine.connect() as connection:
        connection.execute(text(f"ALTER TABLE app.\"user\" ADD at {kind} DEFAULT '2020-02-29 10:00:00.25'"))
        connection.execute(text('UPDATE app."user" SET at = :time WHERE pk = 31'), {"time": time})
    engine.dispose()
    columns = "id=pk,email=mail,hashed_password=Password,created_at=at"
    copy = ("migrate-from", "--url", django, "--table", "app.user", "--map", columns)

    tried, copied = run(*copy, "--dry-run", "--keep-going"), run(*copy, "--keep-going")

    assert tried.stdout == "1 user would be imported, 1 row skipped.\n", tried.stderr
    assert copied.stdout == "1 user imported, 1 row skipped.\n"
    for result in (tried, copied):
        assert result.returncode == 1
        assert "row 2: bob@example.com: created_at is no time like" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--map", f"{MAP},email=other"], "a column of ours is there twice"),
        (["--map", "email=mail"], "no column hashed_password"),
        (["--map", f"{MAP},name=name"], "unknown column 'name'"),
        (["--map", "email,hashed_password"], "looks like email=mail"),
        (["--map", MAP, "--url", "mysql://u:hidden@h/d"], "must begin with postgresql://"),
        (["--map", MAP, "--url", NOWHERE], "The other database: "),
        (["--map", MAP, "--table", "nothing"], 'relation "nothing" does not exist'),
        (["--map", f"{MAP},role=rôle", "--table", "app.user"], "does not exist"),
    ],
)
def test_a_copy_that_cannot_be_made_says_why(
    database_url: str, django: str, arguments: list[str], word: str
) -> None:
    result = run_command(database_url, "migrate-from", *arguments, MIGRATE_FROM_URL=django)

    assert result.returncode in (1, 2)
    assert word in " ".join(result.stderr.replace("│", "").split())
    assert "hidden" not in result.stderr
    assert "Traceback" not in result.stderr
