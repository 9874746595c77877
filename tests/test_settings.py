import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine

from app import devdb
from app.config import Settings, load_settings
from app.devdb import PROJECT
from tests.support import PATIENCE_SECONDS, SECRET_KEY, clean_environment, make_settings

BOOKS = "https://xn--bcher-kva.example"
URL = "postgresql://somebody:hidden-password@db:5432/auth"


@pytest.mark.parametrize(
    ("environment", "complaints"),
    [
        ({}, ["DATABASE_URL: is required and not set", "SECRET_KEY: is required and not set"]),
        ({"DATABASE_URL": URL, "SECRET_KEY": "short-secret"}, ["SECRET_KEY: needs at least 32 bytes"]),
        ({"DATABASE_URL": URL, "SECRET_KEY": ""}, ["SECRET_KEY: is required and not set"]),
        (
            {
                "DATABASE_URL": URL,
                "SECRET_KEY": SECRET_KEY,
                "SECRET_KEY_FALLBACKS": f"{SECRET_KEY.replace(' ', '-').replace(',', '')},short-secret",
                "JWT_SECRET": "short-secret",
            },
            ["SECRET_KEY_FALLBACKS: needs at least 32 bytes", "JWT_SECRET: needs at least 32 bytes"],
        ),
        (
            {"DATABASE_URL": "mysql://x", "SECRET_KEY": SECRET_KEY},
            ["DATABASE_URL: must begin with postgresql://"],
        ),
        (
            {
                "DATABASE_URL": "hidden-password",
                "SECRET_KEY": SECRET_KEY,
                "BCRYPT_ROUNDS": "many",
                "CORS_ORIGINS": "*",
                "ENVIRONMENT": "staging",
                "COOKIE_PREFIX": "__host-",
                "COOKIE_PATH_PREFIX": "auth; Domain=x",
            },
            [
                "DATABASE_URL: looks like",
                "BCRYPT_ROUNDS: ",
                "CORS_ORIGINS: ",
                "ENVIRONMENT: ",
                "COOKIE_PREFIX: Input should be",
                "COOKIE_PATH_PREFIX: looks like /auth",
            ],
        ),
    ],
)
def test_bad_settings_are_one_line_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], complaints: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as caught:
        load_settings()

    assert_complaints(str(caught.value), complaints)


@pytest.mark.parametrize(
    ("name", "weak", "complaint", "strong"),
    [
        ("SECRET_KEY", "a" * 64, "repeats itself", "0123456789abcdef" * 2),
        ("JWT_SECRET", "a" * 64, "repeats itself", "0123456789abcdef" * 2),
        ("SECRET_KEY_FALLBACKS", "ab" * 32, "repeats itself", "0123456789abcdef" * 2),
        ("SECRET_KEY", "0123456789abcdef", "needs at least 32 bytes", "0123456789abcdef" * 2),
        ("JWT_ALGORITHM", "HS512", "HS512 needs a secret of 64 bytes", "HS256"),
        ("JWT_ALGORITHM", "HS384", "HS384 needs a secret of 48 bytes", "HS256"),
        ("BCRYPT_ROUNDS", "9", "is at least 10 in production", "10"),
        ("PASSWORD_MIN_LENGTH", "7", "is at least 8 in production", "8"),
        ("METRICS_TOKEN", "x" * 15, "needs at least 16 characters", "x" * 16),
    ],
)
def test_production_refuses_what_is_weak(
    monkeypatch: pytest.MonkeyPatch, name: str, weak: str, complaint: str, strong: str
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)

    monkeypatch.setenv(name, weak)
    with pytest.raises(SystemExit) as caught:
        load_settings()
    monkeypatch.setenv(name, strong)
    load_settings()
    monkeypatch.setenv(name, weak)
    monkeypatch.setenv("ENVIRONMENT", "development")
    load_settings()

    assert_complaints(str(caught.value), [f"{name}: {complaint}"])


def test_production_takes_a_long_key_for_a_long_hash() -> None:
    settings = Settings(
        _env_file=None, database_url=URL, secret_key="0123456789abcdef" * 4, jwt_algorithm="HS512"
    )

    assert settings.jwt_algorithm == "HS512"


@pytest.mark.slow
@pytest.mark.process
def test_a_start_with_bad_settings_says_so_and_nothing_else(tmp_path: Path) -> None:
    """Loaded as uvicorn does, with this environment alone."""
    environment = {"DATABASE_URL": "hidden-password", "SECRET_KEY": "short-secret", "CORS_ORIGINS": "*"}

    result = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--app-dir", str(PROJECT), "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(**environment),
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_SECONDS,
    )

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    complaints = ["DATABASE_URL: looks like", "SECRET_KEY: needs at least 32 bytes", "CORS_ORIGINS: "]
    assert_complaints(result.stderr, complaints)


