"""Settings: an immutable object, read from the environment and `.env`, validated at startup."""

from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.mail_settings import MailSettings
from app.setting_groups import (
    AccountSettings,
    DatabaseSettings,
    HttpSettings,
    OperationsSettings,
    SessionSettings,
    ThrottleSettings,
    TokenSettings,
)


# The groups are in reverse order, as fields of the last one come first.
class Settings(
    OperationsSettings,
    MailSettings,
    HttpSettings,
    ThrottleSettings,
    AccountSettings,
    SessionSettings,
    TokenSettings,
    DatabaseSettings,
):
    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @property
    def development(self) -> bool:
        return self.environment == "development"

    @property
    def json_logs(self) -> bool:
        """`LOG_FORMAT`; if it is not set, text in development and JSON otherwise."""
        return self.log_format == "json" if self.log_format else not self.development

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        development = _DevelopmentDefaults(settings_cls)
        return init_settings, env_settings, dotenv_settings, file_secret_settings, development


class _DevelopmentDefaults(PydanticBaseSettingsSource):
    """Defaults in development: an embedded PostgreSQL and a generated key."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 — the base class requires it
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        if self.current_state.get("environment") != "development":
            return {}
        from app import devdb  # noqa: PLC0415 — a development dependency, not available on every platform

        defaults: dict[str, Any] = {}
        try:
            if "database_url" not in self.current_state:
                defaults["database_url"] = devdb.attach()
            if "secret_key" not in self.current_state:
                defaults["secret_key"] = devdb.secret_key()
        except OSError as error:
            raise SystemExit(
                f"Without DATABASE_URL or SECRET_KEY development makes its own: {error}"
            ) from None
        return defaults


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises SystemExit (status 1) with one line per invalid variable; the lines contain no values.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{str(problem['loc'][0]).upper()}: {_explain(problem['type'], problem['msg'])}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SystemExit("\n".join(["The settings are not usable:", *lines])) from None


def _explain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required and not set"
    return message.removeprefix("Value error, ")
