"""Spans, as a collector receives them over OTLP."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.devdb import PROJECT
from tests.support import PASSWORD, SECRET_KEY, Started, StartProcess, clean_environment, new_email, request

pytestmark = pytest.mark.process
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ANOTHER_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        resources = [resource for request in requests for resource in request.resource_spans]
        return [span for each in resources for scope in each.scope_spans for span in scope.spans]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.02,))
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(start_lasting_process: StartProcess, collector: Collector, database_url: str) -> Started:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    return start_lasting_process(database_url, **settings).serves()


def attributes(span: Any) -> dict[str, str]:
    return {each.key: each.value.string_value or str(each.value.int_value) for each in span.attributes}


@pytest.mark.slow
def test_a_request_and_its_statements_are_one_trace(traced: Started, collector: Collector) -> None:
    email = new_email()
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    body = {"email": email, "password": PASSWORD}
    assert traced.post("/api/v1/users/", json=body, headers=headers).status_code == 201
    assert traced.post("/api/v1/users/", json=body, headers=headers).status_code == 409
    pair = traced.post("/api/v1/token", data={"username": email, "password": PASSWORD}).json()
    traced.post("/api/v1/refresh", json={"refresh_token": pair["refresh_token"]})

    requests = {"POST /api/v1/users/": 2, "POST /api/v1/token": 1, "POST /api/v1/refresh": 1}

    def are_collected() -> bool:
        return requests.items() <= Counter(span.name for span in collector.spans()).items()

    traced.wait_for(are_collected, "traced")
    spans = collector.spans()

    ours = [span for span in spans if span.trace_id.hex() == TRACE_ID]
    servers = [span for span in ours if span.name == "POST /api/v1/users/"]
    assert [attributes(span)["http.response.status_code"] for span in servers] == ["201", "409"]
    begin = "INSERT INTO users"
    inserts = [span for span in ours if attributes(span).get("db.query.text", "").startswith(begin)]
    assert [span.parent_span_id for span in inserts] == [span.span_id for span in servers]
    assert [attributes(span).get("error.type") for span in inserts] == [None, "23505"]
    assert {(span.name, attributes(span)["db.system.name"]) for span in inserts} == {("INSERT", "postgresql")}
    everything = b"".join(collector.bodies)
    for secret in (email, PASSWORD, "$bcrypt", *pair.values()):
        if isinstance(secret, str) and secret != "bearer":
            assert secret.encode() not in everything, secret
    assert b"kanban-auth" in everything
    assert not any("health" in span.name for span in spans)


def test_a_log_line_names_its_trace(traced: Started) -> None:
    headers = {"traceparent": f"00-{ANOTHER_TRACE_ID}-b7ad6b7169203331-01"}

    request("GET", f"{traced.base_url}/api/v1/me", headers=headers)

    traced.wait_for(lambda: '"/api/v1/me"' in traced.output, "logged")
    (line,) = [line for line in traced.output.splitlines() if '"/api/v1/me"' in line]
    assert f'"trace_id": "{ANOTHER_TRACE_ID}"' in line


@pytest.mark.slow
def test_a_worker_without_traces_and_mail_imports_nothing_of_theirs_nor_of_commands() -> None:
    """They would take a tenth of its memory. As in production, uvicorn sets up its log first."""
    program = (
        "import json, logging.config, sys\n"
        "logging.config.dictConfig(json.load(open('app/uvicorn.json')))\n"
        "import app.main\n"
        "print(*(name for name, module in sys.modules.items() if module))"
    )
    settings = {"DATABASE_URL": "postgresql://x@localhost/x", "SECRET_KEY": SECRET_KEY}
    imported = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT, env=clean_environment(**settings), capture_output=True, check=True, text=True,
    ).stdout.split()  # fmt: skip

    assert "fastapi" in imported
    traces = {"opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests"}
    others = {"rich", "pygments", "typer", "alembic", "jinja2", "aiosmtplib", "pydantic.v1"}
    assert (traces | others).isdisjoint(imported)


@pytest.mark.slow
def test_without_an_endpoint_there_are_no_traces(start_process: StartProcess, database_url: str) -> None:
    """Even where the environment names one for OpenTelemetry's own programs."""
    with collecting() as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.endpoint}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        started = start_process(database_url, **settings).serves()
        assert started.register().status_code == 201
        started.process.terminate()
        started.ends()

        assert collector.bodies == []
    assert "trace_id" not in started.output
