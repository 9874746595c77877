"""A real Chromium, without a window, driven by its DevTools protocol over two pipes."""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.database.waiting import is_ready
from tests.support.waiting import PATIENCE_SECONDS, eventually

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync --no-proxy-server"
    ' --host-resolver-rules="MAP board.test 127.0.0.1"'
)


class Browser:
    """One command at a time, but for those that `together` sends; what happens meanwhile is in `events`."""

    def __init__(self, to_chromium: Any, from_chromium: Any) -> None:
        self._to, self._from = to_chromium, from_chromium
        self._last = 0
        self._rest = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        return self._answer(self._send(method, session, parameters))

    def tab(self, url: str) -> "Tab":
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable", session)
        tab = Tab(self, session)
        tab.go(url)
        return tab

    def together(self, tabs: "list[Tab]", expression: str) -> list[Any]:
        numbers = [self._send("Runtime.evaluate", tab.session, _awaited(expression)) for tab in tabs]
        return [_value(self._answer(number)) for number in numbers]

    def _send(self, method: str, session: str | None, parameters: dict[str, Any]) -> int:
        self._last += 1
        command = {"id": self._last, "method": method, "params": parameters}
        self._to.write(json.dumps(command | ({"sessionId": session} if session else {})).encode() + b"\0")
        return self._last

    def _answer(self, number: int) -> Any:
        while number not in self._answers:
            self.receive()
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer["result"]

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert is_ready(self._from.fileno(), select.POLLIN, PATIENCE_SECONDS), "Chromium says nothing"
            piece = os.read(self._from.fileno(), 65_536)
            assert piece, "Chromium has ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self.events.append(message)
        return message


class Tab:
    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self.session = session

    def go(self, url: str) -> None:
        """Until it has loaded."""
        self.go_on(lambda: self._call("Page.navigate", url=url))

    def go_on(self, act: Callable[[], object]) -> None:
        """Until the page that `act` leads to has loaded."""
        seen = len(self._browser.events)
        act()
        while not any(self._is_mine(event, "Page.loadEventFired") for event in self._browser.events[seen:]):
            self._browser.receive()

    def run(self, expression: str) -> Any:
        """The value of the expression, once it is there if it is a promise."""
        return self._browser.together([self], expression)[0]

    def wait_for(self, condition: str) -> None:
        look = f"const look = () => ({condition}) ? done() : setTimeout(look, 50)"
        self.run(f"new Promise((done) => {{ {look}; look() }})")

    def type(self, text: str) -> None:
        """Where the focus is, once it is in a field. The page has it a moment after the browser."""
        eventually(lambda: self.run("document.activeElement.matches('input, textarea')"))
        self._call("Input.insertText", text=text)
        eventually(lambda: self.run("document.activeElement.value").endswith(text))

    def press_enter(self) -> None:
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self._call("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
        self._call("Input.dispatchKeyEvent", type="keyUp", **enter)

    def resize(self, width: int, *, dark: bool) -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def requested(self) -> list[str]:
        """The URLs that its pages asked for, without those that their policy has refused until now."""
        self.run("null")  # as it hears of what has happened
        failed = self._seen("Network.loadingFailed")
        refused = {each["requestId"] for each in failed if each.get("blockedReason") == "csp"}
        sent = self._seen("Network.requestWillBeSent")
        return [each["request"]["url"] for each in sent if each["requestId"] not in refused]

    def _seen(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self._browser.events if self._is_mine(event, method)]

    def _call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self.session, **parameters)

    def _is_mine(self, event: dict[str, Any], method: str) -> bool:
        return event["method"] == method and event.get("sessionId") == self.session


def _awaited(expression: str) -> dict[str, Any]:
    return {"expression": expression, "awaitPromise": True, "returnByValue": True}


def _value(result: dict[str, Any]) -> Any:
    assert "exceptionDetails" not in result, result["exceptionDetails"]
    return result["result"].get("value")


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    assert PROGRAM
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()
    command = f'exec "$0" {_FLAGS} --user-data-dir="$1" 3<&{read_commands} 4>&{write_answers}'
    process = subprocess.Popen(
        ["bash", "-c", command, PROGRAM, str(folder / "profile")],  # sh knows descriptors up to 9
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        with os.fdopen(write_commands, "wb", buffering=0) as to, os.fdopen(read_answers, "rb") as answers:
            yield Browser(to, answers)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
