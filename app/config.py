"""Settings: an immutable object, read from the environment and `.env`, validated at startup."""

from typing import Any, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.database_settings import DatabaseSettings
from app.mail_settings import MailSettings
from app.setting_bootstrap import read_text
from app.setting_groups import (
    AccountSettings,
    HttpSettings,
    OperationsSettings,
    SessionSettings,
    ThrottleSettings,
    TokenSettings,
)

_UNUSABLE: Final = "The settings are not usable:"


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
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, EnvSettingsSource)
        return (
            init_settings,
            env_settings,
            _Files(settings_cls, env_settings),
            dotenv_settings,
            _Files(settings_cls, dotenv_settings),
            file_secret_settings,
            _DevelopmentDefaults(settings_cls),
        )


class _Files(PydanticBaseSettingsSource):
    """`SECRET_KEY_FILE` names a file with the value of `SECRET_KEY`; so it is with every setting."""

    def __init__(self, settings_cls: type[BaseSettings], beside: EnvSettingsSource) -> None:
        super().__init__(settings_cls)
        self._given = beside.env_vars

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 — the base class requires it
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values, complaints = {}, []
        for name in self.settings_cls.model_fields:
            if not (file := self._given.get(f"{name}_file")):
                continue
            try:
                values[name] = self._read(name, file)
            except ValueError as error:
                complaints.append(f"{name.upper()}_FILE: {error}")
        if complaints:
            raise SystemExit("\n".join([_UNUSABLE, *complaints]))
        return values

    def _read(self, name: str, file: str) -> str:
        if self._given.get(name):
            raise ValueError(f"{name.upper()} is set, too")
        if not (value := read_text(file).rstrip("\r\n")):
            raise ValueError(f"{file} is empty")
        return value


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
        raise SystemExit("\n".join([_UNUSABLE, *lines])) from None


def _explain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required and not set"
    return message.removeprefix("Value error, ")
