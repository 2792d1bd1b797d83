"""Conversations that other servers have had a part in: what a server would refuse goes, every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aion_extproc.extproc.outgoing import prepare
from aion_extproc.providers import KINDS, configure
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.history import chat_turns, messages_turns
from aion_extproc.wire.members import edited, elements, removal
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.stream_to_messages import MessagesStream
from aion_extproc.wire.translate.target import Asked, ChatTarget, MessagesTarget
from tests.property.documents import SCALARS, VALUES, WHITE, Document, arrays, objects, read, spelled, strings
from tests.property.test_chat_conversations import conversations
from tests.property.test_messages_conversations import check_mistrals_order, legal_id
from tests.wire.chat_requests import HI, assistant, call, result, text, tool, use, user

CLAUDE = MessagesTarget(checks_thinking=True, system_turns=True)
OLD = MessagesTarget(checks_thinking=True)
MISTRAL = ChatTarget(call_ids="nine", order="mistral")
UNSIGNED = {"type": "thinking", "thinking": "hm", "signature": ""}
SIGNED = {"type": "thinking", "thinking": "", "signature": "sig"}
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def fitted(
    turns: list[dict[str, Any]], target: MessagesTarget = CLAUDE, *, chosen: bool = False
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    raw = json.dumps({"model": "m", "messages": turns, "max_tokens": 1}).encode()
    out, named = messages_turns(raw, json.loads(raw), target, chosen=chosen)
    return json.loads(out)["messages"], named


def test_thinking_that_nobody_has_signed_goes() -> None:
    bare = {"type": "thinking", "thinking": "hm"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    turns = [*HI, assistant(UNSIGNED, SIGNED, bare, hidden, text("a"), use("1")), user(result("1"))]
    assert fitted(turns) == (
        [*HI, assistant(SIGNED, hidden, text("a"), use("1")), user(result("1"))],
        ("messages[].thinking",),
    )
    assert fitted([*HI, assistant(UNSIGNED, bare), *HI]) == ([*HI, *HI], ("messages[].thinking",))
    # Other servers than Anthropic's give their own thinking no signature, and want it back.
    assert fitted(turns, MessagesTarget()) == (turns, ())


def test_where_all_is_signed_the_bytes_are_the_same_object() -> None:
    raw = json.dumps({"model": "m", "messages": [*HI, assistant(SIGNED, text("a")), *HI]}).encode()
    assert messages_turns(raw, json.loads(raw), CLAUDE, chosen=True)[0] is raw


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.COUNT_TOKENS])
@pytest.mark.parametrize("model", ["aion-auto", "claude-haiku-5-5"])
def test_a_session_that_a_chat_provider_began_goes_on_with_claude(model: str, endpoint: Endpoint) -> None:
    """What our own stream gave the client comes back, whether or not the client names the next model."""
    function = {"name": "Read", "arguments": "{}"}
    delta = {"reasoning_content": "hm", "tool_calls": [{"index": 0, "id": "functions.Read:0", "function": function}]}
    chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}
    stream = MessagesStream(Asked())
    out = stream.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n") + stream.finish()
    events = [json.loads(line[6:]) for line in out.decode().split("\n") if line.startswith("data: ")]
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
    turns = [*HI, {"role": "assistant", "content": blocks}, user(result(blocks[1]["id"]))]
    raw = json.dumps({"model": model, "messages": turns, "max_tokens": 9}).encode()
    provider = configure("a", KINDS["anthropic"])
    sent = prepare(parse(raw, endpoint), endpoint, "claude-haiku-5-5", provider, ())
    assert json.loads(sent.body)["messages"] == [*HI, assistant(blocks[1]), turns[2]]
    assert sent.dropped == ("messages[].thinking",)


def test_system_turns_are_the_users_where_the_chosen_model_knows_none() -> None:
    note = {"role": "system", "content": "now in French"}
    effort = {"role": "system", "output_config": {"effort": "low"}}
    over = {"role": "system", "content": "only then", "clear_at": "next_user_message"}
    change = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Read"}}
    both = {"role": "system", "content": [change, text("b")], "output_config": {"effort": "low"}, "clear_at": "never"}
    only = {"role": "system", "content": [change]}
    turns = [*HI, note, assistant(text("oui")), *HI, effort, over, only, *HI, both]
    french = {"role": "user", "content": "now in French"}
    assert fitted(turns, OLD, chosen=True) == (
        [*HI, french, assistant(text("oui")), *HI, *HI, user(text("b"))],
        ("messages[].output_config", "messages[].role", "messages[].tool_removal"),
    )
    assert fitted(turns, OLD) == (turns, ())
    assert fitted(turns, CLAUDE, chosen=True) == (turns, ())


def test_a_chat_history_for_mistral() -> None:
    made = {"role": "assistant", "content": None, "tool_calls": [call("call_abc"), call("Ab3dEf7h9")]}
    turns = [
        {"role": "developer", "content": "d", "name": "x"},
        *HI,
        {**made, "refusal": None, "reasoning_content": "hm"},
        tool("call_abc"),
        tool("Ab3dEf7h9"),
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "a"},
        {"role": "system", "content": "s"},
    ]
    raw = json.dumps({"model": "m", "messages": turns}).encode()
    out, named = chat_turns(raw, json.loads(raw), MISTRAL)
    sent = json.loads(out)["messages"]
    id = sent[2]["tool_calls"][0]["id"]
    assert len(id) == 9
    assert id.isalnum()
    assert sent == [
        {"role": "system", "content": "d"},
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call(id), call("Ab3dEf7h9")]},
        tool(id),
        tool("Ab3dEf7h9"),
        {"role": "assistant", "content": "OK."},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "s"},
    ]
    assert named == ("messages[].name", "messages[].reasoning_content", "messages[].role")
    assert chat_turns(raw, json.loads(raw), ChatTarget())[0] is raw


# The bytes of all else, told by a slow reader.

ROLES = st.sampled_from([b'"assistant"', b'"assistant"', b'"user"'])
TEXTS = strings().flatmap(lambda said: objects([(b'"type"', b'"text"'), (b'"text"', said)]))
SIGNATURES = st.sampled_from([b'""', b"null", b'"sig"', b'"\\u0073ig"'])


@st.composite
def thoughts(draw: st.DrawFn) -> bytes:
    pairs = [(draw(spelled("type")), b'"thinking"'), (b'"thinking"', draw(strings()))]
    if draw(st.booleans()):
        pairs.append((b'"signature"', draw(SIGNATURES)))
    return draw(objects(draw(st.permutations(pairs))))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    blocks = st.lists(thoughts() | TEXTS, max_size=4).flatmap(arrays)
    pairs = [(draw(spelled("role")), draw(ROLES)), (draw(spelled("content")), draw(blocks | strings()))]
    if draw(st.booleans()):
        pairs.append((b'"x"', draw(VALUES)))
    if draw(st.integers(0, 4)) == 0:  # the last of two counts
        pairs.insert(0, (b'"content"', draw(SCALARS)))
        return draw(objects(pairs))
    return draw(objects(draw(st.permutations(pairs))))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    turns = draw(st.lists(messages(), min_size=1, max_size=5).flatmap(arrays))
    pairs = [(b'"model"', b'"m"'), (b'"max_tokens"', b"1"), (draw(spelled("messages")), turns), (b'"y"', draw(VALUES))]
    return draw(WHITE) + draw(objects(draw(st.permutations(pairs)))) + draw(WHITE)


def parts(data: bytes, key: str) -> list[bytes]:
    """The elements of the last member of that key, as they are written."""
    value = [part.value for part in read(data).parts if part.key == key][-1]
    return [value[start:end] for start, end in elements(value, 0)]


def is_unsigned(block: bytes) -> bool:
    said = json.loads(block)
    return said["type"] == "thinking" and not said.get("signature")


@settings(QUICK, max_examples=200)
@given(bodies())
def test_every_byte_but_those_of_unsigned_thinking_stays(raw: bytes) -> None:
    out, named = messages_turns(raw, json.loads(raw), CLAUDE, chosen=False)
    expected: list[tuple[Document, list[bytes] | None]] = []
    for message in parts(raw, "messages"):
        said = json.loads(message)
        if said["role"] != "assistant" or not isinstance(said["content"], list):
            expected.append((read(message), None))
            continue
        blocks = parts(message, "content")
        kept = [block for block in blocks if not is_unsigned(block)]
        if kept or not blocks:
            expected.append((read(message), kept))
    got = parts(out, "messages")
    assert len(got) == len(expected)
    for message, (before, left) in zip(got, expected, strict=True):
        if left is None:
            assert read(message) == before
            continue
        after = read(message)
        assert parts(message, "content") == left
        assert (after.lead, after.gaps, after.tail) == (before.lead, before.gaps, before.tail)
        last = max(place for place, part in enumerate(before.parts) if part.key == "content")
        for place, (one, other) in enumerate(zip(after.parts, before.parts, strict=True)):
            assert (one.before, one.written) == (other.before, other.written)
            assert place == last or one.value == other.value
    before, after = read(raw), read(out)
    assert (after.lead, after.gaps, after.tail) == (before.lead, before.gaps, before.tail)
    others = [(part.before, part.written, part.value) for part in before.parts if part.key != "messages"]
    assert [(part.before, part.written, part.value) for part in after.parts if part.key != "messages"] == others
    assert (out == raw) == (named == ())


@settings(QUICK, max_examples=200)
@given(st.lists(SCALARS | VALUES, max_size=5), st.sets(st.integers(0, 4)), st.data())
def test_elements_are_taken_out_of_any_array(items: list[bytes], places: set[int], data: st.DataObject) -> None:
    array = data.draw(arrays(items))
    found = list(elements(array, 0))
    assert [array[start:end] for start, end in found] == items
    gone = {place for place in places if place < len(items)}
    out = edited(array, removal(found, gone))
    kept = [item for place, item in enumerate(items) if place not in gone]
    assert [out[start:end] for start, end in elements(out, 0)] == kept
    assert out.replace(b" ", b"").strip(b"\n\r\t")[:1] == b"["


def test_a_long_history_is_walked_once() -> None:
    """By what is said, not by a clock: a quadratic walk over these would not end in this test's lifetime."""
    turns = [turn for number in range(30_000) for turn in (user(text(str(number))), assistant(UNSIGNED, text("a")))]
    assert fitted(turns)[0][-1] == assistant(text("a"))


@settings(QUICK, max_examples=150)
@given(conversations())
def test_any_chat_conversation_can_be_fitted_to_mistral(body: dict[str, Any]) -> None:
    # No deprecated calls, and no user in between a call and its result: OpenAI refuses that too.
    assume(all(one["role"] != "function" and one["content"] != "wait" for one in body["messages"]))
    raw = json.dumps({**body, "model": "m"}).encode()
    out, _ = chat_turns(raw, json.loads(raw), MISTRAL)
    said = json.loads(out)["messages"]
    check_mistrals_order(said)
    results = [one["tool_call_id"] for one in said if one["role"] == "tool"]
    calls = [one["id"] for turn in said for one in turn.get("tool_calls", ())]
    assert sorted(results) == sorted(calls)
    assert all(legal_id(id, MISTRAL) for id in calls)
    assert [one["content"] for one in said if one.get("content") != "OK."] == [
        one["content"] for one in body["messages"] if one.get("content") != "OK."
    ]