def assert_complaints(said: str, complaints: list[str]) -> None:
    first, *lines = said.strip().splitlines()
    assert first == "The settings are not usable:"
    assert len(lines) == len(complaints)
    for complaint in complaints:
        assert any(line.startswith(complaint) for line in lines), said
    assert "hidden-password" not in said
    assert "short-secret" not in said


def test_traces_without_their_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)

    with pytest.raises(ValidationError, match=r"tracing\.txt to be installed.*REQUIREMENTS=tracing"):
        make_settings(database_url=URL, otel_exporter_otlp_endpoint="http://collector:4318")
    assert make_settings(database_url=URL).otel_exporter_otlp_endpoint is None


def test_development_says_where_it_cannot_keep_its_own_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(devdb.secret_key, "__defaults__", (tmp_path / "file" / ".data",))
    monkeypatch.setenv("ENVIRONMENT", "development")
    monkeypatch.setenv("DATABASE_URL", URL)

    with pytest.raises(SystemExit, match=r"SECRET_KEY development makes its own: .*/file/\.data"):
        load_settings()


def test_production_is_the_default_environment() -> None:
    settings = Settings(_env_file=None, database_url=URL, secret_key=SECRET_KEY)

    assert settings.environment == "production"
    assert not settings.development
    assert settings.json_logs


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        ("https://a.example.com", ("https://a.example.com",)),
        ("https://a.example.com, http://localhost:5173/", ("https://a.example.com", "http://localhost:5173")),
        (
            '["https://a.example.com","https://B.example.com"]',
            ("https://a.example.com", "https://b.example.com"),
        ),
        ("https://a.example.com:443,http://a:80/", ("https://a.example.com", "http://a")),
        ("https://a.example.com:8443,https://a:80", ("https://a.example.com:8443", "https://a:80")),
        ("https://Bücher.example,http://straße.example:3000", (BOOKS, "http://xn--strae-oqa.example:3000")),
        ("http://[0:0::1]:5173,http://[::1]:80", ("http://[::1]:5173", "http://[::1]")),
    ],
)
def test_origins_are_a_list_however_it_is_written(given: str, origins: tuple[str, ...]) -> None:
    assert make_settings(database_url=URL, cors_origins=given).cors_origins == origins


