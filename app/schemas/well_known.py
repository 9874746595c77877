import re
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, UrlConstraints, ValidationError
from pydantic_core import Url

from app.errors import NotFound
from app.schemas.fields import Answer

_HTTPS_URL: Final = TypeAdapter(Annotated[Url, UrlConstraints(allowed_schemes=["https"], host_required=True)])
# RFC 3986 §2, without query and fragment. Pydantic mends what is none of these, and a client may not.
_ALLOWED: Final = re.compile(r"(?i:https)://(?!/)(?:[\w\-.~:/\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+", re.ASCII)


class JwkSet(Answer):
    keys: list[dict[str, Any]] = Field(
        examples=[
            [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                    "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
                    "use": "sig",
                    "alg": "ES256",
                }
            ]
        ]
    )


class ServerMetadata(Answer):
    """RFC 8414 §2. No grant is for third parties, so there is no authorization endpoint."""

    issuer: str = Field(examples=["https://auth.example.com"])
    jwks_uri: str = Field(examples=["https://auth.example.com/.well-known/jwks.json"])
    token_endpoint: str = Field(examples=["https://auth.example.com/api/v1/token"])
    introspection_endpoint: str = Field(examples=["https://auth.example.com/api/v1/introspect"])
    token_endpoint_auth_methods_supported: list[str] = Field(default=["none"])
    grant_types_supported: list[str] = Field(default=["password", "refresh_token"])
    response_types_supported: list[str] = Field(default=[])


def metadata_of(issuer: str) -> ServerMetadata:
    """Raises NotFound if the issuer is no https URL without query and fragment (RFC 8414 §2)."""
    try:
        _HTTPS_URL.validate_python(issuer)
    except ValidationError:
        raise NotFound from None
    if not _ALLOWED.fullmatch(issuer):
        raise NotFound
    base = issuer.rstrip("/")
    return ServerMetadata(
        issuer=issuer,
        jwks_uri=f"{base}/.well-known/jwks.json",
        token_endpoint=f"{base}/api/v1/token",
        introspection_endpoint=f"{base}/api/v1/introspect",
    )
