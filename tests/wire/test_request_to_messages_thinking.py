"""How chat requests ask for thinking and give it back, as Anthropic's Messages API takes it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aion_extproc.wire.translate.target import MessagesTarget
from tests.wire.test_request_to_messages import (
    PLAIN,
    USER,
    call,
    calls,
    dropped,
    refused,
    result,
    sent,
    tool,
    translated,
)

BUDGET = MessagesTarget(thinking="budget", effort=False)
NONE = MessagesTarget(thinking="", effort=False)


@pytest.mark.parametrize(
    ("effort", "output", "thinks", "named"),
    [
        ("low", "low", True, False),
        ("medium", "medium", True, False),
        ("high", "high", True, False),
        ("max", "max", True, False),
        ("xhigh", "high", True, True),
        ("none", None, False, False),
        ("minimal", "low", False, True),
    ],
)
def test_effort_of_models_that_think_as_they_see_fit(
    effort: str, output: str | None, thinks: bool, named: bool
) -> None:
    got = translated(reasoning_effort=effort)
    body = orjson.loads(got.body)
    assert body.get("output_config") == (output and {"effort": output})
    assert body["thinking"] == {"type": "adaptive" if thinks else "disabled"}
    assert got.dropped == (("reasoning_effort",) if named else ())


def test_levels_that_only_some_models_take() -> None:
    newest, older = MessagesTarget(xhigh=True), MessagesTarget(max_effort=False)
    for target, effort, level, named in (
        (newest, "xhigh", "xhigh", False),
        (newest, "max", "max", False),
        (older, "max", "high", True),
    ):
        got = translated(target, reasoning_effort=effort)
        assert orjson.loads(got.body)["output_config"] == {"effort": level}
        assert got.dropped == (("reasoning_effort",) if named else ())


def test_models_that_cannot_be_told_not_to_think() -> None:
    for effort in ("none", "minimal"):
        body = sent(MessagesTarget(unthinking=""), reasoning_effort=effort)
        assert "thinking" not in body
        assert body["output_config"] == {"effort": "low"}
        body = sent(MessagesTarget(unthinking="between_tools"), reasoning_effort=effort)
        assert body["thinking"] == {"type": "between_tools"}
        assert dropped(MessagesTarget(unthinking="between_tools"), reasoning_effort=effort) == ("reasoning_effort",)


def test_effort_without_output_config() -> None:
    got = translated(MessagesTarget(effort=False), reasoning_effort="high")
    body = orjson.loads(got.body)
    assert body["thinking"] == {"type": "adaptive"}
    assert "output_config" not in body
    assert got.dropped == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget"),
    [
        ("low", 10_000, 2000),
        ("medium", 10_000, 5000),
        ("high", 10_000, 8000),
        ("max", 10_000, 8976),
        ("high", 100_000, 32_000),
        ("low", 2048, 1024),
        ("low", 2047, None),
        ("none", 10_000, None),
        ("minimal", 10_000, None),
    ],
)
def test_budgets(effort: str, max_tokens: int, budget: int | None) -> None:
    got = translated(BUDGET, reasoning_effort=effort, max_tokens=max_tokens)
    body = orjson.loads(got.body)
    assert body["max_tokens"] == max_tokens
    assert body.get("thinking") == (None if budget is None else {"type": "enabled", "budget_tokens": budget})
    assert got.dropped == (("reasoning_effort",) if max_tokens == 2047 else ())


def test_models_that_do_not_think() -> None:
    assert dropped(NONE, reasoning_effort="high") == ("reasoning_effort",)
    assert dropped(NONE, reasoning_effort="none") == ()
    assert refused(reasoning_effort="very")[1] == "reasoning_effort"


def test_thinking_is_given_up_where_it_would_be_refused() -> None:
    beginning = [USER, {"role": "assistant", "content": "So"}]
    forced: dict[str, Any] = {"tools": [tool()], "tool_choice": "required"}
    unthought: dict[str, Any] = {"messages": [USER, calls(call("a")), result("a")]}
    for target in (PLAIN, BUDGET):
        for fields in (forced, {"messages": beginning}, *([unthought] if target is BUDGET else [])):
            got = translated(target, reasoning_effort="high", **fields)
            assert "thinking" not in orjson.loads(got.body)
            assert got.dropped == ("reasoning_effort",)
    assert "thinking" in sent(reasoning_effort="high", **unthought)


def test_sampling_is_given_up_for_thinking() -> None:
    fields: dict[str, Any] = {"temperature": 0.2, "top_p": 0.5, "top_k": 5, "reasoning_effort": "high"}
    got = translated(**fields)
    assert not {"temperature", "top_p", "top_k"} & orjson.loads(got.body).keys()
    assert got.dropped == ("temperature", "top_k", "top_p")
    assert sent(top_p=0.97, reasoning_effort="high")["top_p"] == 0.97


SIGNED = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0}


@pytest.mark.parametrize(
    ("members", "blocks", "named"),
    [
        ({"reasoning_details": [SIGNED], "reasoning_content": "hm"}, [("thinking", "hm")], ()),
        (
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}, SIGNED]},
            [("redacted_thinking", "e"), ("thinking", "hm")],
            (),
        ),
        (
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "h", "index": 0},
                    {"type": "reasoning.text", "text": "m", "index": 0},
                    {"type": "reasoning.text", "signature": "s", "index": 0},
                ]
            },
            [("thinking", "hm")],
            (),
        ),
        ({"reasoning_details": [{**SIGNED, "signature": None}]}, [], ("messages[].reasoning_details",)),
        ({"reasoning_details": [{**SIGNED, "format": "google-gemini-v1"}]}, [], ("messages[].reasoning_details",)),
        ({"reasoning_details": "x"}, [], ("messages[].reasoning_details",)),
        (
            {
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "e"},
                ]
            },
            [("thinking", "hm"), ("redacted_thinking", "e")],
            (),
        ),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}, [], ("messages[].thinking_blocks",)),
        ({"reasoning_content": "hm", "reasoning": ""}, [], ("messages[].reasoning_content",)),
        ({"reasoning": "hm"}, [], ("messages[].reasoning",)),
    ],
)
def test_earlier_thinking(members: dict[str, Any], blocks: list[tuple[str, str]], named: tuple[str, ...]) -> None:
    messages = [USER, calls(call("a"), content="x", **members), result("a")]
    got = translated(messages=messages)
    found = orjson.loads(got.body)["messages"][1]["content"]
    assert [(block["type"], block.get("thinking") or block.get("data")) for block in found[:-2]] == blocks
    assert [block["type"] for block in found[-2:]] == ["text", "tool_use"]
    assert got.dropped == named


def test_thinking_is_not_given_to_a_model_that_does_not_think() -> None:
    messages = [USER, calls(call("a"), reasoning_details=[SIGNED]), result("a")]
    assert dropped(NONE, messages=messages) == ("messages[].reasoning_details",)