def test_former_secret_keys_are_a_list_however_it_is_written() -> None:
    for given in ("one,two", "one two", '["one", "two"]'):
        settings = make_settings(database_url=URL, secret_key="new", secret_key_fallbacks=given)
        assert settings.secret_keys == ("new", "one", "two")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *((given, "looks like https://board.example.com") for given in ("*", "null", "board.example.com")),
        ("ftp://x", "looks like https://board.example.com or http://localhost:5173"),
        ("https://a.example.com/path", "without a path"),
        ("https://a.example.com?x", "without a path"),
        ("https://user@a.example.com", "user"),
        ("https://user:hidden@a.example.com", "user"),
        ("https://*.example.org", "* is not possible"),
        ("http://localhost:*", "* is not possible"),
        ("https://a.example.com:abc", "looks like https://board.example.com"),
        ("https://a.example.com:99999", "looks like https://board.example.com"),
        ("http://", "looks like https://board.example.com"),
        ("https:a.example.com", "looks like https://board.example.com"),
        ("https://a.example.com,http://", "looks like https://board.example.com"),
        ("[oops", "not a JSON list"),
    ],
)
def test_what_is_no_origin_is_refused(given: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(database_url=URL, cors_origins=given)

    assert reason in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("https://Board.example.com:443/api/", "https://board.example.com/api"),
        ("http://board:80", "http://board"),
        ("http://board:8080", "http://board:8080"),
        ("https://bücher.example/auth", f"{BOOKS}/auth"),
        ("http://[0:0::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_our_own_address_is_as_browsers_write_it(given: str, ours: str) -> None:
    settings = make_settings(database_url=URL, public_url=given, frontend_url=given)

    assert (settings.public_url, settings.frontend_url) == (ours, ours)
    assert settings.trusted_origins == ("/".join(ours.split("/")[:3]),)


@pytest.mark.parametrize(
    "given", ["board.example.com", "https://a:abc", "https://u@a", "https://*.a", "https://a/b?c", "https://"]
)
def test_what_is_no_address_of_ours_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match=r"looks like https://board\.example\.com, or with a path"):
        make_settings(database_url=URL, public_url=given)


@pytest.mark.parametrize(
    "given",
    [
        *("postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg2://u@h/d", " postgresql://u@h/d\n"),
        *("postgresql+asyncpg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_every_spelling_of_a_postgres_url_uses_psycopg2(given: str) -> None:
    settings = make_settings(database_url=given)

    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://u@h/d"


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ("postgresql://u:p,w@h/d", {"host": "h", "dbname": "d", "user": "u", "password": "p,w"}),
        (
            "postgresql+asyncpg://u:p%40w@h1,h2:5433/d?target_session_attrs=read-write",
            {
                "host": "h1,h2",
                "port": ",5433",
                "dbname": "d",
                "user": "u",
                "password": "p@w",
                "target_session_attrs": "read-write",
            },
        ),
        ("postgresql://h1:1,[::1]:2/d", {"host": "h1,::1", "port": "1,2", "dbname": "d"}),
        (
            "postgresql+asyncpg://u@/d?host=h1:1&host=h2:2",
            {"host": "h1,h2", "port": "1,2", "dbname": "d", "user": "u"},
        ),
        ("host=h1,h2 port=7 dbname='d e'", {"host": "h1,h2", "port": "7,7", "dbname": "d e"}),
        ("postgresql+asyncpg://h/d?ssl=require", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("postgresql+asyncpg://h/d?ssl=true", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("postgresql://h/d?ssl=False", {"host": "h", "dbname": "d", "sslmode": "disable"}),
        ("postgresql://h/d?sslmode=allow&ssl=prefer", {"host": "h", "dbname": "d", "sslmode": "prefer"}),
        (
            "postgresql+asyncpg://u:p@h1,h2/d?ssl=require&connect_timeout=5",
            {"host": "h1,h2", "port": ",", "dbname": "d", "user": "u", "password": "p"}
            | {"sslmode": "require", "connect_timeout": "5"},
        ),
        ("postgresql://u@%2Frun%2Fa%20b/d", {"host": "/run/a b", "dbname": "d", "user": "u"}),
        (
            "postgresql://u:%2F@%2frun:5433/d",
            {"host": "/run", "port": "5433", "dbname": "d"} | {"user": "u", "password": "/"},
        ),
        ("postgresql://u@%2Frun,h2/d", {"host": "/run,h2", "port": ",", "dbname": "d", "user": "u"}),
        ("postgresql://u@/d?host=%2Frun", {"host": "/run", "dbname": "d", "user": "u"}),
        (
            "postgresql://h/d?sslmode=allow&target_session_attrs=any&target_session_attrs=read-write",
            {"host": "h", "dbname": "d", "sslmode": "allow", "target_session_attrs": "read-write"},
        ),
        ("postgresql://h/d?ssl=require&ssl=false", {"host": "h", "dbname": "d", "sslmode": "disable"}),
        ("postgresql://h/d?gssencmode=require", {"host": "h", "dbname": "d", "gssencmode": "require"}),
        ("postgresql://h/d?host=a&host=b&port=1&port=2", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql://u@/d?host=a,b&port=7", {"host": "a,b", "port": "7,7", "dbname": "d", "user": "u"}),
        ("hostaddr=::1 port=7 dbname=d", {"host": "::1", "port": "7", "dbname": "d"}),
        ("hostaddr=127.0.0.1,::1 port=7 dbname=d", {"host": "127.0.0.1,::1", "port": "7,7", "dbname": "d"}),
        ("postgresql://:7/d?hostaddr=::1", {"host": "::1", "port": 7, "dbname": "d"}),
        (
            "host=a,b hostaddr=127.0.0.1,::1 dbname=d",
            {"host": "a,b", "port": ",", "hostaddr": "127.0.0.1,::1", "dbname": "d"},
        ),
    ],
)
def test_a_database_is_named_as_libpq_or_another_driver_names_it(
    given: str, parameters: dict[str, str]
) -> None:
    engine = create_engine(make_settings(database_url=given).database_url.get_secret_value())

    assert engine.dialect.create_connect_args(engine.url)[1] == parameters


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("postgresql://u:hidden@h/d?schema=public", 'invalid connection option "schema"'),
        ("postgresql://u:hidden@h:port/d", "looks like postgresql://"),
        ("postgresql://u:hidden/x@h1,h2/d", "a port is a number from 1 to 65535"),
        ("postgresql://u:hidden@h:65536/d", "a port is a number from 1 to 65535"),
        ("postgresql://u:hidden@h1:0,h2/d", "a port is a number from 1 to 65535"),
        ("host=h1,h2 port=1,2,3 password=hidden", "3 of port do not go with 2 of host"),
        ("host=h1,h2,h3 port=1,2 password=hidden", "2 of port do not go with 3 of host"),
        ("host=h1,h2 hostaddr=::1 password=hidden", "1 of hostaddr do not go with 2 of host"),
        ("postgresql://u:hidden@h/d?target_session_attrs=foo", 'invalid target_session_attrs value: "foo"'),
        ("postgresql://u:hidden@h1,h2/d?sslmode=on", 'invalid sslmode value: "on"'),
        ("service=nobodys password=hidden", 'definition of service "nobodys" not found'),
        ("postgresql://u:hidden%@h1,h2/d", "looks like postgresql://"),
        ("hidden", "looks like postgresql://"),
        (" ", "must begin with postgresql://"),
    ],
)
def test_a_database_that_cannot_be_meant_is_refused_without_its_password(given: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(database_url=given)

    assert reason in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"secret_key": "-----BEGIN PRIVATE KEY-----" + "x" * 32},
        {"secret_key": "a-long-ssh-rsa-flavoured-secret-of-ours"},
        {"jwt_secret": "-----BEGIN PUBLIC KEY-----" + "x" * 32},
        {"secret_key_fallbacks": "-----BEGIN-PUBLIC-KEY-----"},
        {"log_level": "LOUD"},
        {"web_concurrency": 0},
        {"jwt_algorithm": "none"},
        {"bcrypt_rounds": 3},
    ],
)
def test_unusable_values_of_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_settings(database_url=URL, **values)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        make_settings(database_url=URL).bcrypt_rounds = 4  # type: ignore[misc] # that is the point


def test_settings_print_no_secret() -> None:
    printed = repr(make_settings(database_url=URL))

    assert "hidden-password" not in printed
    assert SECRET_KEY not in printed


def test_a_dotenv_file_is_read_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        f"DATABASE_URL={URL}\nSECRET_KEY={SECRET_KEY}\nBCRYPT_ROUNDS=10\nLOG_LEVEL=debug\nUNKNOWN=1\n",
        encoding="utf-8-sig",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BCRYPT_ROUNDS", "11")

    settings = load_settings()

    assert (settings.bcrypt_rounds, settings.log_level) == (11, "DEBUG")


def test_a_setting_can_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text(f"{SECRET_KEY}\r\n", encoding="utf-8-sig")
    Path("url").write_text(f"{URL}\n", encoding="utf-8")
    Path(".env").write_text(f"DATABASE_URL_FILE=url\nJWT_ISSUER_FILE=/nowhere\nSECRET_KEY={'x' * 40}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", "key")
    monkeypatch.setenv("JWT_ISSUER_FILE", "")

    with pytest.raises(SystemExit) as missing:
        load_settings()
    Path(".env").write_text("DATABASE_URL_FILE=url\nSECRET_KEY=less than the environment\n")
    settings = load_settings()

    assert "JWT_ISSUER_FILE: cannot read /nowhere: No such file or directory" in str(missing.value)
    assert settings.secret_key.get_secret_value() == SECRET_KEY
    assert settings.database_url.get_secret_value() == URL.replace(":", "+psycopg2:", 1)


def test_files_of_settings_that_are_not_usable_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n", encoding="utf-8")
    Path("bytes").write_bytes(b"\xff" * 40)
    for name, value in {
        "DATABASE_URL": URL,
        "DATABASE_URL_FILE": "empty",
        "SECRET_KEY_FILE": "empty",
        "JWT_SECRET_FILE": "bytes",
        "METRICS_TOKEN_FILE": ".",
    }.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as refused:
        load_settings()

    assert str(refused.value).splitlines() == [
        "The settings are not usable:",
        "DATABASE_URL_FILE: DATABASE_URL is set, too",
        "SECRET_KEY_FILE: empty is empty",
        "JWT_SECRET_FILE: bytes is not in UTF-8",
        "METRICS_TOKEN_FILE: cannot read .: Is a directory",
    ]


def test_the_example_of_a_dotenv_file_names_every_setting_with_its_default_and_why() -> None:
    lines = (PROJECT / ".env.example").read_text(encoding="utf-8").splitlines()
    documented = {}
    for line, before in zip(lines[1:], lines, strict=False):
        if match := re.fullmatch(r"#? ?([A-Z_]+)=(.*)", line):
            assert before.startswith("# "), f"{match[1]} lacks its line of why"
            documented[match[1].lower()] = match[2]

    assert set(documented) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if name == "environment":
            assert documented[name] == "development"  # what the example is for; the default is production
        elif field.is_required() or field.default in (None, ()):
            assert documented[name] == ""
        else:
            assert documented[name] == str(field.default).lower() or documented[name] == str(field.default)


def test_the_example_of_a_dotenv_file_is_usable_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = PROJECT / ".env.example"
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.chdir(tmp_path)

    settings = Settings(_env_file=example)

    assert settings.development
