"""How a database may be named: as libpq or another driver does it."""

import re
from typing import Annotated, Any, Final

import psycopg2
from psycopg2.extensions import parse_dsn
from pydantic import AfterValidator, SecretStr
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_DIALECT: Final[Any] = PGDialect_psycopg2()  # type: ignore[no-untyped-call] # the constructor is untyped
_SSL: Final = re.compile(r"(?<=[?&])ssl=([A-Za-z-]+)(?:&|$)")
_SSLMODES: Final = {"true": "require", "false": "disable"}
_LISTS: Final = ("host", "hostaddr", "port")
_SHAPE: Final = "looks like postgresql://user:password@host:5432/database"
_MAX_PORT: Final = 65535
_NOWHERE: Final = "/dev/null"  # no folder of sockets
_REFUSALS: Final = ("invalid ", "weak ", "definition of service ")  # libpq's words


def _postgres_url(value: SecretStr) -> SecretStr:
    url = parse_postgres_url(value.get_secret_value().strip())
    return SecretStr(url.render_as_string(hide_password=False))


def parse_postgres_url(text: str) -> URL:
    """A URL, for whichever driver it was written, or else libpq's own form (host=... dbname=...).

    Raises ValueError, without a word of the password.
    """
    spelled = re.fullmatch(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://(.*)", text, re.DOTALL)
    if not text or ("://" in text and not spelled):
        raise ValueError("must begin with postgresql://")
    try:
        url = _from_url(spelled[1]) if spelled else _from_libpq(text)
    except (ArgumentError, ValueError, psycopg2.ProgrammingError):
        raise ValueError(_SHAPE) from None
    url = _completed(url)
    _check_hosts(url)
    try:
        parameters = _DIALECT.create_connect_args(url)[1]
    except (ArgumentError, ValueError):
        raise ValueError(_SHAPE) from None
    _check_values(parameters)
    return url


def _from_url(rest: str) -> URL:
    """`ssl` is asyncpg's word for `sslmode`."""
    ssl, rest = _SSL.findall(rest), _SSL.sub("", rest)
    host = rest.partition("?")[0].rpartition("@")[2].partition("/")[0]
    is_libpqs = "," in host or "%" in host  # a socket's folder is escaped
    url = _from_libpq(f"postgresql://{rest}") if is_libpqs else make_url(f"postgresql+psycopg2://{rest}")
    if not ssl:
        return url
    mode = ssl[-1].lower()
    return url.update_query_dict({"sslmode": _SSLMODES.get(mode, mode)})


def _from_libpq(text: str) -> URL:
    """With all hosts in the query, as SQLAlchemy wants them."""
    parts = parse_dsn(text)
    user, password, name = (parts.pop(key, None) for key in ("user", "password", "dbname"))
    return URL.create("postgresql+psycopg2", user, password, database=name, query=parts)


def _completed(url: URL) -> URL:
    """As libpq reads it: of two values the last counts, a host may be an address alone, and share its port.

    SQLAlchemy has a form of its own for several hosts (host=h1:1&host=h2:2).
    """
    parts = {
        name: value if name in _LISTS or isinstance(value, str) else value[-1]
        for name, value in url.query.items()
    }
    if "hostaddr" in parts and not (url.host or "host" in parts):
        parts["host"] = parts.pop("hostaddr")
    if "port" in parts:
        lists = {name: _values(parts[name]) for name in _LISTS if name in parts}
        if len(lists["port"]) == 1:
            lists["port"] *= len(lists.get("host", ("",)))
        parts |= {name: ",".join(values) for name, values in lists.items()}
    return url.set(query=parts)


def _values(parameter: str | tuple[str, ...]) -> list[str]:
    """Of a list with commas, or of a parameter that is there several times."""
    return parameter.split(",") if isinstance(parameter, str) else list(parameter)


def _check_hosts(url: URL) -> None:
    hosts = len(_values(url.query.get("host", "")))
    for name in ("hostaddr", "port"):
        if name in url.query and (number := len(_values(url.query[name]))) != hosts:
            raise ValueError(f"{number} of {name} do not go with {hosts} of host")
    ports = [*_values(url.query.get("port", "")), "" if url.port is None else str(url.port)]
    if any(port and not (port.isdecimal() and 0 < int(port) <= _MAX_PORT) for port in ports):
        raise ValueError(f"a port is a number from 1 to {_MAX_PORT}")


def _check_values(parameters: dict[str, Any]) -> None:
    """libpq looks at all of them before it connects, here to a socket that cannot be."""
    nowhere = {"host": ",".join(_NOWHERE for _ in str(parameters.get("host", "")).split(",")), "hostaddr": ""}
    try:
        psycopg2.connect(**parameters | nowhere)
    except psycopg2.ProgrammingError as error:  # names a parameter that libpq does not know
        raise ValueError(str(error).strip().removeprefix("invalid dsn: ")) from None
    except psycopg2.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        if reason.startswith(_REFUSALS):
            raise ValueError(reason) from None


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
