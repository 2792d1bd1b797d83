"""What is found plain is never refused by a translation, whatever the target; and what agents send is plain."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.request import Request, parse
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.screening import is_plain
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget
from benchmarks.kinds import KINDS
from tests.property import test_chat_conversations as chat
from tests.property import test_messages_conversations as messages
from tests.property.documents import requests
from tests.support.agents import chat_agent, messages_agent

Targets = tuple[MessagesTarget, ChatTarget]
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
OTHER = {Endpoint.CHAT: Endpoint.MESSAGES, Endpoint.MESSAGES: Endpoint.CHAT}
BOTH = st.sampled_from(list(OTHER))
# Of whom all is refused that any may refuse.
POOR = (
    MessagesTarget(image_urls=False, prefill=False, forced_tools=False, longest_tool_name=64),
    ChatTarget(image_urls=False, reasoning_effort=True, cache_control=True),
)
TARGETS = st.tuples(chat.TARGETS, messages.TARGETS | messages.TARGETS.map(lambda one: replace(one, image_urls=False)))
TARGETS |= st.just(POOR)
ODD_ARGUMENTS = st.sampled_from(['{"a":NaN,"e":"\\ud83d"}', '{"a":' * 400 + "1" + "}" * 400, "{", "[1]", ""])
ODD_VALUES = chat.JUNK | messages.JUNK | messages.KINDS | chat.TEXT | chat.PART | ODD_ARGUMENTS
# Members that a request may have anywhere, and those that it has at its top.
ODD_NAMES = messages.EXTRAS | chat.FIELDS | st.sampled_from(
    [
        *("audio", "refusal", "function_call", "tool_calls", "type", "max_tokens", "max_completion_tokens", "thinking"),
        *("compaction", "thread", "output_config", "output_format", "metadata", "stop_sequences", "system", "anyOf"),
    ]
)

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
FUNCTION = {"type": "function", "function": {"name": "f"}}
HELLO = [{"role": "user", "content": "hello"}]
SHORT: dict[str, Any] = {"model": "aion-auto", "max_tokens": 50, "messages": HELLO}


def check(raw: bytes, endpoint: Endpoint, targets: Targets) -> None:
    try:
        request = parse(raw, endpoint)
    except RequestError:
        return
    plain = is_plain(request, OTHER[endpoint])
    event("plain" if plain else "odd")
    if not plain:
        return
    to_other(request, targets)


def to_other(request: Request, targets: Targets) -> None:
    """Raises RequestError."""
    if request.endpoint is Endpoint.CHAT:
        to_messages(request, "claude", targets[0])
    else:
        to_chat(request, "gpt", targets[1])


def changed(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """With other values, or more members, in one place or two."""
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from([(), *messages.places(body)]))
        odd = draw(ODD_VALUES)
        extra = {draw(ODD_NAMES): odd} if not path or draw(st.booleans()) else None
        body = messages.change(body, path, odd, extra)
    return body


@st.composite
def odd_agents(draw: st.DrawFn) -> tuple[bytes, Endpoint]:
    endpoint = draw(BOTH)
    body = chat_agent(2, 2) if endpoint is Endpoint.CHAT else messages_agent(2, 2)
    return json.dumps(changed(draw, body)).encode(), endpoint


@settings(QUICK, max_examples=2000)
@given(odd_agents(), TARGETS)
def test_one_thing_odd_about_an_agent(
    sent: tuple[bytes, Endpoint], targets: Targets
) -> None:
    check(*sent, targets)


@settings(QUICK, max_examples=1500)
@given(st.dictionaries(ODD_NAMES, ODD_VALUES, min_size=1, max_size=2), BOTH, TARGETS)
def test_odd_members(more: dict[str, Any], endpoint: Endpoint, targets: Targets) -> None:
    check(json.dumps({**SHORT, **more}).encode(), endpoint, targets)


@settings(QUICK, max_examples=300)
@given(chat.conversations(), TARGETS)
def test_chat_conversations(body: dict[str, Any], targets: Targets) -> None:
    check(json.dumps(body).encode(), Endpoint.CHAT, targets)


@settings(QUICK, max_examples=300)
@given(messages.bodies(), TARGETS)
def test_messages_conversations(body: dict[str, Any], targets: Targets) -> None:
    check(json.dumps(body).encode(), Endpoint.MESSAGES, targets)


@settings(QUICK, max_examples=300)
@given(requests(), BOTH, TARGETS)
def test_documents_of_all_spellings(
    raw: bytes, endpoint: Endpoint, targets: Targets
) -> None:
    check(raw, endpoint, targets)


def request_of(body: dict[str, Any], endpoint: Endpoint) -> Request:
    return parse(orjson.dumps(body), endpoint)


@pytest.mark.parametrize("endpoint", list(OTHER))
def test_what_clients_usually_send_is_plain(endpoint: Endpoint) -> None:
    agent = chat_agent if endpoint is Endpoint.CHAT else messages_agent
    for body in (SHORT, agent(), agent(0), agent(rounds=20, tools=30)):
        assert is_plain(request_of(body, endpoint), OTHER[endpoint])
    for kind in KINDS.values():
        if (kind.provider == "openai") == (endpoint is Endpoint.CHAT):
            assert is_plain(parse(kind.body(1), endpoint), OTHER[endpoint])


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"audio": {"voice": "x", "format": "mp3"}},
        {"modalities": ["audio"]},
        {"max_tokens": 0},
        {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        {"user": 5},
        {"functions": [{"name": ""}]},
        {"function_call": {"name": "g"}},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test"}}]}]},
        {"messages": [*HELLO, {"role": "assistant", "content": "{"}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}, *HELLO]},
        {"messages": [{"role": "assistant", "tool_calls": 0}, *HELLO]},
    ],
)
def test_what_may_be_refused_is_not_plain(more: dict[str, Any]) -> None:
    request = request_of({**SHORT, **more}, Endpoint.CHAT)
    assert not is_plain(request, Endpoint.MESSAGES)
    assert is_plain(request, Endpoint.CHAT)
    with pytest.raises(RequestError):
        to_other(request, POOR)


@pytest.mark.parametrize(
    "more",
    [
        {"thread": {"type": "continue"}},
        {"compaction": {}},
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
        {"messages": [{"role": "assistant", "content": []}]},
        {"messages": [*HELLO, {"role": "assistant", "content": [{**USE, "name": ""}]}]},
        {"tools": [{"name": "f", "input_schema": {}, "description": 1}]},
        {"thinking": {"type": "enabled", "budget_tokens": "many"}},
    ],
)
def test_what_a_chat_server_may_refuse_is_not_plain(more: dict[str, Any]) -> None:
    request = request_of({**SHORT, **more}, Endpoint.MESSAGES)
    assert not is_plain(request, Endpoint.CHAT)
    with pytest.raises(RequestError):
        to_other(request, POOR)


def test_a_beginning_of_the_answer_is_not_plain_for_any_model_of_anthropic_s() -> None:
    begun = [*HELLO, {"role": "assistant", "content": "{"}]
    for endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
        assert is_plain(request_of(SHORT, endpoint), endpoint)
        assert not is_plain(request_of({**SHORT, "messages": begun}, endpoint), endpoint)
    assert is_plain(request_of({**SHORT, "messages": begun}, Endpoint.CHAT), Endpoint.CHAT)


SCHEMA = {"type": "object", "default": "@"}
MARKED = {"type": "text", "text": "x", "cache_control": {"type": "@"}}


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        (Endpoint.CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]}),
        (Endpoint.CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}),
        (Endpoint.MESSAGES, {"tools": [{"name": "f", "input_schema": SCHEMA}]}),
        (Endpoint.MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        (Endpoint.MESSAGES, {"output_format": {"type": "json_schema", "schema": SCHEMA}}),
        (Endpoint.MESSAGES, {"system": [MARKED]}),
        (Endpoint.MESSAGES, {"messages": [{"role": "user", "content": [MARKED]}]}),
        (Endpoint.MESSAGES, {"messages": [*HELLO, {"role": "assistant", "content": [MARKED]}]}),
        (Endpoint.MESSAGES, {"messages": [*HELLO, {"role": "assistant", "content": [{**USE, "input": SCHEMA}]}]}),
    ],
)
def test_what_is_too_deep_to_be_written_is_not_plain(endpoint: Endpoint, more: dict[str, Any]) -> None:
    raw = orjson.dumps({**SHORT, **more})
    assert is_plain(parse(raw, endpoint), OTHER[endpoint])
    deep = parse(raw.replace(b'"@"', b'{"a":' * 990 + b"1" + b"}" * 990), endpoint)
    assert not is_plain(deep, OTHER[endpoint])
    with pytest.raises(RequestError):
        to_other(deep, POOR)
