"""docs/openapi.json, of the settings that production has by default: python -m tests.openapi."""

import json
from typing import Final

from app.application import create_app
from app.devdb import PROJECT
from tests.support.settings import NOWHERE, make_settings

FILE: Final = PROJECT / "docs" / "openapi.json"


def document_text() -> str:
    app = create_app(make_settings(database_url=NOWHERE, environment="production"))
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(document_text(), encoding="utf-8")
