"""A chat conversation as a Messages one and back: who said what, which tools were called and what they answered."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
NAMES = st.sampled_from(["Read", "mcp__server__tool", "x_1-y"])
ARGUMENTS = st.dictionaries(
    st.text(max_size=3), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5), max_size=3
)


@st.composite
def contents(draw: st.DrawFn) -> Any:
    said = draw(st.lists(WORDS, min_size=1, max_size=3))
    return said[0] if len(said) == 1 else [{"type": "text", "text": text} for text in said]


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    if draw(st.booleans()):
        turns.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(contents())})
    count = 0
    for _ in range(draw(st.integers(1, 4))):
        turns.append({"role": "user", "content": draw(contents())})
        for _ in range(draw(st.integers(0, 2))):
            calls = []
            for _ in range(draw(st.integers(1, 3))):
                count += 1
                function = {"name": draw(NAMES), "arguments": json.dumps(draw(ARGUMENTS))}
                calls.append({"id": f"call_{count}", "type": "function", "function": function})
            said = draw(st.none() | WORDS)
            turns.append({"role": "assistant", "content": said, "tool_calls": calls})
            results = draw(st.permutations(calls))
            turns.extend({"role": "tool", "tool_call_id": call["id"], "content": draw(WORDS)} for call in results)
        if draw(st.booleans()):
            turns.append({"role": "assistant", "content": draw(WORDS)})
            turns.append({"role": "user", "content": draw(WORDS)})
    return turns


def summary(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Texts without the white space between their parts; consecutive turns of a role as one."""
    found: list[tuple[Any, ...]] = []
    for message in messages:
        content = message.get("content") or ""
        parts = [content] if isinstance(content, str) else [part["text"] for part in content]
        text = "".join("".join(parts).split())
        role = "system" if message["role"] == "developer" else message["role"]
        if role == "tool":
            found.append(("tool", message["tool_call_id"], text))
            continue
        calls = tuple(
            (call["id"], call["function"]["name"], str(json.loads(call["function"]["arguments"])))
            for call in message.get("tool_calls", ())
        )
        if found and found[-1][0] == role and role != "assistant":
            text = found.pop()[1] + text
        found.append((role, text, calls))
    return found


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(turns=conversations())
def test_roles_texts_calls_and_ids_survive(turns: list[dict[str, Any]]) -> None:
    schema = {"type": "object", "properties": {}}
    names = ("Read", "mcp__server__tool", "x_1-y")
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in names]
    body = {"model": "aion-auto", "max_tokens": 100, "messages": turns, "tools": tools, "stream": True, "stop": ["a"]}
    there = to_messages(parse(json.dumps(body).encode(), Format.OPENAI), "claude", MessagesTarget())
    back = to_chat(parse(there.body, Format.ANTHROPIC), "small", ChatTarget())
    chat = json.loads(back.body)
    assert (there.dropped, back.dropped) == ((), ())
    assert summary(chat["messages"]) == summary(turns)
    assert chat["tools"] == tools
    assert (chat["max_tokens"], chat["stream"], chat["stop"]) == (100, True, ["a"])
