"""What one worker has learned of a provider all of them know: two workers, and requests that each of them decides."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.test_workers import BODY, Half, halves_on_every_worker, replaced
from tests.gateway.test_backends import HELLO, model_of, provider_of
from tests.support.answers import MESSAGE_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Answer, Received, Upstream

FIRST_CHOICE, SECOND_CHOICE = "gpt-small", "claude-small"  # of tier 1


@pytest.fixture
def provider() -> Iterator[Upstream]:
    with Upstream(as_asked) as upstream:
        yield upstream


@pytest.fixture
def gateway(provider: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    with running(tmp_path, two_providers(provider), None, "--workers", "2") as running_gateway:
        yield running_gateway


def ill(provider: Upstream, answer: Answer) -> None:
    """From now on the first choice answers so."""

    def by_model(request: Received) -> Answer:
        return answer if json.loads(request.body)["model"] == FIRST_CHOICE else as_asked(request)

    provider.answer = by_model


def fail(gateway: Gateway, times: int) -> float:
    """Requests that name the model; when the last answer came."""
    for _ in range(times):
        assert gateway.post("/v1/chat/completions", {"model": FIRST_CHOICE, "messages": HELLO}).status_code >= 400
    return time.monotonic()


def served_by(halves: list[Half]) -> set[str]:
    """By whom requests are served, at the first attempt. Each worker already has the first half of some of them."""
    served = set()
    for half in halves:
        connection = half._connection
        connection.send(BODY[20:])
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["x-aion-attempts"] == "1"
        served.add(answer.headers["x-aion-model"])
        connection.close()
    return served


def test_a_model_that_is_down_is_avoided_by_every_worker(gateway: Gateway, provider: Upstream) -> None:
    assert served_by(halves_on_every_worker(gateway)) == {FIRST_CHOICE}
    ill(provider, Answer(status=503))
    halves = halves_on_every_worker(gateway)
    at = fail(gateway, 3)
    wait_for(lambda: model_of(gateway, "openai", FIRST_CHOICE)["status"] == "down", 1 - (time.monotonic() - at))
    assert served_by(halves) == {SECOND_CHOICE}
    assert model_of(gateway, "openai", "gpt-mid")["status"] == "healthy"

    # One success, of whoever named it, and all of them go there again.
    provider.answer = as_asked
    body = {"model": FIRST_CHOICE, "messages": HELLO}
    assert gateway.post("/v1/chat/completions", body).status_code == 200
    wait_for(lambda: model_of(gateway, "openai", FIRST_CHOICE)["status"] == "healthy", 1)
    assert served_by(halves_on_every_worker(gateway)) == {FIRST_CHOICE}


def test_a_pause_is_kept_by_every_worker(gateway: Gateway, provider: Upstream) -> None:
    ill(provider, Answer(status=429, headers=(("retry-after", "30"),)))
    halves = halves_on_every_worker(gateway)
    at = fail(gateway, 1)
    wait_for(lambda: model_of(gateway, "openai", FIRST_CHOICE)["status"] == "cooling", 1 - (time.monotonic() - at))
    assert 25 < model_of(gateway, "openai", FIRST_CHOICE)["retry_in_seconds"] <= 30
    assert served_by(halves) == {SECOND_CHOICE}


def test_a_key_that_is_not_taken_puts_the_whole_provider_out(gateway: Gateway, provider: Upstream) -> None:
    ill(provider, Answer(status=401))
    halves = halves_on_every_worker(gateway)
    fail(gateway, 3)
    wait_for(lambda: provider_of(gateway, "openai")["status"] == "down", 1)
    assert served_by(halves) == {SECOND_CHOICE}
    assert {model["status"] for model in provider_of(gateway, "openai")["models"]} == {"down"}
    answer = gateway.post("/v1/chat/completions", {"model": "aion-escalate", "messages": HELLO})
    assert answer.headers["x-aion-model"] == "claude-large"


@pytest.mark.parametrize("module", ["extproc.worker", "api.server"])
def test_who_is_started_anew_does_not_start_blind(gateway: Gateway, provider: Upstream, module: str) -> None:
    ill(provider, Answer(status=503))
    fail(gateway, 3)
    wait_for(lambda: model_of(gateway, "openai", FIRST_CHOICE)["status"] == "down", 1)
    pid = gateway.children(module)[0]
    os.kill(pid, signal.SIGKILL)
    if module == "extproc.worker":
        wait_for(replaced(gateway, pid))
        assert served_by(halves_on_every_worker(gateway)) == {SECOND_CHOICE}
    else:
        wait_for(lambda: _status_after_restart(gateway) == "down")


def _status_after_restart(gateway: Gateway) -> str:
    answer = httpx.get(f"{gateway.url}/v1/backends", timeout=10)
    if answer.status_code != 200:
        return ""
    return str(model_of(gateway, "openai", FIRST_CHOICE)["status"])


class Streams:
    """Streams that a first choice has failed at, and that the second choice holds open until `end`."""

    def __init__(self, gateway: Gateway, provider: Upstream, answer: Answer) -> None:
        self._gateway = gateway
        self._gate = threading.Event()
        self._open = contextlib.ExitStack()
        self._answers: list[httpx.Response] = []
        held = Answer(content_type="text/event-stream", chunks=[*MESSAGE_EVENTS[:4], self._gate, *MESSAGE_EVENTS[4:]])

        def by_model(request: Received) -> Answer:
            body = json.loads(request.body)
            if body["model"] == FIRST_CHOICE:
                return answer
            return held if body.get("stream") else as_asked(request)

        provider.answer = by_model

    def begin(self, attempts: int) -> None:
        body = {"model": "aion-auto", "messages": HELLO, "stream": True}
        url = f"{self._gateway.url}/v1/chat/completions"
        answer = self._open.enter_context(httpx.stream("POST", url, json=body, timeout=30))
        assert answer.status_code == 200
        assert (answer.headers["x-aion-model"], answer.headers["x-aion-attempts"]) == (SECOND_CHOICE, str(attempts))
        self._answers.append(answer)

    def end(self) -> list[str]:
        """The ids of the requests."""
        self._gate.set()
        for answer in self._answers:
            assert "[DONE]" in b"".join(answer.iter_bytes()).decode()
        self._open.close()
        return [answer.headers["x-request-id"] for answer in self._answers]


def counted(gateway: Gateway, provider: str, model: str) -> tuple[int, int]:
    """Requests and failures."""
    found = model_of(gateway, provider, model)
    return found["requests"], found["failures"]


def learned_from(gateway: Gateway, model: str) -> bool:
    """Ask for it by name; whether such a request has been heard of. Then what was told before has been, too."""
    assert gateway.post("/v1/chat/completions", {"model": model, "messages": HELLO}).status_code == 200
    return counted(gateway, "openai", model)[0] > 0


WAYS = [(Answer(status=503), 503, "provider_503"), (Answer(hang_up_first=True), 0, "upstream_closed")]


@pytest.mark.parametrize(("answer", "status", "error"), WAYS, ids=[error for *_, error in WAYS])
def test_a_failed_attempt_is_known_while_its_request_goes_on(
    gateway: Gateway, provider: Upstream, answer: Answer, status: int, error: str
) -> None:
    halves = halves_on_every_worker(gateway)
    streams = Streams(gateway, provider, answer)
    for number in range(1, 4):
        streams.begin(2)
        wait_for(lambda: counted(gateway, "openai", FIRST_CHOICE) == (number, number), 2)  # noqa: B023
    assert model_of(gateway, "openai", FIRST_CHOICE)["status"] == "down"
    assert served_by(halves) == {SECOND_CHOICE}
    streams.begin(1)

    ids = streams.end()
    wait_for(lambda: counted(gateway, "anthropic", SECOND_CHOICE) == (4 + len(halves), 0))
    # What the end of these requests taught is known now, and the failures were no part of it.
    assert counted(gateway, "openai", FIRST_CHOICE) == (3, 3)
    assert model_of(gateway, "openai", FIRST_CHOICE)["success_rate"] == 0
    assert [gateway.row(request_id).attempts for request_id in ids] == [2, 2, 2, 1]
    failed = [[(a.number, a.model, a.status, a.error) for a in gateway.attempts(one)] for one in ids]
    assert failed == [[(1, FIRST_CHOICE, status, error)]] * 3 + [[]]


def test_who_keeps_the_ledger_after_another_does_not_tell_health_again(gateway: Gateway, provider: Upstream) -> None:
    streams = Streams(gateway, provider, Answer(status=503))
    streams.begin(2)
    wait_for(lambda: counted(gateway, "openai", FIRST_CHOICE) == (1, 1), 2)
    (pid,) = gateway.children("extproc.ledger_process")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: learned_from(gateway, "gpt-mid"))  # there is a successor, and Envoy has found it
    (request_id,) = streams.end()
    wait_for(lambda: counted(gateway, "anthropic", SECOND_CHOICE) == (1, 0))
    # The attempt's row is made of what a worker has kept, which nobody learns from.
    wait_for(lambda: gateway.attempts(request_id))
    assert gateway.row(request_id).attempts == 2
    wait_for(lambda: learned_from(gateway, "gpt-large"))
    assert counted(gateway, "openai", FIRST_CHOICE) == (1, 1)


def test_a_later_provider_that_no_way_leads_to_is_passed_and_blamed(provider: Upstream, tmp_path: Path) -> None:
    config = two_providers(provider)
    config["providers"]["anthropic"]["base_url"] = "http://nowhere.invalid"
    with running(tmp_path, config) as gateway:
        ill(provider, Answer(status=503))
        answer = gateway.post("/v1/chat/completions", {"model": "aion-auto", "messages": HELLO})
        assert (answer.status_code, answer.headers["x-aion-attempts"]) == (200, "3")
        row = gateway.row(answer.headers["x-request-id"])
        assert (row.model, row.attempts) == ("gpt-mid", 3)
        first, second = gateway.attempts(row.request_id)
        assert (first.model, first.error) == (FIRST_CHOICE, "provider_503")
        assert (second.model, second.error, second.status) == (SECOND_CHOICE, "no_healthy_upstream", 0)
        wait_for(lambda: provider_of(gateway, "anthropic")["status"] == "down", 1)
        assert counted(gateway, "openai", FIRST_CHOICE) == (1, 1)
        assert model_of(gateway, "openai", "gpt-mid")["status"] == "healthy"
