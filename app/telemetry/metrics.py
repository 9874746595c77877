"""The metrics that `/metrics` exports. Every label has a finite set of values; each series starts at 0."""

import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, disable_created_metrics, values

from app.telemetry.exposition import Exposition
from app.telemetry.families import Families
from app.telemetry.histograms import LabelledValue
from app.telemetry.labels import (
    ADMIN_ACTIONS,
    HASH_BUCKETS,
    HASHING_LANES,
    HTTP_BUCKETS,
    HTTP_REFUSALS,
    KEY_STATES,
    LOGIN_FAILURES,
    MAIL_OUTCOMES,
    REFRESH_OUTCOMES,
    SQLSTATE_CLASSES,
    THROTTLES,
    TOKEN_ALGORITHMS,
    TRUSTED_KEYS,
)
from app.telemetry.workers import FOLDER_VARIABLE, Worker


class HttpMetrics:
    def __init__(self, families: Families) -> None:
        self.duration = families.histogram(
            "http_request_duration_seconds",
            "Time from the request's arrival to the end of its answer.",
            HTTP_BUCKETS,
            ("method", "route", "status"),
        )
        self.in_progress = families.gauge("http_requests_in_progress", "Requests being answered.")
        self.refusals = families.counter(
            "app_http_refusals", "What clients sent over a limit.", "reason", HTTP_REFUSALS
        )
        self.connections = families.gauge("app_http_connections", "Open connections of clients.")
        self.connections_limit = families.gauge(
            "app_http_connections_limit", "Connections that clients may have open."
        )


class AccountMetrics:
    def __init__(self, families: Families) -> None:
        self.registrations = families.counter(
            "app_user_registrations", "Users registered.", "method", ("password",)
        )
        self.admin_actions = families.counter(
            "app_admin_actions", "What administrators did.", "action", ADMIN_ACTIONS
        )


class SessionMetrics:
    def __init__(self, families: Families, revocation_reasons: Iterable[str]) -> None:
        self.logins = families.counter("app_user_logins", "Logins.", "method", ("password",))
        self.login_failures = families.counter(
            "app_login_failures", "Logins refused.", "reason", LOGIN_FAILURES
        )
        self.refreshes = families.counter(
            "app_refresh_token_usage", "Refresh tokens accepted.", "method", ("refresh",)
        )
        self.refresh_outcomes = families.counter(
            "app_refresh_outcomes", "What became of refreshes.", "outcome", REFRESH_OUTCOMES
        )
        self.ended = families.counter("app_sessions_ended", "Sessions revoked.", "reason", revocation_reasons)
        self.purged = families.total("app_sessions_purged", "Sessions deleted after their end.")
        self.live = families.gauge(
            "app_sessions_live", "Sessions that can be refreshed, counted by the clean-up.", "livemostrecent"
        )


class KeyMetrics:
    """By state, not by kid: every rotation would add series that no one removes."""

    def __init__(self, families: Families) -> None:
        self.keys = families.gauges(
            "app_signing_keys", "Signing keys.", "state", KEY_STATES, "livemostrecent"
        )
        self.ready = families.gauge(
            "app_signing_ready", "Whether every worker can sign access tokens.", "livemin"
        )
        self.undecryptable = families.gauge(
            "app_signing_keys_undecryptable",
            "Signing keys in use that no SECRET_KEY decrypts.",
            "livemostrecent",
        )
        self.age = families.gauge(
            "app_signing_key_age_seconds", "For how long the key that signs has signed.", "livemostrecent"
        )
        self.age_limit = families.gauge(
            "app_signing_key_age_limit_seconds",
            "For how long a key may sign; 0 if it is replaced by command only.",
            "livemostrecent",
        )
        self.issued = families.counter(
            "app_access_tokens_issued", "Access tokens signed.", "algorithm", TOKEN_ALGORITHMS
        )
        self.accepted = families.counter(
            "app_access_tokens_accepted", "Access tokens verified.", "key", TRUSTED_KEYS
        )


class HashingMetrics:
    def __init__(self, families: Families) -> None:
        self.duration = families.histogram(
            "app_password_hash_seconds", "Time to compute one password hash.", HASH_BUCKETS
        )
        self.queue = families.gauge("app_password_hash_queue", "Requests that wait for their turn to hash.")
        self.queue_limit = families.gauge(
            "app_password_hash_queue_limit", "Requests that may wait for their turn to hash."
        )
        self.waiting = families.gauges(
            "app_password_hash_waiting", "Who waits in that queue.", "lane", HASHING_LANES
        )
        self.rejections = families.total(
            "app_password_hash_rejections", "Requests refused as that queue was full."
        )
        self.abandoned = families.total(
            "app_password_hash_abandoned", "Requests dropped from that queue as their client had left."
        )


class ThrottleMetrics:
    def __init__(self, families: Families) -> None:
        self.throttled = families.counter(
            "app_throttled", "Attempts refused as there were too many.", "bucket", THROTTLES
        )


class DatabaseMetrics:
    def __init__(self, families: Families) -> None:
        self.pool_in_use = families.gauge("app_database_pool_in_use", "Database connections in use.")
        self.pool_size = families.gauge("app_database_pool_size", "Database connections allowed.")
        self.pool_waiting = families.gauge(
            "app_database_pool_waiting", "Requests that wait for a database connection."
        )
        self.errors = families.counter(
            "app_database_errors",
            "Statements and connections that failed.",
            "sqlstate_class",
            SQLSTATE_CLASSES,
        )


class DeliveryMetrics:
    def __init__(self, families: Families) -> None:
        self.listeners = families.gauge("app_revocation_listeners", "Streams of revocations that are open.")
        self.mails = families.counter("app_mails", "Attempts to send a mail.", "outcome", MAIL_OUTCOMES)
        # Of the whole outbox, as each worker last saw it.
        self.mail_queue = families.gauge("app_mail_queue", "Mails to be sent.", "livemostrecent")
        self.mail_age = families.gauge(
            "app_mail_oldest_seconds", "Age of the oldest mail to be sent.", "livemostrecent"
        )


class Metrics:
    """One instance per application, with its own registry. Durations are in seconds.

    With a `worker`, a scrape returns the sums over all workers of the server.
    """

    def __init__(self, revocation_reasons: Iterable[str], version: str, worker: Worker | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # they add an unused series per counter
        values.ValueClass = LabelledValue
        if worker is not None:
            os.environ[FOLDER_VARIABLE] = str(worker.folder)
            values.ValueClass = values.MultiProcessValue(lambda: worker.index)  # type: ignore[no-untyped-call] # the function is untyped
        self.registry = CollectorRegistry()
        families = Families(self.registry)
        self.exposition = Exposition(families.others, families.histograms, worker)
        self.http = HttpMetrics(families)
        self.accounts = AccountMetrics(families)
        self.sessions = SessionMetrics(families, revocation_reasons)
        self.keys = KeyMetrics(families)
        self.hashing = HashingMetrics(families)
        self.throttles = ThrottleMetrics(families)
        self.database = DatabaseMetrics(families)
        self.delivery = DeliveryMetrics(families)
        families.build_info(version)
