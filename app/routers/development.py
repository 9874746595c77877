from html import escape
from typing import Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from app.errors import NotFound
from app.http.dependencies import MailFolderDep
from app.http.routing import Route
from app.services.delivery.mail_files import StoredMail

_NEWEST: Final = 100
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mails</title>
<style>body {{ font-family: sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; padding: 1em; background: #f4f4f4; color: #222 }}
</style>
<h1>Mails</h1>
<p>The newest {number} that this service has written, as files in {folder}.</p>
{mails}
</html>
"""

_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
}

router = APIRouter(include_in_schema=False, route_class=Route)


@router.get("/dev/mail")
def list_mails(folder: MailFolderDep) -> HTMLResponse:
    """In development, where mails are files; elsewhere there is no such page."""
    if folder is None:
        raise NotFound
    mails = [_section(mail) for mail in folder.newest(_NEWEST)]
    place = escape(str(folder.path))
    page = _PAGE.format(number=len(mails), folder=place, mails="\n".join(mails))
    return HTMLResponse(page, headers=_POLICY)


def _section(mail: StoredMail) -> str:
    return (
        f"<h2>{escape(mail.subject)}</h2>\n<p>To {escape(mail.recipient)}, "
        f"{mail.at:%Y-%m-%d %H:%M:%S} UTC</p>\n<pre>{_with_links(mail.text)}</pre>"
    )


def _with_links(text: str) -> str:
    """A line that is an address leads there."""
    return "\n".join(
        f'<a href="{escape(line)}">{escape(line)}</a>'
        if line.startswith(("http://", "https://"))
        else escape(line)
        for line in text.splitlines()
    )
