"""Messages conversations as chat messages, case by case. Whole ones: tests/property."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aion_extproc.wire.translate.target import ChatTarget
from tests.wire.chat_requests import (
    CACHED,
    HI,
    NOTE,
    OPENROUTER,
    PLAIN,
    PNG,
    READ,
    THOUGHTS,
    assistant,
    call,
    dropped,
    messages,
    refused,
    result,
    text,
    tool,
    translated,
    use,
    user,
)


def test_claude_code() -> None:
    """The shape of its requests, field by field, as recorded from version 2.1.329."""
    ephemeral = {"cache_control": {"type": "ephemeral"}}
    reads = [use("toolu_1", input={"file_path": "/a"}), use("toolu_2", input={"file_path": "/b"})]
    thinking = {"type": "thinking", "thinking": "", "signature": "EqQB"}
    request: dict[str, Any] = {
        "system": [text("x-anthropic-billing-header: cc"), text("You are.", **ephemeral), text("Rules.", **ephemeral)],
        "messages": [
            user(text("<system-reminder>\nas you\n</system-reminder>\n"), text("read a and b")),
            {"role": "system", "content": "# Environment"},
            assistant(thinking, text("I'll read both."), *reads),
            user(result("toolu_1", "1\tone"), result("toolu_2", "no such file", is_error=True, **ephemeral)),
        ],
        "tools": [READ, {**READ, "name": "DeferredToolPlaceholder", "defer_loading": True}],
        "metadata": {"user_id": "u" * 150},
        "max_tokens": 128000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": True,
    }
    out = translated(ChatTarget(reasoning_effort=True, reasoning="reasoning_content"), **request)
    body = json.loads(out.body)
    assert body["messages"] == [
        {"role": "system", "content": "x-anthropic-billing-header: cc\n\nYou are.\n\nRules."},
        {"role": "user", "content": "<system-reminder>\nas you\n</system-reminder>\n\n\nread a and b"},
        {"role": "system", "content": "# Environment"},
        {
            "role": "assistant",
            "content": "I'll read both.",
            "tool_calls": [
                call("toolu_1", arguments='{"file_path":"/a"}'),
                call("toolu_2", arguments='{"file_path":"/b"}'),
            ],
        },
        tool("toolu_1", "1\tone"),
        tool("toolu_2", "Error: no such file"),
    ]
    assert (body["max_tokens"], body["reasoning_effort"], body["stream"]) == (128000, "medium", True)
    assert len(body["tools"]) == 2
    assert out.dropped == ("cache_control", "metadata.user_id", "thinking.display", "tools[].defer_loading")


def test_the_simplest() -> None:
    out = translated()
    assert json.loads(out.body) == {"model": "small", "messages": HI, "max_tokens": 10}
    assert (out.dropped, out.tool_names) == ((), {})


def test_system_as_a_string_and_as_blocks_leads() -> None:
    assert messages(*HI, system="be kind")[0] == {"role": "system", "content": "be kind"}
    blocks = [text("one"), text("two", **CACHED)]
    assert messages(*HI, system=blocks) == [{"role": "system", "content": "one\n\ntwo"}, *HI]
    assert dropped(system=blocks) == ("cache_control",)
    kept = messages(*HI, system=blocks, target=OPENROUTER)[0]
    assert kept == {"role": "system", "content": [text("one"), text("two", **CACHED)]}
    assert dropped(OPENROUTER, system=blocks) == ()
    assert messages(*HI, system="") == HI


def test_a_system_message_in_the_middle_stays_there() -> None:
    turns = [*HI, {"role": "system", "content": "now in French"}, {"role": "assistant", "content": "oui"}, *HI]
    assert messages(*turns, system="s") == [{"role": "system", "content": "s"}, *turns]


def test_a_system_message_for_a_turn_that_has_passed_is_gone() -> None:
    note = {"role": "system", "content": "only now", "clear_at": "next_user_message"}
    assert messages(*HI, note) == [*HI, {"role": "system", "content": "only now"}]
    assert messages(*HI, note, assistant(text("yes")), user(text("and?"))) == [
        *HI,
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and?"},
    ]


def test_texts_are_one_string_and_stay_parts_beside_others() -> None:
    assert messages(user(text("a"), text(""), text("b"))) == [{"role": "user", "content": "a\n\nb"}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    assert messages(user(text("a"), PNG, text("b"))) == [{"role": "user", "content": [text("a"), image, text("b")]}]
    # Claude cuts its text where a citation begins: that is no paragraph.
    turn = assistant(text("The sky is "), text("blue", citations=[{"type": "char_location"}]), text("."))
    assert messages(*HI, turn, *HI)[1]["content"] == "The sky is blue."
    assert dropped(messages=[*HI, turn, *HI]) == ("messages[].citations",)


def test_consecutive_turns_of_one_role_are_one() -> None:
    turns = [*HI, user(text("there")), assistant(text("a")), assistant(text("b"), use("1")), user(result("1"))]
    assert messages(*turns) == [
        {"role": "user", "content": "hi\n\nthere"},
        {"role": "assistant", "content": "a\n\nb", "tool_calls": [call("1")]},
        tool("1"),
    ]


def test_tool_results_come_directly_after_the_calls_and_before_the_users_words() -> None:
    calls = assistant(text("I look"), use("a"), use("b", "Write", {}))
    assert messages(*HI, calls, user(text("stop"), result("b"), result("a"))) == [
        *HI,
        {"role": "assistant", "content": "I look", "tool_calls": [call("a"), call("b", "Write", "{}")]},
        tool("b"),
        tool("a"),
        {"role": "user", "content": "stop"},
    ]
    scattered = [*HI, assistant(use("a")), assistant(use("b")), user(result("a"), text("x")), user(result("b"))]
    assert messages(*scattered)[1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]},
        tool("a"),
        tool("b"),
        {"role": "user", "content": "x"},
    ]


def test_what_a_tool_result_holds() -> None:
    def of(*blocks: Any, target: ChatTarget = PLAIN) -> list[dict[str, Any]]:
        return messages(*HI, assistant(use("a")), user(*blocks), target=target)[2:]

    assert of(result("a", [text("1"), text("2")])) == [tool("a", "1\n\n2")]
    assert of(result("a", "")) == of(result("a", [])) == of(result("a", None)) == [tool("a", "")]
    assert of(result("a", "no such file", is_error=True)) == [tool("a", "Error: no such file")]
    assert of(result("a", "Error: no", is_error=True)) == [tool("a", "Error: no")]
    assert of(result("a", [], is_error=True)) == [tool("a", "Error")]
    assert of(result("a", [{"type": "tool_reference", "tool_name": "X"}])) == [tool("a", "The tool X is available.")]
    found = {"type": "search_result", "title": "T", "source": "s", "content": [text("t")]}
    assert of(result("a", [found])) == [tool("a", "T\ns\n\nt")]
    assert of(result("a", "x", **CACHED), target=OPENROUTER) == [tool("a", [text("x", **CACHED)])]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    note = text("Attached to the result of tool call a:")
    assert of(result("a", [text("seen"), PNG]), text("and?")) == [
        tool("a", "seen"),
        {"role": "user", "content": [note, image, text("and?")]},
    ]
    assert of(result("a", [PNG])) == [
        tool("a", "The result is attached to the next message."),
        {"role": "user", "content": [note, image]},
    ]


def test_calls_and_results_that_do_not_belong_together() -> None:
    assert refused(messages=[user(result("a"))]) == ("unknown_tool_use", "messages[0].content[0].tool_use_id")
    late = [*HI, assistant(use("a")), user(result("a")), assistant(text("x")), user(result("a"))]
    assert refused(messages=late)[0] == "unknown_tool_use"
    # The server judges a call without its result.
    assert messages(*HI, assistant(use("a")))[1]["tool_calls"] == [call("a")]


def test_a_call_id_that_openai_refuses_is_shortened_on_both_sides() -> None:
    long = "toolu_" + "x" * 60
    turns = messages(*HI, assistant(use(long)), user(result(long)))
    short = turns[1]["tool_calls"][0]["id"]
    assert len(short) <= 40
    assert turns[2]["tool_call_id"] == short
    odd = "functions.Read:0"
    assert messages(*HI, assistant(use(odd)), user(result(odd)))[2]["tool_call_id"] == odd


def test_mistrals_ids_and_order_of_roles() -> None:
    mistral = ChatTarget(call_ids="nine", order="mistral")
    calls = assistant(use("toolu_01ABC"), use("functions.Read:0"), use("Ab3dEf7h9"))
    note = {"role": "system", "content": "s"}
    answers = user(*(result(id) for id in ("functions.Read:0", "toolu_01ABC", "Ab3dEf7h9")), text("and?"))
    turns = [*HI, note, calls, answers, assistant(text("a")), note, *HI, assistant(text("So"))]
    sent = messages(*turns, target=mistral)
    ids = [made["id"] for made in sent[2]["tool_calls"]]
    assert all(len(id) == 9 and id.isascii() and id.isalnum() for id in ids)
    assert len(set(ids)) == 3
    assert ids[2] == "Ab3dEf7h9"
    assert [(message["role"], message.get("tool_call_id")) for message in sent] == [
        *(("user", None), ("system", None), ("assistant", None)),
        *(("tool", ids[1]), ("tool", ids[0]), ("tool", ids[2])),
        *(("assistant", None), ("user", None), ("assistant", None), ("user", None), ("user", None)),
        ("assistant", None),
    ]
    assert (sent[6]["content"], sent[-1]) == ("OK.", {"role": "assistant", "content": "So", "prefix": True})
    assert dropped(mistral, messages=turns) == ("messages[].prefill", "messages[].role")
    assert dropped(mistral, messages=turns[:4]) == ()
    # The same in every request, and for a server that takes any the client's own.
    assert messages(*turns, target=mistral) == sent
    assert messages(*turns)[2]["tool_calls"][0]["id"] == "toolu_01ABC"


def test_a_turn_that_says_nothing() -> None:
    assert messages(user()) == [{"role": "user", "content": ""}]
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert messages(*HI, assistant(thinking), user(text("so?"))) == [{"role": "user", "content": "hi\n\nso?"}]
    assert refused(messages=[assistant()]) == ("empty_messages", "messages")


def test_a_prefill_is_passed_on_and_named() -> None:
    turns = [*HI, {"role": "assistant", "content": "{"}]
    assert messages(*turns) == turns
    assert dropped(messages=turns) == ("messages[].prefill",)


@pytest.mark.parametrize("role", ["tool", "developer", ""])
def test_a_role_that_there_is_not(role: str) -> None:
    assert refused(messages=[{"role": role, "content": "x"}]) == ("invalid_type", "messages[0].role")


def test_a_large_history_is_translated_in_linear_time() -> None:
    """By what is said, not by a clock: a quadratic walk over these would not end in this test's lifetime."""
    many = range(60_000)
    in_turn = [turn for n in many for turn in (assistant(use(f"c{n}")), user(result(f"c{n}")))]
    calls_first = [*(assistant(THOUGHTS[0], use(f"c{n}")) for n in many), *(user(result(f"c{n}")) for n in many)]
    calls = assistant(*(use(f"c{n}") for n in many))
    between = [calls, *(turn for n in many for turn in (*NOTE, user(result(f"c{n}"))))]
    pieces = [assistant(*(text("x" * 300) for _ in many)), *HI]
    target = ChatTarget(reasoning="reasoning_content")
    assert [len(messages(*turns, target=target)) for turns in (in_turn, calls_first, between, pieces)] == [
        *(120_000, 60_001, 60_002, 2),
    ]
