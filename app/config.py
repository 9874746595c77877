"""Settings: an immutable object, read from the environment and `.env`, validated at startup."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.setting_types import Origins, PostgresUrl

MIN_SECRET_BYTES = 32


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    environment: Literal["production", "development"] = "production"
    database_url: PostgresUrl
    secret_key: SecretStr
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    jwt_issuer: str = Field(default="kanban-auth", min_length=1)
    jwt_audience: str | None = None
    access_token_expire_minutes: int = Field(default=15, ge=1, le=1440)
    refresh_token_expire_days: int = Field(default=7, ge=1, le=365)
    session_max_days: int = Field(default=90, ge=1, le=3650)
    sessions_per_user: int = Field(default=50, ge=1, le=10_000)
    refresh_reuse_leeway_seconds: int = Field(default=10, ge=0, le=300)
    bcrypt_rounds: int = Field(default=12, ge=4, le=18)
    password_min_length: int = Field(default=8, ge=1, le=256)
    auth_cookies: bool = True
    cors_origins: Origins = ()
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v),
    ] = "INFO"
    log_format: Literal["json", "text"] | None = None
    web_concurrency: int = Field(default=1, ge=1, le=256)
    metrics_token: SecretStr | None = None
    revoked_session_retention_days: int = Field(default=30, ge=0, le=3650)
    audit_retention_days: int = Field(default=365, ge=0, le=3650)
    cleanup_interval_seconds: int = Field(default=60, ge=0, le=86400)
    otel_exporter_otlp_endpoint: str | None = None
    run_migrations: bool = True
    database_wait_seconds: int = Field(default=60, ge=0, le=3600)

    @field_validator("secret_key")
    @classmethod
    def _strong_in_production(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        production = info.data.get("environment") != "development"
        if production and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"needs at least {MIN_SECRET_BYTES} bytes; try: openssl rand -hex 32")
        if any(mark in value.get_secret_value() for mark in ("-----BEGIN", "ssh-", "ecdsa-")):
            raise ValueError("is a random string, not a PEM or SSH key; try: openssl rand -hex 32")
        return value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _with_an_exporter(cls, value: str | None) -> str | None:
        if value is not None and not _is_installed("opentelemetry.exporter.otlp.proto.http"):
            raise ValueError(
                "needs requirements/tracing.txt to be installed, "
                "or an image that is built with --build-arg REQUIREMENTS=tracing"
            )
        return value

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


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is not installed
        return False


def _explain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required and not set"
    return message.removeprefix("Value error, ")
