from typing import Literal

from app.schemas.fields import Answer


class Healthy(Answer):
    status: Literal["ok"] = "ok"


class Unhealthy(Answer):
    status: Literal["unavailable"] = "unavailable"
