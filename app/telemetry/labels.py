"""The values of the metrics' labels, and the buckets of their histograms in seconds."""

from typing import Final

HASHING_LANES: Final = ("signed_in", "login", "registration")
LOGIN_FAILURES: Final = ("unknown_email", "wrong_password", "disabled", "email_not_verified")
REFRESH_OUTCOMES: Final = (
    "rotated",
    "replayed",
    "raced",
    "reuse_detected",
    "revoked",
    "expired",
    "invalid",
)
THROTTLES: Final = ("login_address", "login_account", "login_device", "register_address", "proof", "failures")
HTTP_REFUSALS: Final = (
    "connection_limit",
    "headers_too_large",
    "too_many_headers",
    "head_timeout",
    "body_timeout",
    "body_too_large",
    "write_timeout",
    "malformed",
)
MAIL_OUTCOMES: Final = ("sent", "postponed", "failed")
KEY_STATES: Final = ("published", "signing", "verifying", "gone", "revoked")
TRUSTED_KEYS: Final = ("shared_secret", "published", "signing", "verifying")
TOKEN_ALGORITHMS: Final = ("HS256", "HS384", "HS512", "ES256", "RS256")
HTTP_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
HASH_BUCKETS: Final = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
ADMIN_ACTIONS: Final = (
    "user_created",
    "user_invited",
    "user_imported",
    "role_changed",
    "user_disabled",
    "user_enabled",
    "user_deleted",
    "password_set",
    "password_reset_started",
    "user_unlocked",
    "sessions_ended",
)
# SQLSTATE classes that can occur here (PostgreSQL documentation, Appendix A).
SQLSTATE_CLASSES: Final = (
    *("08", "0A", "22", "23", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58", "XX"),
    *("other", "none"),
)
