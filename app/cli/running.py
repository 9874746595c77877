"""Shared by all commands: opens the container, reports errors in one line, prints results."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import typer
from pydantic_core import to_jsonable_python

from app.config import load_settings
from app.container import Container
from app.database.failures import DATABASE_ERRORS, describe
from app.errors import DatabaseUnavailable, NotFound, PasswordTooCommon, ServiceError
from app.security.emails import normalize_email
from app.services.accounts.profile import Account
from app.services.operations.audit import Client, Operator
from app.services.protection.password_policy import NewPassword
from app.telemetry.logs import configure_logging, printable

OPERATOR = Operator(Client(None, "app.cli"))

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
User = Annotated[str, typer.Argument(help="An email or an id.", metavar="USER")]
PasswordStdin = Annotated[bool, typer.Option(help="Read the password from standard input.")]
Force = Annotated[bool, typer.Option("--force", help="Take a password that is easy to guess.")]

T = TypeVar("T")


@contextmanager
def open_container() -> Iterator[Container]:
    """Turns service errors into SystemExit, with one line on stderr and status 1."""
    settings = load_settings()
    configure_logging(level="WARNING", json=settings.json_logs, stream=sys.stderr)
    container = Container(settings)
    try:
        yield container
    except DatabaseUnavailable as error:
        raise SystemExit(f"The database does not answer: {describe(error)}") from None
    except DATABASE_ERRORS as error:
        raise SystemExit(f"The database refuses: {describe(error)}") from None
    except NotFound:
        raise SystemExit("There is no such user, session, service or key.") from None
    except ServiceError as error:
        raise SystemExit(f"{error}.") from None
    finally:
        container.close()


def find_user(container: Container, user: str) -> Account:
    """`user` is an id or an email. Raises NotFound."""
    if user.isascii() and user.isdecimal():
        return container.admin.get(int(user))
    return container.admin.find(normalized(user))


def normalized(email: str) -> str:
    try:
        return normalize_email(email)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def ask_password(*, from_stdin: bool) -> str:
    """A password is never an argument, because other users could read it in the process list."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def choose(password: NewPassword, work: Callable[[NewPassword], T], *, force: bool) -> T:
    """With `force`, a password that is easy to guess is taken with a warning."""
    try:
        return work(password)
    except PasswordTooCommon as error:
        if not force:
            raise SystemExit(f"{error}. --force takes it nevertheless.") from None
        say(f"Warning: {error}.", err=True)
        return work(replace(password, may_be_common=True))


def show(data: Any, text: str, *, as_json: bool) -> None:
    say(json.dumps(data, default=_as_the_api_does) if as_json else text)


def _as_the_api_does(value: Any) -> Any:
    """Times in UTC end with Z."""
    return to_jsonable_python(value, fallback=str)


def one_line(text: str) -> str:
    """What an earlier version let in may have line breaks, which would look like lines of ours."""
    return printable(text).replace("\n", "\\u000a").replace("\t", "\\u0009")


def say(text: str, *, err: bool = False) -> None:
    """What comes from outside, such as a user agent, must not control the operator's terminal."""
    typer.echo(printable(text), err=err)
