"""Requests for a model that the client did not choose: what it refuses goes, every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.adapt import adapt_chat, adapt_messages
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget
from tests.property.documents import VALUES, objects, read, spelled, strings

OLD = MessagesTarget(thinking="", effort=False)
BUDGET = MessagesTarget(thinking="budget", effort=False)
NEW = MessagesTarget(thinking="adaptive", sampling=False)
REASONING = ChatTarget(max_tokens="max_completion_tokens", reasoning_effort=True, sampling="never")
SOMETIMES = ChatTarget(reasoning_effort=True, sampling="unthinking")
NO_TOOLS = ChatTarget(max_tokens="max_completion_tokens", reasoning_effort=True, tools_need_no_reasoning=True)
SIMPLE = ChatTarget(stream_options=False)
PICKY = ChatTarget(user=False, parallel_tool_calls=False)
OPUS = MessagesTarget(unthinking="", xhigh=True, prefill=False, forced_tools=False)
SONNET = MessagesTarget(unthinking="between_tools", xhigh=True)
OFF: dict[str, Any] = {"thinking": {"type": "disabled"}}
LEAST: dict[str, Any] = {"thinking": {"type": "between_tools"}}
HI = [{"role": "user", "content": "hi"}]
CLAUDE_CODE = {
    "thinking": {"type": "adaptive", "display": "updates"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
}


def chat(body: dict[str, Any], target: ChatTarget) -> tuple[dict[str, Any], tuple[str, ...]]:
    raw, dropped = adapt_chat(json.dumps(body).encode(), body, target)
    return json.loads(raw), dropped


def messages(body: dict[str, Any], target: MessagesTarget) -> tuple[dict[str, Any], tuple[str, ...]]:
    raw, dropped = adapt_messages(json.dumps(body).encode(), body, target)
    return json.loads(raw), dropped


@pytest.mark.parametrize(
    ("body", "target", "adapted", "dropped"),
    [
        ({"max_tokens": 5}, REASONING, {"max_completion_tokens": 5}, ()),
        ({"max_tokens": 5, "max_completion_tokens": 6}, REASONING, {"max_completion_tokens": 6}, ()),
        ({"max_completion_tokens": 5}, SIMPLE, {"max_tokens": 5}, ()),
        ({"max_tokens": 5, "temperature": 0.5}, SIMPLE, {"max_tokens": 5, "temperature": 0.5}, ()),
        ({"temperature": 0.5, "top_p": 1}, REASONING, {}, ("temperature",)),
        ({"reasoning_effort": "high"}, REASONING, {"reasoning_effort": "high"}, ()),
        ({"reasoning_effort": "high"}, SIMPLE, {}, ("reasoning_effort",)),
        ({"temperature": 0}, SOMETIMES, {"temperature": 0}, ()),
        ({"temperature": 0, "reasoning_effort": "low"}, SOMETIMES, {"reasoning_effort": "low"}, ("temperature",)),
        ({"reasoning_effort": "none"}, SIMPLE, {}, ()),
        ({"tools": [{}]}, NO_TOOLS, {"reasoning_effort": "none", "tools": [{}]}, ()),
        (
            {"tools": [{}], "reasoning_effort": "low"},
            NO_TOOLS,
            {"tools": [{}], "reasoning_effort": "none"},
            ("reasoning_effort",),
        ),
        ({"reasoning_effort": "low"}, NO_TOOLS, {"reasoning_effort": "low"}, ()),
        ({"stream_options": {"include_usage": True}}, SIMPLE, {}, ()),
        ({"user": "u", "parallel_tool_calls": False}, PICKY, {}, ("parallel_tool_calls", "user")),
        ({"parallel_tool_calls": True}, PICKY, {}, ()),
    ],
)
def test_chat(body: dict[str, Any], target: ChatTarget, adapted: dict[str, Any], dropped: tuple[str, ...]) -> None:
    assert chat({"model": "m", **body}, target) == ({"model": "m", **adapted}, dropped)


@pytest.mark.parametrize(
    ("body", "target", "adapted", "dropped"),
    [
        (CLAUDE_CODE, NEW, CLAUDE_CODE, ()),
        (CLAUDE_CODE, BUDGET, {}, ("context_management", "output_config.effort", "thinking")),
        (CLAUDE_CODE, OLD, {}, ("context_management", "output_config.effort", "thinking")),
        ({"thinking": {"type": "disabled"}}, OLD, {}, ()),
        ({"thinking": {"type": "disabled"}}, NEW, {"thinking": {"type": "disabled"}}, ()),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            BUDGET,
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            (),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            NEW,
            {"thinking": {"type": "adaptive"}},
            ("thinking.budget_tokens",),
        ),
        (
            {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}}},
            OLD,
            {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
            ("output_config.effort",),
        ),
        ({"temperature": 1, "top_k": 1, "top_p": 0.3}, NEW, {}, ("top_k", "top_p")),
        ({"temperature": 0.2}, OLD, {"temperature": 0.2}, ()),
        (OFF, OPUS, {}, ("thinking",)),
        (OFF, SONNET, LEAST, ("thinking",)),
        (LEAST, SONNET, LEAST, ()),
        (LEAST, BUDGET, OFF, ("thinking",)),
        (LEAST, OLD, {}, ("thinking",)),
        ({"output_config": {"effort": "xhigh"}}, SONNET, {"output_config": {"effort": "xhigh"}}, ()),
        ({"output_config": {"effort": "xhigh"}}, NEW, {"output_config": {"effort": "high"}}, ("output_config.effort",)),
        (
            {**LEAST, "output_config": {"effort": "max"}},
            SONNET,
            {**LEAST, "output_config": {"effort": "high"}},
            ("output_config.effort",),
        ),
        ({"tool_choice": {"type": "any"}}, OPUS, {"tool_choice": {"type": "auto"}}, ("tool_choice",)),
        (
            {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
            OPUS,
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            ("tool_choice",),
        ),
        (
            {"tool_choice": {"type": "any", "disable_parallel_tool_use": "\ud800"}},
            OPUS,
            {"tool_choice": {"type": "auto"}},
            ("tool_choice",),
        ),
        ({"tool_choice": {"type": "none"}}, OPUS, {"tool_choice": {"type": "none"}}, ()),
    ],
)
def test_messages(
    body: dict[str, Any], target: MessagesTarget, adapted: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    assert messages({"model": "m", **body}, target) == ({"model": "m", **adapted}, dropped)


@pytest.mark.parametrize("content", ["So", [{"type": "text", "text": "So"}], []])
def test_a_beginning_that_the_model_would_not_go_on_with_is_refused(content: Any) -> None:
    body = {"messages": [*HI, {"role": "assistant", "content": content}]}
    with pytest.raises(RequestError) as raised:
        messages(body, OPUS)
    assert (raised.value.code, raised.value.param) == ("unsupported_prefill", "messages[1]")
    assert messages(body, NEW) == (body, ())
    # What a server's own tools have paused is no beginning of ours.
    paused = {"messages": [*HI, {"role": "assistant", "content": [{"type": "web_search_tool_result"}]}]}
    assert messages(paused, OPUS) == (paused, ())


def test_the_bytes_of_a_kept_value_are_the_client_s() -> None:
    raw = b'{"model":"m", "max_tokens" :  12e0, "output_config":{ "x":1e5 ,"effort":"low", "y":"\\ud83d"} }'
    body = {"model": "m", "max_tokens": 12.0, "output_config": {"x": 1e5, "effort": "low", "y": "\ud83d"}}
    out, _ = adapt_messages(raw, body, OLD)
    assert out == b'{"model":"m", "max_tokens" :  12e0, "output_config":{ "x":1e5 , "y":"\\ud83d"} }'
    out, _ = adapt_chat(raw, body, REASONING)
    assert out.startswith(b'{"model":"m", "max_completion_tokens":12e0, "output_config":{ "x":1e5 ,')


def test_where_nothing_is_refused_the_bytes_are_the_same_object() -> None:
    raw = b'{"model":"m","max_tokens":1,"thinking":{"type":"adaptive"}}'
    assert adapt_messages(raw, json.loads(raw), MessagesTarget())[0] is raw
    assert adapt_chat(raw, json.loads(raw), ChatTarget())[0] is raw


FIELDS = ("max_tokens", "max_completion_tokens", "temperature", "thinking", "output_config", "reasoning_effort")


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    keys = st.sampled_from(FIELDS).flatmap(spelled) | strings()
    return draw(objects(draw(st.lists(st.tuples(keys, VALUES), min_size=1, max_size=6))))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(bodies(), st.sampled_from([OLD, BUDGET, NEW]), st.sampled_from([REASONING, NO_TOOLS, SIMPLE]))
def test_whatever_it_says_every_other_member_keeps_its_bytes(
    raw: bytes, target: MessagesTarget, chat_target: ChatTarget
) -> None:
    body = json.loads(raw)
    known = {*FIELDS, "tools", "context_management", "top_p", "top_k", "stream_options"}
    before = [(part.key, part.value) for part in read(raw).parts if part.key not in known]
    for out in (adapt_messages(raw, body, target)[0], adapt_chat(raw, body, chat_target)[0]):
        assert [(part.key, part.value) for part in read(out).parts if part.key not in known] == before
        json.loads(out)
