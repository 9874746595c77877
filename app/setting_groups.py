"""The settings by subject; `config.Settings` is all of them together.

What is too weak for production is refused there alone, with a line for the variable.
"""

from importlib.util import find_spec
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from app.setting_bootstrap import BootstrapUsers
from app.setting_types import (
    BaseUrl,
    Origins,
    PathPrefix,
    Rate,
    RateSetting,
    Secret,
    Secrets,
    in_production,
    origin_of,
)

MIN_BCRYPT_ROUNDS: Final = 10  # OWASP Password Storage Cheat Sheet
MIN_PASSWORD_LENGTH: Final = 8  # NIST SP 800-63B-4 §3.1.1.2, ASVS 5.0 6.2.1
MIN_METRICS_TOKEN: Final = 16
LOCAL_ORIGINS: Final = r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class EnvironmentSettings(BaseSettings):
    """Validated first, because the validators of other groups read it."""

    environment: Literal["production", "development"] = "production"


def hmac_bytes(algorithm: str) -> int:
    """The least length of its key: the output of its hash (RFC 7518 §3.2). 0 for what is no HMAC."""
    return int(algorithm.removeprefix("HS")) // 8 if algorithm.startswith("HS") else 0


class TokenSettings(EnvironmentSettings):
    secret_key: Secret
    secret_key_fallbacks: Secrets = ()
    jwt_secret: Secret | None = None
    jwt_algorithm: Literal["HS256", "HS384", "HS512", "ES256", "RS256"] = "HS256"
    jwt_issuer: str = Field(default="kanban-auth", min_length=1)
    jwt_audience: str | None = None
    access_token_expire_minutes: int = Field(default=15, ge=1, le=1440)
    jwks_max_age_seconds: int = Field(default=600, ge=0, le=43_200)
    signing_key_days: int = Field(default=30, ge=0, le=3650)

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """SECRET_KEY, then its fallbacks."""
        return tuple(each.get_secret_value() for each in (self.secret_key, *self.secret_key_fallbacks))

    @property
    def shared_secret(self) -> str | None:
        """JWT_SECRET, if it is set."""
        return self.jwt_secret.get_secret_value() if self.jwt_secret is not None else None

    @property
    def asymmetric_algorithm(self) -> Literal["ES256", "RS256"] | None:
        """None if access tokens are signed with a shared secret."""
        return self.jwt_algorithm if self.jwt_algorithm in ("ES256", "RS256") else None

    @field_validator("jwt_algorithm")
    @classmethod
    def _with_a_key_as_long_as_its_hash(cls, value: str, info: ValidationInfo) -> str:
        secret, needed = info.data.get("jwt_secret") or info.data.get("secret_key"), hmac_bytes(value)
        if in_production(info) and secret and len(secret.get_secret_value().encode()) < needed:
            raise ValueError(f"{value} needs a secret of {needed} bytes; try: openssl rand -hex {needed}")
        return value


class SessionSettings(EnvironmentSettings):
    refresh_token_expire_days: int = Field(default=7, ge=1, le=365)
    session_max_days: int = Field(default=90, ge=1, le=3650)
    sessions_per_user: int = Field(default=50, ge=1, le=10_000)
    refresh_reuse_leeway_seconds: int = Field(default=10, ge=0, le=300)
    revoked_session_retention_days: int = Field(default=30, ge=0, le=3650)


class AccountSettings(EnvironmentSettings):
    bootstrap_users: BootstrapUsers = ()
    bcrypt_rounds: int = Field(default=12, ge=4, le=18)
    password_min_length: int = Field(default=MIN_PASSWORD_LENGTH, ge=1, le=256)
    password_blocklist: bool = True

    @field_validator("bcrypt_rounds", "password_min_length")
    @classmethod
    def _enough_in_production(cls, value: int, info: ValidationInfo) -> int:
        least = MIN_BCRYPT_ROUNDS if info.field_name == "bcrypt_rounds" else MIN_PASSWORD_LENGTH
        if in_production(info) and value < least:
            raise ValueError(f"is at least {least} in production")
        return value


class ThrottleSettings(EnvironmentSettings):
    throttles: bool = True
    throttle_login_address: RateSetting = Rate.parse("60/2s")
    throttle_login_account: RateSetting = Rate.parse("10/60s")
    throttle_login_device: RateSetting = Rate.parse("10/60s")
    throttle_register_address: RateSetting = Rate.parse("40/10s")
    throttle_proof: RateSetting = Rate.parse("5/60s")
    throttle_recover_account: RateSetting = Rate.parse("3/1200s")
    throttle_recover_address: RateSetting = Rate.parse("20/60s")


class HttpSettings(EnvironmentSettings):
    public_url: BaseUrl | None = None
    auth_cookies: bool = True
    cookie_prefix: Literal["", "__Host-", "__Secure-"] = ""
    cookie_path_prefix: PathPrefix = ""
    cors_origins: Origins = ()
    docs: bool = True
    request_timeout_seconds: int = Field(default=15, ge=1, le=300)
    max_connections: int = Field(default=1000, ge=1, le=100_000)
    drain_seconds: int = Field(default=0, ge=0, le=300)

    @property
    def trusted_origins(self) -> tuple[str, ...]:
        """CORS_ORIGINS, and our own as browsers know it."""
        own = (origin_of(self.public_url),) if self.public_url else ()
        return (*self.cors_origins, *own)

    @property
    def local_origins(self) -> str | None:
        """A pattern of those that may call us in development while CORS_ORIGINS is unset."""
        return LOCAL_ORIGINS if self.environment == "development" and not self.cors_origins else None

    @property
    def public_path(self) -> str:
        """The path of PUBLIC_URL, which a proxy takes away before it asks us; mostly empty."""
        return urlsplit(self.public_url or "").path


class OperationsSettings(EnvironmentSettings):
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v),
    ] = "INFO"
    log_format: Literal["json", "text"] | None = None
    log_health_checks: bool = True
    log_addresses: Literal["full", "masked", "none"] = "full"
    web_concurrency: int = Field(default=1, ge=1, le=256)
    metrics_token: SecretStr | None = None
    audit_retention_days: int = Field(default=365, ge=0, le=3650)
    cleanup_interval_seconds: int = Field(default=60, ge=0, le=86400)
    otel_exporter_otlp_endpoint: str | None = None

    @field_validator("metrics_token")
    @classmethod
    def _long_in_production(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if in_production(info) and value is not None and len(value.get_secret_value()) < MIN_METRICS_TOKEN:
            raise ValueError(f"needs at least {MIN_METRICS_TOKEN} characters; try: openssl rand -hex 32")
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


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is not installed
        return False
