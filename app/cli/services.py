from typing import Annotated

import typer

from app.cli.running import OPERATOR, AsJson, open_container, show
from app.models.service_tokens import Scope

commands = typer.Typer(no_args_is_help=True)


def _scopes(text: str) -> list[Scope]:
    try:
        return [Scope(name) for name in text.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"scopes are {', '.join(Scope)}") from None


@commands.command("create")
def create_service(
    name: str,
    *,
    scopes: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(Scope)}.")],
    as_json: AsJson = False,
) -> None:
    """Create a token for a sibling service or a scraper, and print it once."""
    wanted = _scopes(scopes)
    if not wanted:
        raise typer.BadParameter(f"scopes are {', '.join(Scope)}")
    with open_container() as container:
        try:
            token, stored = container.service_tokens.create(OPERATOR, name, wanted)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    show(stored._asdict() | {"token": token}, token, as_json=as_json)


@commands.command("list")
def list_services(*, as_json: AsJson = False) -> None:
    """List service tokens, oldest first; the tokens themselves are not stored."""
    with open_container() as container:
        found = container.service_tokens.list()
    lines = (
        f"{each.id:>6}  {each.name:20}  {','.join(each.scopes):32}"
        f"  {'revoked' if each.revoked_at else 'active':8}"
        f"  last used {f'{each.last_used_at:%Y-%m-%d %H:%M}' if each.last_used_at else 'never'}"
        for each in found
    )
    show([each._asdict() for each in found], "\n".join(lines) or "None.", as_json=as_json)


@commands.command("revoke")
def revoke_service(
    service: Annotated[str, typer.Argument(help="An id, or a name with all its tokens.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Revoke service tokens, with immediate effect."""
    with open_container() as container:
        number = container.service_tokens.revoke(OPERATOR, service)
    show({"revoked": number}, f"{number} tokens revoked.", as_json=as_json)
