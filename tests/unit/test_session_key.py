"""Which requests are of one conversation, and which are the same turn of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.extproc.callers import ANYBODY, Caller
from aion_extproc.extproc.session_key import session_key, turn_of
from aion_extproc.routing.sessions import KEY_LENGTH, Turn
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.request import Request, parse

HELLO = {"role": "user", "content": "hello"}
AION, CLAUDE_CODE = "x-aion-session", "x-claude-code-session-id"


def request(*messages: Mapping[str, Any], endpoint: Endpoint = Endpoint.CHAT, **more: Any) -> Request:
    body = {"model": "aion-auto", "messages": list(messages or (HELLO,)), **more}
    return parse(orjson.dumps(body), endpoint)


def key(found: Request, headers: Mapping[str, str] = {}, caller: Caller = ANYBODY) -> str:
    return session_key(headers, found, caller)


def turn(found: Request, headers: Mapping[str, str] = {}) -> Turn:
    got = turn_of(headers, found, ANYBODY)
    assert got is not None
    return got


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


FIRST = (said("system", "You are kind."), said("user", "What is a monad?"))
LATER = (*FIRST, said("assistant", "A monoid."), said("user", "And a monoid?"))


def test_a_conversation_is_known_by_how_it_began() -> None:
    assert key(request(*FIRST)) == key(request(*LATER))
    assert key(request(*FIRST)) != key(request(said("system", "You are terse."), FIRST[1]))
    assert key(request(*FIRST)) != key(request(FIRST[0], said("user", "What is a functor?")))
    messages = [said("user", "What is a monad?")]
    other = request(*messages, endpoint=Endpoint.MESSAGES, max_tokens=9, system="You are terse.")
    assert key(request(*messages, endpoint=Endpoint.MESSAGES, max_tokens=9, system="You are kind.")) != key(other)


def test_the_two_apis_are_two_conversations_unless_the_caller_says_otherwise() -> None:
    chat, messages = request(), request(endpoint=Endpoint.MESSAGES, max_tokens=9)
    assert key(chat) != key(messages)
    assert key(chat, {AION: "s"}) == key(messages, {AION: "s"})


def test_the_middle_of_a_long_text_is_not_read_but_its_length_is() -> None:
    long = "a" * 1000
    assert key(request(said("user", long))) != key(request(said("user", long + "a")))
    assert key(request(said("user", "b" + long))) != key(request(said("user", long + "b")))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({AION: "S"}, {}),
        ({CLAUDE_CODE: "S"}, {}),
        ({}, {"prompt_cache_key": "S"}),
        ({}, {"metadata": {"user_id": "S"}}),
    ],
)
def test_what_names_a_session_tells_conversations_apart(headers: dict[str, str], body: dict[str, Any]) -> None:
    def named(name: str, *messages: Mapping[str, Any]) -> str:
        plain = orjson.loads(orjson.dumps(body).replace(b'"S"', orjson.dumps(name)))
        return key(request(*messages, **plain), dict.fromkeys(headers, name))

    assert named("one", *FIRST) == named("one", *LATER)
    assert named("one", *FIRST) != named("two", *FIRST)
    assert named("one", *FIRST) != key(request(*FIRST))
    # Only what is addressed to us holds a conversation together that has lost its beginning.
    assert (named("one", *FIRST) == named("one", *LATER[2:])) == (AION in headers)


def test_the_most_particular_name_counts() -> None:
    names = {AION: "a", CLAUDE_CODE: "b"}
    body: dict[str, Any] = {"prompt_cache_key": "c", "metadata": {"user_id": "d"}}
    keys = [
        key(request(**body), names),
        key(request(**body), {CLAUDE_CODE: "b"}),
        key(request(**body)),
        key(request(metadata=body["metadata"])),
        key(request()),
    ]
    assert len(set(keys)) == 5
    assert keys[0] == key(request(), {AION: "a"})
    assert keys[1] == key(request(), {CLAUDE_CODE: "b"})
    assert keys[2] == key(request(prompt_cache_key="c"))


@pytest.mark.parametrize("odd", [None, 5, "", [], {}, {"user_id": 5}, {"user_id": None}, {"user_id": ""}])
def test_what_is_no_name_is_passed_over(odd: object) -> None:
    assert key(request(prompt_cache_key=odd, metadata=odd)) == key(request())


def test_callers_never_share_a_conversation() -> None:
    callers = [ANYBODY, Caller("a"), Caller("b"), Caller("a", "t"), Caller("", "a"), Caller("a", "u")]
    for headers in ({}, {AION: "same"}, {CLAUDE_CODE: "same"}):
        assert len({key(request(), headers, caller) for caller in callers}) == len(callers)


CALLERS = st.builds(
    Caller, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True), st.sampled_from(["", "t", "u"])
)
NAMES = st.text(st.sampled_from("at\0.u"), max_size=8)


@given(CALLERS, CALLERS, NAMES, NAMES, st.sampled_from([AION, CLAUDE_CODE]))
def test_nothing_in_a_request_makes_one_caller_look_like_another(
    one: Caller, other: Caller, mine: str, theirs: str, header: str
) -> None:
    found = request()
    if one != other:
        assert session_key({header: mine}, found, one) != session_key({header: theirs}, found, other)


def test_keys_are_hashes() -> None:
    got = turn(request(said("user", "secret words"), prompt_cache_key="secret words"))
    assert re.fullmatch(rf"[0-9a-f]{{{KEY_LENGTH}}}", got.session)
    assert re.fullmatch(r"[0-9a-f]{16}", got.digest)
    assert got.mark == got.session + got.digest


# --- Claude Code, as 2.1.197 sends it


def claude_code(*turns: str, billing: str = "cc_version=2.1.197.135;", prompt: str = "fix the bug") -> Request:
    """`turns`: what was said after the prompt, the assistant first."""
    mark = {"cache_control": {"type": "ephemeral"}}
    reminder = {"type": "text", "text": "<system-reminder>\ncontext\n</system-reminder>"}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [reminder, {"type": "text", "text": prompt}]},
        {"role": "system", "content": "Available agent types"},
    ]
    for index, text in enumerate(turns):
        messages.append({"role": "user" if index % 2 else "assistant", "content": [{"type": "text", "text": text}]})
    messages[-1 if turns else 0]["content"][-1].update(mark)  # it moves on to the last message from turn to turn
    return request(
        *messages,
        endpoint=Endpoint.MESSAGES,
        max_tokens=100,
        system=[
            {"type": "text", "text": f"x-anthropic-billing-header: {billing}"},
            {"type": "text", "text": "You are Claude Code.", **mark},
        ],
    )


@pytest.mark.parametrize("headers", [{}, {CLAUDE_CODE: "s"}])
def test_claude_code_s_conversations(headers: dict[str, str]) -> None:
    begun = key(claude_code(), headers)
    assert key(claude_code("done", "thanks"), headers) == begun
    assert key(claude_code(billing="cch=0f3a;"), headers) == begun
    # A sub-agent has the session's name and a prompt of its own.
    assert key(claude_code(prompt="look for tests"), headers) != begun


# --- turns


def test_the_same_turn_is_the_same_last_words_after_as_many_messages() -> None:
    digest = turn(request(*LATER)).digest
    assert turn(request(*LATER)).digest == digest
    assert turn(request(*LATER), {AION: "s"}).digest == digest
    assert turn(request(*LATER[:-1], said("user", "And a group?"))).digest != digest
    assert turn(request(*LATER[2:])).digest != digest
    # What the model said before may differ: it is the user who says the same again.
    assert turn(request(*FIRST, said("assistant", "No idea."), LATER[3])).digest == digest


def test_results_of_tools_make_another_turn() -> None:
    def after(*calls: str) -> Request:
        messages: list[dict[str, Any]] = [said("user", "read them")]
        for call in calls:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": "I read."}]})
            result = {"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": "x" * 9999}]}
            messages.append({"role": "user", "content": [result]})
        return request(*messages, endpoint=Endpoint.MESSAGES, max_tokens=9)

    turns = [turn(after()), turn(after("one")), turn(after("two")), turn(after("one", "two"))]
    assert len({found.digest for found in turns}) == 4
    assert len({found.session for found in turns}) == 1
    # In the other API a result is no message of the user's; but there is one message more.
    chat = [said("user", "read"), {"role": "assistant", "content": None}]
    digests = {turn(request(*chat, *({"role": "tool", "content": "x"},) * n)).digest for n in range(3)}
    assert len(digests) == 3


def test_an_image_is_part_of_the_turn() -> None:
    def seen(data: str) -> Request:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        return request({"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]})

    assert turn(seen("A" * 5000)).digest == turn(seen("A" * 5000)).digest
    assert turn(seen("A" * 5000)).digest != turn(seen("A" * 4999 + "B")).digest


@pytest.mark.parametrize(("count", "retry"), [("0", False), ("", False), ("1", True), ("2", True)])
def test_the_sdks_say_when_they_repeat_themselves(count: str, retry: bool) -> None:
    assert turn(request(), {"x-stainless-retry-count": count}).retry is retry
    assert turn(request()).retry is False


def test_where_there_is_no_conversation_there_is_no_turn() -> None:
    embeddings = parse(orjson.dumps({"model": "e", "input": "hello"}), Endpoint.EMBEDDINGS)
    assert turn_of({}, embeddings, ANYBODY) is None
    kept = parse(orjson.dumps({"model": "m", "previous_response_id": "r"}), Endpoint.RESPONSES)
    assert turn_of({}, kept, ANYBODY) is None


def test_a_responses_request_is_a_conversation() -> None:
    def asked(*more: dict[str, Any]) -> Request:
        body = {"model": "m", "instructions": "be kind", "input": [said("user", "hello"), *more]}
        return parse(orjson.dumps(body), Endpoint.RESPONSES)

    output = {"type": "function_call_output", "call_id": "c", "output": "4"}
    assert key(asked()) == key(asked(output))
    assert turn(asked()).digest != turn(asked(output)).digest


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("x" * 600),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=60,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), max_size=50), st.text(max_size=3))
def test_any_content_that_is_read_has_a_turn(parts: list[dict[str, Any]], role: str) -> None:
    content = [{"type": "text", **part} | {"type": "other"} for part in parts]
    raw = orjson.dumps({"model": "m", "messages": [{"role": role, "content": content}]})
    found = parse(raw, Endpoint.CHAT)
    assert turn_of({}, found, ANYBODY) == turn_of({}, found, ANYBODY) is not None


def test_half_a_surrogate_pair_is_no_trouble() -> None:
    raw = rb'{"model": "m", "messages": [{"role": "user", "content": "cut \ud83d"}], "metadata": {"user_id": "\udc00"}}'
    assert turn_of({"x-aion-session": "\udcff"}, parse(raw, Endpoint.CHAT), ANYBODY) is not None
    assert turn_of({}, parse(raw, Endpoint.CHAT), ANYBODY) is not None
