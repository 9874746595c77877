from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import MakeService
from tests.support import Api


def scrape(api: Api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response = api.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def requests(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], route: str) -> float:
    return sum(
        value
        for (name, labels), value in samples.items()
        if name == "http_request_duration_seconds_count" and ("route", route) in labels
    )


def test_every_series_is_there_from_the_start_at_zero(start_service: MakeService) -> None:
    samples = scrape(start_service())

    for name, label, values in [
        ("app_user_registrations_total", "method", ["password"]),
        ("app_user_logins_total", "method", ["password"]),
        ("app_refresh_token_usage_total", "method", ["refresh"]),
        ("app_login_failures_total", "reason", ["unknown_email", "wrong_password", "disabled"]),
        (
            "app_refresh_outcomes_total",
            "outcome",
            ["rotated", "replayed", "raced", "reuse_detected", "revoked", "expired", "invalid"],
        ),
        (
            "app_sessions_ended_total",
            "reason",
            ["logout", "logout_all", "password_change", "reuse_detected", "admin", "user_disabled"],
        ),
    ]:
        found = {labels: value for (sample, labels), value in samples.items() if sample == name}
        assert found == {((label, value),): 0 for value in values}
    refused = (("method", "POST"), ("route", "/api/v1/token"), ("status", "401"))
    assert samples["http_request_duration_seconds_count", refused] == 0
    assert samples["app_password_hash_seconds_count", ()] == 0
    assert samples["app_password_hash_queue", ()] == 0
    assert samples["app_database_pool_in_use", ()] == 0
    assert samples["app_database_pool_size", ()] > 0


def test_what_happens_is_counted(start_service: MakeService) -> None:
    api = start_service()
    email = api.new_user()
    api.log_in(email)
    api.token(email, "another password")
    api.token("nobody@example.com")

    samples = scrape(api)

    assert samples["app_user_registrations_total", (("method", "password"),)] == 1
    assert samples["app_user_logins_total", (("method", "password"),)] == 1
    assert samples["app_login_failures_total", (("reason", "wrong_password"),)] == 1
    assert samples["app_login_failures_total", (("reason", "unknown_email"),)] == 1
    assert samples["app_password_hash_seconds_count", ()] == 4
    assert requests(samples, "/api/v1/token") == 3


def test_requests_are_counted_under_the_template_of_their_route(start_service: MakeService) -> None:
    api = start_service()
    for path in ("/nowhere", "/api/v1/nowhere/7", "/../etc/passwd"):
        api.http.get(path)
    api.http.request("PROPFIND", "/api/v1/me")

    samples = scrape(api)

    assert requests(samples, "<unmatched>") == 3
    strange = (("method", "OTHER"), ("route", "/api/v1/me"), ("status", "405"))
    assert samples["http_request_duration_seconds_count", strange] == 1
    assert samples["http_requests_in_progress", ()] == 1  # the scrape itself
