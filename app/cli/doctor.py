import asyncio
from typing import Annotated

import typer

from app.cli.running import AsJson, normalized, one_line, open_container, show


def doctor(
    *,
    send_test: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Send a mail there at once, and say what came of it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, database, workers and mail; the exit status is 1 if there is a fault."""
    recipient = normalized(send_test) if send_test is not None else None
    with open_container() as container:
        findings = list(container.doctor.examine())
        if recipient is not None:
            findings.append(asyncio.run(container.mail_diagnosis.send_test(recipient)))
    lines = (f"{finding.verdict:8} {finding.subject:12} {one_line(finding.text)}" for finding in findings)
    show([finding._asdict() for finding in findings], "\n".join(lines), as_json=as_json)
    raise typer.Exit(any(finding.verdict == "fault" for finding in findings))
