"""What one API would take is translated to what the other would take, as far as their published schemas tell."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from aion_extproc.providers.anthropic import messages as messages_target
from aion_extproc.providers.openai import chat as chat_target
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.request_to_messages import to_messages
from tests.support.published import chat_problems, messages_problems

CLAUDE = ("claude-3-5-haiku-latest", "claude-haiku-4-5", "claude-opus-4-5", "claude-opus-4-6", "claude-opus-5-5", "new")
GPT = ("gpt-4.1-mini", "gpt-5.4", "gpt-6", "any")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

texts = st.sampled_from(["One.", "Zoë 日本 😀", "json, please", "ends in space ", "x\ny"])
maybe_empty = st.one_of(texts, st.sampled_from(["", " ", "\n"]))
inputs = st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.integers(0, 9), texts, st.none()), max_size=2)
names = st.sampled_from(["now", "weather", "mcp__server__tool", "n" * 64])
types = st.sampled_from([{"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "string", "maxLength": 5}])


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    properties: dict[str, Any] = draw(st.dictionaries(st.sampled_from(["a", "b"]), types, max_size=2))
    if draw(st.booleans()):
        properties["inner"] = {"type": "object", "properties": draw(st.dictionaries(st.just("c"), types))}
        properties["list"] = {"type": "array", "items": draw(types), "minItems": 2}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema["required"] = sorted(properties)
    return schema


def _pick(draw: st.DrawFn, **options: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Some of these members."""
    return {name: draw(values) for name, values in options.items() if draw(st.integers(0, 3)) == 0}


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    parts = st.lists(
        st.one_of(maybe_empty.map(lambda said: {"type": "text", "text": said}), st.just(image)), min_size=1
    )
    texts_only = st.lists(maybe_empty.map(lambda said: {"type": "text", "text": said}), min_size=1, max_size=2)
    ids = st.sampled_from(["call_1", "call_2", "functions.now:0", "c" * 40])
    for kind in draw(st.lists(st.sampled_from(["user", "user", "system", "assistant", "calls"]), max_size=6)):
        if kind == "user":
            messages.append({"role": "user", "content": draw(st.one_of(maybe_empty, parts))})
        elif kind == "system":
            role = draw(st.sampled_from(["system", "developer"]))
            messages.append({"role": role, "content": draw(st.one_of(maybe_empty, texts_only))})
        elif kind == "assistant":
            messages.append({"role": "assistant", "content": draw(st.one_of(maybe_empty, texts_only))})
        else:
            calls = [
                {"id": id, "type": "function", "function": {"name": draw(names), "arguments": json.dumps(draw(inputs))}}
                for id in draw(st.lists(ids, min_size=1, max_size=3, unique=True))
            ]
            messages.append(
                {"role": "assistant", "content": draw(st.one_of(st.none(), maybe_empty)), "tool_calls": calls}
            )
            content = st.one_of(maybe_empty, texts_only)
            answers = [{"role": "tool", "tool_call_id": call["id"], "content": draw(content)} for call in calls]
            messages += draw(st.permutations(answers))
    messages.append({"role": "user", "content": draw(st.one_of(texts, parts.map(lambda all: [*all, image])))})
    body = {"model": "any", "messages": messages}
    body |= _pick(
        draw,
        temperature=st.sampled_from([0, 0.5, 1, 2]),
        top_p=st.sampled_from([0.1, 1]),
        stop=st.one_of(st.just("END"), st.lists(st.sampled_from(["a", "\n", " b"]), min_size=1, max_size=4)),
        max_tokens=st.sampled_from([1, 100, 5000]),
        user=st.just("u" * 64),
        seed=st.just(7),
        reasoning_effort=st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        response_format=schemas().map(
            lambda schema: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        ),
    )
    if draw(st.booleans()):
        functions = [
            {"name": name, **_pick(draw, description=texts, parameters=schemas())}
            for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
        ]
        body["tools"] = [{"type": "function", "function": function} for function in functions]
        named = {"type": "function", "function": {"name": functions[0]["name"]}}
        choices = st.sampled_from(["auto", "none", "required", named])
        body |= _pick(draw, tool_choice=choices, parallel_tool_calls=st.booleans())
    return body


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    text = texts.map(lambda said: {"type": "text", "text": said.strip()})
    marked = text.map(lambda block: {**block, "cache_control": {"type": "ephemeral"}})
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    content = st.lists(st.one_of(text, text, marked, st.just(image)), min_size=1, max_size=2)
    messages: list[dict[str, Any]] = [{"role": "user", "content": draw(st.one_of(texts, content))}]
    for number, kind in enumerate(draw(st.lists(st.sampled_from(["said", "called"]), max_size=4))):
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
        said: list[Any] = [thought] if draw(st.booleans()) else []
        said += draw(st.lists(text, min_size=kind == "said", max_size=2))
        results: list[Any] = []
        if kind == "called":
            for index in range(draw(st.integers(1, 3))):
                id = f"toolu_{number}_{index}" + draw(st.sampled_from(["", "x" * 60]))
                said.append({"type": "tool_use", "id": id, "name": draw(names), "input": draw(inputs)})
                more = _pick(draw, content=st.one_of(texts, content, st.just([])), is_error=st.booleans())
                results.append({"type": "tool_result", "tool_use_id": id, **more})
        messages.append({"role": "assistant", "content": said})
        results = draw(st.permutations(results)) if results else []
        messages.append(
            {"role": "user", "content": [*results, *draw(st.lists(text, min_size=not results, max_size=2))]}
        )
    body = {"model": "any", "max_tokens": 3000, "messages": messages}
    body |= _pick(
        draw,
        system=st.one_of(texts, st.lists(text, min_size=1, max_size=2)),
        temperature=st.sampled_from([0, 0.5, 1]),
        top_k=st.just(5),
        stop_sequences=st.lists(st.sampled_from(["a", "b"]), max_size=2),
        metadata=st.sampled_from([{"user_id": "u" * 200}, {}]),
        output_config=st.sampled_from([{"effort": "low"}, {"effort": "max"}, {}]),
    )
    if draw(st.booleans()):
        tools = [
            {"name": name, "input_schema": draw(schemas()), **_pick(draw, description=texts)}
            for name in draw(st.lists(st.one_of(names, st.just("n" * 128)), min_size=1, max_size=3, unique=True))
        ]
        body["tools"] = tools
        named = {"type": "tool", "name": tools[0]["name"]}
        choice = draw(st.sampled_from([None, {"type": "auto"}, {"type": "any"}, named, {"type": "none"}]))
        body |= {"tool_choice": choice} if choice else {}
    elif draw(st.booleans()):
        body["thinking"] = draw(st.sampled_from([{"type": "adaptive"}, {"type": "disabled"}]))
        body.pop("temperature", None)
        body.pop("top_k", None)
    return body


