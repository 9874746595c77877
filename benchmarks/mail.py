"""How fast a worker sends mails, and what that costs `/me`: `make bench-mail`.

The SMTP server is another process. Calm and busy alternate, as the noise of the machine is larger than most
differences; on fewer cores than five, the client, PostgreSQL and the SMTP server take the worker's.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx

from app import devdb
from app.config import Settings
from app.container import Container
from app.services.delivery.mail_queue import MailQueue
from app.services.delivery.mail_templates import MAILS
from app.services.delivery.mailer import Mail
from benchmarks.bench import PASSWORD, READER, Server, pairs, run, serve, verdict
from benchmarks.client import Request, get

NUMBER = int(os.environ.get("MAILS", "10000"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = 3.0
BESIDE = 2000
"""Mails that leave while /me is measured: more than a worker sends in that time."""
KIND = "password_reset"
_SMTP_SERVER = """
import sys
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1]), ready_timeout=60).start()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def mail_server() -> Iterator[str]:
    """Gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _SMTP_SERVER, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"smtp://127.0.0.1:{port}?starttls=off"


def queue(container: Container, number: int) -> None:
    user_id = container.admin.find(READER).id
    with container.resources.requests.transaction() as transaction:
        for index in range(number):
            mail = Mail(KIND, user_id, f"reader{index}@example.com", None, MAILS[KIND])
            container.mailer.send(transaction, mail)


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def measure(service: Server, container: Container, requests: list[Request]) -> None:
    outbox = MailQueue(container.resources.requests, container.clock)

    def left() -> int:
        return outbox.state().length

    ratios = []
    run(service, requests, 1, pause=0.02)
    for _ in range(ROUNDS):
        calm = run(service, requests, SECONDS, pause=0.02)
        queue(container, BESIDE)
        until(lambda: left() < BESIDE)
        busy, at_the_end = run(service, requests, SECONDS, pause=0.02), left()
        until(lambda: not left())
        print(f"me: p99 {calm.p99:.2f} ms calm, {busy.p99:.2f} ms while mails leave ({at_the_end} left)")
        ratios.append(busy.p99 / calm.p99)
    queue(container, NUMBER)
    began, cpu = time.monotonic(), service.cpu_seconds()
    until(lambda: not left())
    seconds, cpu = time.monotonic() - began, service.cpu_seconds() - cpu
    rate, each = NUMBER / seconds, cpu / NUMBER * 1000
    print(f"{NUMBER} mails in {seconds:.1f} s, {rate:.0f} a second, {each:.2f} ms of CPU each")
    print()
    verdict("seconds for 10,000 mails", seconds / NUMBER * 10_000, 60, at_least=False)
    verdict("me p99 while mails leave / calm", median(ratios), 1.2, at_least=False)


def main() -> None:
    data = Path(tempfile.mkdtemp(prefix="kanban-auth-"))
    with mail_server() as smtp_url:
        environment = {
            "ENVIRONMENT": "production",
            "DATABASE_URL": devdb.attach(data),
            "SECRET_KEY": secrets.token_hex(32),
            "SMTP_URL": smtp_url,
            "MAIL_FROM": "Kanban <no-reply@example.com>",
            "PUBLIC_URL": "https://auth.example.com",
        }
        os.environ.update(environment)
        subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], check=True)
        container = Container(Settings())
        with serve("app.main:app", environment) as service:
            body = {"email": READER, "password": PASSWORD}
            httpx.post(service.url("/api/v1/users/"), json=body, timeout=10).raise_for_status()
            measure(service, container, [get("/api/v1/me", pairs(service, READER, 1)[0]["access_token"])] * 4)
        container.close()
    devdb.detach(data)


if __name__ == "__main__":
    main()
