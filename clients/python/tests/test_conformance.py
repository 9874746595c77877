"""What every verifier says to the same tokens: those of clients/conformance."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from kanban_auth_verify import AccessClaims, AsyncVerifier, AuthError, Clock, Verifier

DOCUMENT = json.loads(
    Path(__file__).parents[2].joinpath("conformance/cases.json").read_text(encoding="utf-8")
)
EVERYTHING = {"audience": DOCUMENT["audience"], "shared_secret": DOCUMENT["shared_secret"]}
CASES = [(EVERYTHING, case) for case in DOCUMENT["cases"]]
CASES += [({}, case) for case in DOCUMENT["cases_without_audience_and_secret"]]


class ThatMoment(Clock):
    def now(self) -> float:
        return float(DOCUMENT["now"])


def http_client() -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=DOCUMENT["jwks"])))


def expected(case: dict[str, Any]) -> AccessClaims | str:
    if "code" in case:
        return str(case["code"])
    sid = case["claims"]["session_id"]
    return AccessClaims(**case["claims"] | {"session_id": sid and UUID(sid)})


def options(more: dict[str, Any]) -> dict[str, Any]:
    return {"issuer": DOCUMENT["issuer"], "http_client": http_client, "clock": ThatMoment(), **more}


@pytest.mark.parametrize(("more", "case"), CASES, ids=[case["name"] for _, case in CASES])
def test_each_token_is_judged_as_written_down(more: dict[str, Any], case: dict[str, Any]) -> None:
    with Verifier("http://auth.test", **options(more)) as verifier:
        try:
            answer: AccessClaims | str = verifier.verify(case["token"])
        except AuthError as error:
            answer = error.code

    assert answer == expected(case)


def test_the_async_verifier_judges_alike() -> None:
    async def judge(more: dict[str, Any], case: dict[str, Any]) -> AccessClaims | str:
        async with AsyncVerifier("http://auth.test", **options(more)) as verifier:
            try:
                return await verifier.verify(case["token"])
            except AuthError as error:
                return error.code

    async def judge_all() -> list[AccessClaims | str]:
        return [await judge(more, case) for more, case in CASES]

    assert asyncio.run(judge_all()) == [expected(case) for _, case in CASES]