@given(chats(), st.sampled_from(CLAUDE))
@settings(max_examples=300, deadline=None)
def test_chat_as_messages(body: dict[str, Any], model: str) -> None:
    raw = json.dumps(body).encode()
    assert [problem for problem in chat_problems(raw) if "reasoning_effort" not in problem] == []
    try:
        translated = to_messages(parse(raw, Format.OPENAI), model, messages_target(model))
    except RequestError as error:
        note(error.message)
        assert _refusable(body)
        return
    note(translated.body.decode())
    assert messages_problems(translated.body) == []


def _refusable(body: dict[str, Any]) -> bool:
    """What may be said to have no translation: nothing that a model could read."""
    return not any(said.strip() for said in _texts(body["messages"]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return _texts([value.get("content"), value.get("text")])
    return [value] if isinstance(value, str) else []


@given(conversations(), st.sampled_from(GPT))
@settings(max_examples=300, deadline=None)
def test_messages_as_chat(body: dict[str, Any], model: str) -> None:
    raw = json.dumps(body).encode()
    assume(messages_problems(raw) == [])  # a fifth cache_control
    translated = to_chat(parse(raw, Format.ANTHROPIC), model, chat_target(model))
    note(translated.body.decode())
    # Whether a model that reasons takes a temperature is in tests/clients/cross.
    assert [problem for problem in chat_problems(translated.body) if "temperature" not in problem] == []
