from typing import Annotated, Literal

import typer

from app.cli.running import OPERATOR, AsJson, one_line, open_container, show
from app.models.signing_keys import MAX_REASON
from app.services.keys.admin import KeyInfo

commands = typer.Typer(no_args_is_help=True)


def _line(key: KeyInfo) -> str:
    undecryptable = "" if key.can_sign else "  cannot be decrypted"
    reason = f"  {one_line(key.revoked_reason)}" if key.revoked_reason else ""
    return (
        f"{key.kid}  {key.algorithm}  {key.state:9}  {key.signs_from:%Y-%m-%d %H:%M}{undecryptable}{reason}"
    )


def _show(key: KeyInfo, *, as_json: bool) -> None:
    show(key._asdict(), _line(key), as_json=as_json)


@commands.command("list")
def list_keys(*, as_json: AsJson = False) -> None:
    """List all keys, with what they are for and since when they sign."""
    with open_container() as container:
        keys = container.key_admin.list()
    text = "\n".join(map(_line, keys)) or "None."
    show([key._asdict() for key in keys], text, as_json=as_json)


@commands.command("export")
def export_keys(*, as_json: AsJson = False) -> None:  # noqa: ARG001 — it is JSON already
    """Print the public keys, as /.well-known/jwks.json has them."""
    with open_container() as container:
        typer.echo(container.key_admin.key_set().body.decode())


@commands.command()
def prepare(*, algorithm: Literal["ES256", "RS256"] = "ES256", as_json: AsJson = False) -> None:
    """Publish a key before JWT_ALGORITHM changes, so that siblings know it by then."""
    with open_container() as container:
        key = container.key_admin.prepare(OPERATOR, algorithm)
    _show(key, as_json=as_json)


@commands.command()
def rotate(
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Sign with it at once, without publishing it first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the next key. It is published first, and signs once siblings know it."""
    with open_container() as container:
        key = container.key_admin.rotate(OPERATOR, at_once=now)
    _show(key, as_json=as_json)


@commands.command()
def revoke(
    kid: str,
    *,
    reason: Annotated[str, typer.Option(help=f"For the audit trail; {MAX_REASON} characters at most.")],
    as_json: AsJson = False,
) -> None:
    """Refuse a key's tokens within a minute. Sessions go on; if it was the one that signs, a new one does."""
    if not 0 < len(reason) <= MAX_REASON:
        raise typer.BadParameter(f"has 1 to {MAX_REASON} characters", param_hint="--reason")
    with open_container() as container:
        key = container.key_admin.revoke(OPERATOR, kid, reason)
    _show(key, as_json=as_json)


@commands.command()
def rewrap(*, as_json: AsJson = False) -> None:
    """Encrypt all keys with today's SECRET_KEY, once every worker has it. Then fallbacks can go, in time."""
    with open_container() as container:
        done = container.rewrapping.rewrap(OPERATOR)
    text = f"{done.rewrapped} keys encrypted anew, {len(done.undecryptable)} cannot be decrypted."
    show(done._asdict(), text, as_json=as_json)
    raise typer.Exit(bool(done.undecryptable))
