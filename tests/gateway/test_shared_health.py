"""What one worker has learned of a provider all of them know: two workers, and requests that each of them decides."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.test_workers import BODY, Half, halves_on_every_worker, replaced
from tests.gateway.test_backends import HELLO, model_of, provider_of
from tests.support.answers import as_asked
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
