"""Who may call what: no route is public by accident."""

from app.application import ROUTERS
from app.dependencies import access_token, who_logs_out
from app.middleware.metrics import route_of
from tests.support import Api, error_of


def guarded(dependant: object) -> bool:
    calls = [dependency.call for dependency in dependant.dependencies]  # type: ignore[attr-defined]
    return any(call in (access_token, who_logs_out) for call in calls) or any(
        guarded(dependency)
        for dependency in dependant.dependencies  # type: ignore[attr-defined]
    )


def test_these_routes_are_public_and_no_others() -> None:
    public = {
        route.path  # type: ignore[attr-defined]
        for router in ROUTERS
        for route in router.routes
        if not guarded(route.dependant)  # type: ignore[attr-defined]
    }

    assert public == {
        "/api/v1/users/",
        "/api/v1/token",
        "/api/v1/refresh",  # guarded by the refresh token itself
        "/api/v1/health",
        "/api/v1/health/live",
        "/health",
        "/metrics",  # guarded by METRICS_TOKEN, where there is one
    }


def test_the_others_want_a_token(api: Api) -> None:
    assert error_of(api.http.get("/api/v1/me")) == (401, "not_authenticated")
    assert error_of(api.http.post("/api/v1/logout")) == (401, "not_authenticated")


def test_a_request_that_no_route_took_has_a_name_of_its_own() -> None:
    assert route_of({"type": "http"}) == "<unmatched>"
