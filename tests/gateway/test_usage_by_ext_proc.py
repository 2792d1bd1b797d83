"""`usage: ext_proc`, for an Envoy that cannot count tokens: the same figures, read in Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from tests.support.answers import CHAT, CHAT_EVENTS, DONE, MESSAGE_EVENTS, as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running
from tests.support.upstream import Answer, Received, Upstream

USER = [{"role": "user", "content": "hello"}]
BODY = {"model": "aion-auto", "messages": USER, "max_tokens": 50, "stream": True}


@pytest.fixture(scope="module")
def by_ext_proc(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = two_providers(provider, gateway={"usage": "ext_proc"})
    with running(tmp_path_factory.mktemp("ext_proc"), config) as gateway:
        assert b"ai_protocol_manager" not in (gateway.run_dir / "listeners.json").read_bytes()
        yield gateway


def test_streams_and_json_have_their_exact_cost(by_ext_proc: Gateway, provider: Upstream) -> None:
    provider.answer = as_asked
    chat = by_ext_proc.post("/v1/chat/completions", BODY)
    assert chat.content == b"".join([*CHAT_EVENTS, DONE])
    messages = by_ext_proc.post("/v1/messages", BODY)
    assert messages.content == b"".join(MESSAGE_EVENTS)
    whole = by_ext_proc.post("/v1/chat/completions", BODY | {"stream": False})
    assert whole.content == CHAT
    for answer, reasoning, cost in ((chat, 50, 720_000), (whole, 50, 720_000)):
        row = by_ext_proc.row(answer.headers["x-request-id"])
        assert (row.usage.input_tokens, row.usage.reasoning_tokens, row.estimated) == (1000, reasoning, False)
        assert row.cost_nano == cost
    row = by_ext_proc.row(messages.headers["x-request-id"])
    assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (1000, 200, False)
    assert (row.usage.cache_read_tokens, row.usage.cache_write_tokens) == (400, 100)


def _always(answer: Answer, _: Received) -> Answer:
    return answer


def test_a_cut_stream_has_what_the_provider_had_said(by_ext_proc: Gateway, provider: Upstream) -> None:
    held = Answer(content_type="text/event-stream", chunks=[*MESSAGE_EVENTS[:4], threading.Event()])
    provider.answer = partial(_always, held)
    content = json.dumps(BODY)
    with httpx.stream("POST", by_ext_proc.url + "/v1/messages", content=content, timeout=30) as answer:
        seen = b""
        for chunk in answer.iter_raw():
            seen += chunk
            if len(seen) >= sum(map(len, MESSAGE_EVENTS[:4])):
                break
    provider.answer = as_asked
    row = by_ext_proc.row(answer.headers["x-request-id"])
    assert (row.outcome, row.estimated) == ("cut", True)
    # message_start had told the input; the output is estimated from what went by
    assert (row.usage.input_tokens, row.usage.cache_read_tokens) == (1000, 400)
    assert 0 < row.usage.output_tokens <= 50
