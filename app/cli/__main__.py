import typer

from app.cli import doctor, imports, keys, mail, services, sessions, users

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Commands for operators. They work while the service runs.",
)
cli.command()(doctor.doctor)
cli.command()(imports.migrate_from)
cli.add_typer(users.commands, name="users", help="Accounts.")
cli.add_typer(sessions.commands, name="sessions", help="Login sessions.")
cli.add_typer(services.commands, name="services", help="Tokens of sibling services and scrapers.")
cli.add_typer(mail.commands, name="mail", help="Mail.")
cli.add_typer(keys.commands, name="keys", help="Keys that sign access tokens.")

if __name__ == "__main__":
    cli(prog_name="python -m app.cli")
