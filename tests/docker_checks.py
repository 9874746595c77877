"""The images and the stack, on a real Docker engine: `make docker-test`. No part of `make check`."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import takewhile

import httpx
import pytest

from app.devdb import PROJECT
from tests.support import PASSWORD, new_email

HEALTH = "/api/v1/health"
SECRET_KEY = "a secret key of the docker checks, and of nothing else"
DATABASE_URL = "postgresql://kanban:kanban@auth-db:5432/kanban_auth"
PRODUCTION = {
    "SECRET_KEY": SECRET_KEY,
    "DATABASE_URL": DATABASE_URL.replace(":kanban@", ":of-the-checks@"),
    "POSTGRES_PASSWORD": "of-the-checks",
}


def why_not() -> str | None:
    if not shutil.which("docker"):
        return "docker is not installed"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "no Docker engine answers"
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        return "docker compose (v2) is not installed"
    return None


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    if reason := why_not():
        pytest.skip(reason)


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, check=True, text=True).stdout.strip()


class Stack:
    """A project of Compose, with nothing from the caller's `.env` or environment."""

    def __init__(self, *files: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        self.project = f"kanban-auth-check-{port}"
        self.base_url = f"http://127.0.0.1:{port}"
        self._files = [argument for file in files for argument in ("--file", file)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        self._environment = {**kept, "AUTH_PORT": port, **environment}

    def compose(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        options = ["--project-name", self.project, "--env-file", os.devnull, *self._files]
        result = subprocess.run(
            ["docker", "compose", *options, *arguments], cwd=PROJECT, env=self._environment | environment,
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def up(self, *services: str) -> None:
        self.compose("up", "--build", "--detach", "--wait", *services)

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).stdout.strip()

    def inspect(self, service: str, what: str) -> str:
        return docker("inspect", "--format", "{{" + what + "}}", self.container(service))

    def sql(self, statement: str) -> str:
        command = ("psql", "-U", "kanban", "-d", "kanban_auth", "-Atc", statement)
        return self.compose("exec", "-T", "auth-db", *command).stdout.strip()

    def register(self) -> httpx.Response:
        body = {"email": new_email(), "password": PASSWORD}
        return httpx.post(f"{self.base_url}/api/v1/users/", json=body, timeout=60)

    def log_in(self, email: str) -> httpx.Response:
        form = {"username": email, "password": PASSWORD}
        return httpx.post(f"{self.base_url}/api/v1/token", data=form, timeout=60)

    def status(self, path: str = HEALTH) -> int | None:
        with suppress(httpx.TransportError):
            return httpx.get(self.base_url + path, timeout=30).status_code
        return None

    def wait_for(self, status: int, seconds: float = 60) -> float:
        """Returns how long it took."""
        begin = time.monotonic()
        while self.status() != status:
            assert time.monotonic() < begin + seconds, self.compose("logs", "--tail", "50").stdout
            time.sleep(0.05)
        return time.monotonic() - begin


def stack(*files: str, **environment: str) -> Iterator[Stack]:
    stack = Stack(*files, **environment)
    stack.up("auth", "auth-db")
    yield stack
    stack.compose("down", "--volumes", "--rmi", "local")
    label = f"label=com.docker.compose.project={stack.project}"
    for kind in ("container", "volume", "network"):
        listing = ("ls", "--all") if kind == "container" else ("ls",)
        assert docker(kind, *listing, "--quiet", "--filter", label) == ""


@pytest.fixture(scope="module")
def development() -> Iterator[Stack]:
    yield from stack("docker-compose.yml")


@pytest.fixture(scope="module")
def production() -> Iterator[Stack]:
    yield from stack("docker-compose.yml", "docker-compose.prod.yml", **PRODUCTION)


def test_development_registers_and_logs_in(development: Stack) -> None:
    email = development.register().json()["email"]

    assert development.log_in(email).json()["token_type"] == "bearer"
    assert httpx.get(f"{development.base_url}/docs").status_code == 200


def test_the_tests_pass_inside(development: Stack) -> None:
    result = development.compose("exec", "-T", "auth", "pytest", "-q", check=False)

    assert result.returncode == 0, result.stdout[-5000:]
    assert re.search(r"\d{3,} passed", result.stdout)


def test_the_database_is_not_published(development: Stack, production: Stack) -> None:
    for each in (development, production):
        assert each.inspect("auth-db", "json .NetworkSettings.Ports") == '{"5432/tcp":null}'
        assert '"HostIp":"127.0.0.1"' in each.inspect("auth", "json .NetworkSettings.Ports")


def test_sessions_outlive_a_new_container(development: Stack) -> None:
    pair = development.log_in(development.register().json()["email"]).json()

    development.compose("up", "--detach", "--wait", "--force-recreate", "--no-deps", "auth")

    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert httpx.get(f"{development.base_url}/api/v1/me", headers=headers).status_code == 200


def test_nothing_that_was_answered_is_lost_when_auth_is_killed(development: Stack) -> None:
    done = threading.Event()
    answered: list[str] = []

    def register_until_done() -> None:
        while not done.is_set():
            with suppress(httpx.TransportError):
                response = development.register()
                if response.status_code == 201:
                    answered.append(response.json()["email"])

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(register_until_done) for _ in range(8)]
        for _ in range(2):
            before = len(answered)
            while len(answered) < before + 10:
                time.sleep(0.05)
            development.compose("kill", "auth")
            development.compose("start", "auth")
            development.wait_for(200)
        done.set()
        for client in clients:
            client.result()

    emails = ",".join(f"'{email}'" for email in answered)
    assert development.sql(f"SELECT count(*) FROM users WHERE email IN ({emails})") == str(len(answered))


def test_two_at_once_migrate_an_empty_database(development: Stack) -> None:
    development.sql("CREATE DATABASE empty")
    url = DATABASE_URL.replace("/kanban_auth", "/empty")
    image = development.inspect("auth", ".Image")
    start = ("run", "--detach", "--network", f"{development.project}_default", "--env", f"DATABASE_URL={url}")
    both = [docker(*start, "--env", f"SECRET_KEY={SECRET_KEY}", image) for _ in range(2)]
    try:
        for container in both:
            deadline = time.monotonic() + 60
            while docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
                assert time.monotonic() < deadline, docker("logs", container)
                time.sleep(0.2)
    finally:
        docker("rm", "--force", "--volumes", *both)


def test_a_stopped_database_is_503_and_no_restart_is_needed(production: Stack) -> None:
    started = production.inspect("auth", ".State.StartedAt")

    production.compose("stop", "auth-db")
    production.wait_for(503)
    assert production.register().status_code == 503
    assert production.status("/api/v1/health/live") == 200
    production.compose("start", "auth-db")
    production.wait_for(200)

    assert production.register().status_code == 201
    assert production.inspect("auth", ".State.StartedAt") == started
    assert "/health/live" in production.inspect("auth", "json .Config.Healthcheck.Test")


def test_production_wants_its_settings() -> None:
    stack = Stack("docker-compose.yml", "docker-compose.prod.yml")
    for missing in PRODUCTION:
        given = {name: value for name, value in PRODUCTION.items() if name != missing}
        result = stack.compose("config", check=False, **given)

        assert result.returncode != 0
        assert f"{missing} is missing a value: is required" in result.stderr


def test_the_production_image_holds_what_it_needs_alone(production: Stack) -> None:
    def inside(command: str) -> str:
        return production.compose("exec", "-T", "auth", "sh", "-c", command).stdout.strip()

    assert inside("id -u") == "10001"
    assert inside("ls -A") == "LICENSE\nalembic\nalembic.ini\napp\npyproject.toml"
    assert inside("command -v gcc cc make poetry pytest || true") == ""
    assert inside("touch /srv/x /srv/app/x /opt/venv/x 2>&1 || true").count("Read-only file system") == 3
    assert inside("grep CapEff /proc/1/status | cut -f2") == "0" * 16
    assert inside("grep NoNewPrivs /proc/1/status | cut -f2") == "1"
    assert inside("grep -l spawn_main /proc/[0-9]*/cmdline | wc -l") >= "2"
    assert int(production.inspect("auth", ".HostConfig.Memory")) == 512 * 2**20
    assert production.inspect("auth", ".HostConfig.LogConfig.Config") == "map[max-file:5 max-size:10m]"


def test_the_production_image_adds_110_mb_at_most(production: Stack) -> None:
    image = production.inspect("auth", ".Image")
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image)
    layers = [layer.split(" ", 1) for layer in history.splitlines()]  # the last comes first
    ours = takewhile(lambda layer: "WORKDIR /srv" not in layer[1], layers)
    added = sum(int(size) for size, _ in ours) / 1e6

    print(f"\nadds {added:.0f} MB")  # noqa: T201 — for the README
    assert 50 < added <= 110


def test_a_stop_drops_nobody_who_is_being_answered(production: Stack) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(production.register) for _ in range(20)]
        while not any(answer.done() for answer in answers):
            time.sleep(0.01)
        begin = time.monotonic()
        production.compose("stop", "auth")
        took = time.monotonic() - begin
        assert [answer.result().status_code for answer in answers] == [201] * 20

    assert took < 10
    assert production.inspect("auth", ".State.ExitCode") in ("0", "143")
    production.compose("start", "auth")
    print(f"\nserves {production.wait_for(200):.1f} s after its start")  # noqa: T201 — for the README
