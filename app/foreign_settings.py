"""Settings of other projects, which have other names here and would be ignored without a word."""

from typing import Final

from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from app.config import Settings

OURS: Final = {
    "ALGORITHM": "JWT_ALGORITHM",
    "JWT_ALG": "JWT_ALGORITHM",
    "JWT_SECRET_KEY": "JWT_SECRET",
    "ISSUER": "JWT_ISSUER",
    "AUDIENCE": "JWT_AUDIENCE",
    "ACCESS_TOKEN_EXPIRES": "ACCESS_TOKEN_EXPIRE_MINUTES",
    "ACCESS_TOKEN_EXPIRE_SECONDS": "ACCESS_TOKEN_EXPIRE_MINUTES",
    "JWT_ACCESS_TOKEN_EXPIRES": "ACCESS_TOKEN_EXPIRE_MINUTES",
    "JWT_EXPIRE_MINUTES": "ACCESS_TOKEN_EXPIRE_MINUTES",
    "REFRESH_TOKEN_EXPIRE_MINUTES": "REFRESH_TOKEN_EXPIRE_DAYS",
    "REFRESH_TOKEN_EXPIRES": "REFRESH_TOKEN_EXPIRE_DAYS",
    "JWT_REFRESH_TOKEN_EXPIRES": "REFRESH_TOKEN_EXPIRE_DAYS",
    "ALLOWED_ORIGINS": "CORS_ORIGINS",
    "BACKEND_CORS_ORIGINS": "CORS_ORIGINS",
    "CORS_ALLOWED_ORIGINS": "CORS_ORIGINS",
    "DB_URL": "DATABASE_URL",
    "POSTGRES_URL": "DATABASE_URL",
    "SQLALCHEMY_DATABASE_URI": "DATABASE_URL",
    "SQLALCHEMY_DATABASE_URL": "DATABASE_URL",
    "APP_ENV": "ENVIRONMENT",
    "FIRST_SUPERUSER": "BOOTSTRAP_USERS",
    "FIRST_SUPERUSER_PASSWORD": "BOOTSTRAP_USERS",
    "FRONTEND_HOST": "FRONTEND_URL",
    "LOGLEVEL": "LOG_LEVEL",
    "WEB_WORKERS": "WEB_CONCURRENCY",
}


def foreign_settings(settings: Settings) -> dict[str, str]:
    """Those that are set, each with ours, unless that one is set as well."""
    given = {**EnvSettingsSource(Settings).env_vars, **DotEnvSettingsSource(Settings).env_vars}
    return {
        theirs: ours
        for theirs, ours in OURS.items()
        if given.get(theirs.lower()) and ours.lower() not in settings.model_fields_set
    }
