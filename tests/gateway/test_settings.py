"""Settings of the gateway that change what a client or the ledger sees."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from tests.support.answers import CHAT, CHAT_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Answer, Received, Upstream

BODY = {"model": "aion-auto", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}


@pytest.fixture(scope="module")
def set_up(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = two_providers(
        provider,
        gateway={"json_cost": "estimate", "idle_timeout": "1s"},
        routing={"tasks": {"translation": {"min_tier": 3}}},
    )
    with running(tmp_path_factory.mktemp("settings"), config) as gateway:
        yield gateway


def test_an_estimated_cost_header_leaves_the_ledger_exact(set_up: Gateway, provider: Upstream) -> None:
    provider.answer = as_asked
    # By its name: behind a chain of models that speak both APIs, a worker sees the headers of every answer.
    answer = set_up.post("/v1/chat/completions", BODY | {"model": "gpt-small"})
    assert answer.content == CHAT
    assert answer.headers["content-length"] == str(len(CHAT))  # it did not wait in Python
    assert float(answer.headers["x-aion-cost-usd"]) > 0
    row = set_up.row(answer.headers["x-request-id"])
    assert (row.cost_nano, row.estimated) == (720_000, False)
    assert answer.headers["x-aion-cost-usd"] != "0.000720"


def test_a_task_has_the_tier_that_is_set_for_it(set_up: Gateway, provider: Upstream) -> None:
    provider.answer = as_asked
    said = [{"role": "user", "content": "translate 'good morning' to Spanish"}]
    answer = set_up.post("/v1/chat/completions", BODY | {"messages": said})
    assert (answer.headers["x-aion-task"], answer.headers["x-aion-tier"]) == ("translation", "3")
    assert answer.headers["x-aion-reason"].startswith("tier 3, translation has at least tier 3")
    assert float(answer.headers["x-aion-score"]) < 0.35


def _always(answer: Answer, _: Received) -> Answer:
    return answer


def test_a_stream_in_which_nothing_moves_is_ended(set_up: Gateway, provider: Upstream) -> None:
    held = Answer(content_type="text/event-stream", chunks=[CHAT_EVENTS[0], threading.Event()])
    provider.answer = partial(_always, held)
    with (
        httpx.stream("POST", set_up.url + "/v1/chat/completions", json=BODY | {"stream": True}, timeout=20) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        answer.read()
    provider.answer = as_asked
    row = set_up.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.estimated) == ("cut", "idle_timeout", True)
