"""Settings: one frozen value, read from the environment and `.env`, checked at start."""

import json
from importlib.util import find_spec
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
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
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

MIN_SECRET_BYTES = 32


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            raise ValueError("not a JSON list") from None
    return [part for part in value.replace(",", " ").split() if part]


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError(
            "each origin looks like https://board.example.com, without a path; * is not possible"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _postgres_url(value: SecretStr) -> SecretStr:
    try:
        url = make_url(value.get_secret_value())
    except (ArgumentError, ValueError):
        raise ValueError("looks like postgresql://user:password@host:5432/database") from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg2"):
        raise ValueError("must begin with postgresql://")
    return SecretStr(url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False))


Origin = Annotated[str, AfterValidator(_origin)]


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
    database_url: Annotated[SecretStr, AfterValidator(_postgres_url)]
    secret_key: SecretStr
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    jwt_issuer: str = Field(default="kanban-auth", min_length=1)
    jwt_audience: str | None = None
    access_token_expire_minutes: int = Field(default=15, ge=1, le=1440)
    refresh_token_expire_days: int = Field(default=7, ge=1, le=365)
    session_max_days: int = Field(default=90, ge=1, le=3650)
    refresh_reuse_leeway_seconds: int = Field(default=10, ge=0, le=300)
    bcrypt_rounds: int = Field(default=12, ge=4, le=18)
    password_min_length: int = Field(default=8, ge=1, le=256)
    auth_cookies: bool = True
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split)] = ()
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
        """`LOG_FORMAT`; when unset, text in development and JSON elsewhere."""
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
    """What development need not configure: an embedded PostgreSQL and a generated key."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 — abstract
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        if self.current_state.get("environment") != "development":
            return {}
        from app import devdb  # noqa: PLC0415 — a development dependency, and not on every platform

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

    Raises SystemExit (status 1) with one line per unusable variable; values are never shown.
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
    except ModuleNotFoundError:  # of a parent
        return False


def _explain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required and not set"
    return message.removeprefix("Value error, ")
