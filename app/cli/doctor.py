import typer

from app.cli.running import AsJson, open_container, show


def doctor(*, as_json: AsJson = False) -> None:
    """Check settings, database and workers; the exit status is 1 if there is a fault."""
    with open_container() as container:
        findings = list(container.doctor.examine())
    lines = (f"{finding.verdict:8} {finding.subject:12} {finding.text}" for finding in findings)
    show([finding._asdict() for finding in findings], "\n".join(lines), as_json=as_json)
    raise typer.Exit(any(finding.verdict == "fault" for finding in findings))
