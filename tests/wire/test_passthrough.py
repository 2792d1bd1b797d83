"""What a classifier sees of a responses request, and which requests are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.reading import conversation, estimate_input_tokens
from aion_extproc.wire.request import Request, parse


def read(endpoint: Endpoint, **fields: Any) -> Request:
    return parse(json.dumps({"model": "aion-auto", **fields}).encode(), endpoint)


def test_a_text_is_the_user_s() -> None:
    said = conversation(read(Endpoint.RESPONSES, input="fix it", instructions="Be brief.", tools=[{}]))
    assert [(turn.role, turn.texts) for turn in said.turns] == [("user", ("fix it",))]
    assert (said.system, said.tools) == (("Be brief.",), 1)


def test_items_are_turns() -> None:
    items: list[Any] = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": "four"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        "not an item",
    ]
    said = conversation(read(Endpoint.RESPONSES, input=items))
    assert said.system == ("Be kind.",)
    assert [(turn.role, turn.texts) for turn in said.turns] == [
        ("user", ("a",)), ("assistant", ()), ("tool", ()), ("assistant", ("b",)),
    ]  # fmt: skip
    assert (said.turns[1].tool_calls, said.turns[2].tool_result_chars) == (1, 4)


@pytest.mark.parametrize("kept", ["previous_response_id", "conversation", "prompt"])
def test_what_the_provider_keeps_needs_no_input(kept: str) -> None:
    assert read(Endpoint.RESPONSES, **{kept: "x"}).messages == []


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (Endpoint.RESPONSES, {}, "input"),
        (Endpoint.RESPONSES, {"input": 5}, "input"),
        (Endpoint.EMBEDDINGS, {"input": {}}, "input"),
        (Endpoint.COMPLETIONS, {"prompt": 1}, "prompt"),
    ],
)
def test_requests_that_are_none(endpoint: Endpoint, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(endpoint, **fields)
    assert refused.value.param == param


def test_tokens_may_come_as_numbers() -> None:
    assert estimate_input_tokens(read(Endpoint.EMBEDDINGS, input=[[1] * 300, [2] * 200])) == 500
