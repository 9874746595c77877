from typing import Annotated

import typer

from app.cli.imports import import_users
from app.cli.running import (
    OPERATOR,
    AsJson,
    Force,
    PasswordStdin,
    User,
    ask_password,
    choose,
    find_user,
    normalized,
    open_container,
    show,
)
from app.models.users import Role
from app.services.accounts.admin import UserFilter
from app.services.accounts.profile import Account
from app.services.protection.password_policy import NewPassword

_PAGE = 1000

commands = typer.Typer(no_args_is_help=True)


def _show(account: Account, *, as_json: bool) -> None:
    state = "active" if account.is_active else "disabled"
    line = f"{account.id:>8}  {account.role:5}  {state:8}  {account.created_at:%Y-%m-%d}  {account.email}"
    show(account._asdict(), line, as_json=as_json)


@commands.command("create")
def create_user(
    email: str,
    *,
    role: Role = Role.USER,
    password_stdin: PasswordStdin = False,
    invite: Annotated[
        bool, typer.Option("--invite", help="Mail them a link to choose the password.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Create an account, such as the first admin's."""
    if invite and (password_stdin or force):
        raise typer.BadParameter("goes with no password", param_hint="--invite")
    with open_container() as container:
        address = normalized(email)
        if invite:
            _show(container.admin.invite(OPERATOR, address, role), as_json=as_json)
            return
        password = NewPassword(ask_password(from_stdin=password_stdin), address)
        account = choose(password, lambda it: container.admin.create(OPERATOR, it, role), force=force)
    _show(account, as_json=as_json)


@commands.command("list")
def list_users(
    *,
    q: Annotated[str | None, typer.Option(help="Prefix of the email.")] = None,
    role: Role | None = None,
    active: Annotated[bool | None, typer.Option("--active/--disabled")] = None,
    as_json: AsJson = False,
) -> None:
    """List users in the order of their ids."""
    filters, after, comma = UserFilter(q, role, active), 0, "["
    with open_container() as container:
        while page := container.admin.list(filters, after=after, limit=_PAGE):
            for account in page:
                typer.echo(comma if as_json else "", nl=False)
                _show(account, as_json=as_json)
                comma = ","
            after = page[-1].id
    if as_json:
        typer.echo("[]" if comma == "[" else "]")


@commands.command("set-role")
def set_role(user: User, role: Role, *, as_json: AsJson = False) -> None:
    """Change a user's role; their next access token contains it."""
    with open_container() as container:
        account = container.admin.change(OPERATOR, find_user(container, user).id, role=role)
    _show(account, as_json=as_json)


@commands.command("disable")
def disable(user: User, *, as_json: AsJson = False) -> None:
    """End a user's sessions, and refuse new ones."""
    with open_container() as container:
        account = container.admin.change(OPERATOR, find_user(container, user).id, is_active=False)
    _show(account, as_json=as_json)


@commands.command("enable")
def enable(user: User, *, as_json: AsJson = False) -> None:
    """Let a user log in again."""
    with open_container() as container:
        account = container.admin.change(OPERATOR, find_user(container, user).id, is_active=True)
    _show(account, as_json=as_json)


@commands.command("set-password")
def set_password(
    user: User, *, password_stdin: PasswordStdin = False, force: Force = False, as_json: AsJson = False
) -> None:
    """Set a new password for a user, and end all their sessions."""
    with open_container() as container:
        account = find_user(container, user)
        password = NewPassword(ask_password(from_stdin=password_stdin), account.email)
        choose(password, lambda it: container.password_change.set(OPERATOR, account.id, it), force=force)
    _show(account, as_json=as_json)


@commands.command("reset-password")
def reset_password(user: User, *, as_json: AsJson = False) -> None:
    """Mail a user a link to choose a new password, good for 30 minutes."""
    with open_container() as container:
        account = find_user(container, user)
        container.password_recovery.start(OPERATOR, account)
    _show(account, as_json=as_json)


@commands.command("unlock")
def unlock(user: User, *, as_json: AsJson = False) -> None:
    """Let a user try again at once, after too many failed logins."""
    with open_container() as container:
        account = find_user(container, user)
        container.unlocking.unlock(OPERATOR, account)
    _show(account, as_json=as_json)


@commands.command("delete")
def delete_user(
    user: User, *, yes: Annotated[bool, typer.Option(help="Do not ask.")] = False, as_json: AsJson = False
) -> None:
    """Delete a user and their sessions for good."""
    with open_container() as container:
        account = find_user(container, user)
        if not yes:
            typer.confirm(f"Delete {account.email}?", abort=True, err=True)
        container.admin.delete(OPERATOR, account.id)
    show({"deleted": account.id}, f"{account.email} is deleted.", as_json=as_json)


commands.command("import")(import_users)
