from typing import Annotated
from uuid import UUID

import typer

from app.cli.running import OPERATOR, AsJson, User, find_user, open_container, show

commands = typer.Typer(no_args_is_help=True)


@commands.command("list")
def list_sessions(user: User, *, as_json: AsJson = False) -> None:
    """List a user's active sessions, most recently used first."""
    with open_container() as container:
        rows = container.session_admin.list_active(find_user(container, user).id)
    lines = (
        f"{row.id}  {row.last_used_at:%Y-%m-%d %H:%M}  {row.ip_address or '-'}  {row.user_agent or '-'}"
        for row in rows
    )
    show([row._asdict() for row in rows], "\n".join(lines) or "None.", as_json=as_json)


@commands.command("revoke")
def revoke_sessions(
    user: User,
    *,
    session: Annotated[UUID | None, typer.Option(help="Only this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """End a user's sessions."""
    with open_container() as container:
        number = container.session_admin.revoke(OPERATOR, find_user(container, user).id, session)
    show({"ended": number}, f"{number} sessions ended.", as_json=as_json)


@commands.command()
def prune(*, as_json: AsJson = False) -> None:
    """Delete expired sessions, revoked ones past their retention, and old audit events."""
    with open_container() as container:
        pruned = container.cleanup.prune()
    text = "Another process is already pruning."
    if pruned:
        text = f"{pruned.sessions} sessions and {pruned.audit_events} audit events deleted."
    show(pruned._asdict() if pruned else None, text, as_json=as_json)
