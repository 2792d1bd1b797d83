"""Reading a request: what is accepted, and what is said of what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.conversation import Preferences
from aion_extproc.wire.errors import RequestError, error_body
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation, estimate_input_tokens
from aion_extproc.wire.request import Request, parse

QUICK = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def encode(**fields: Any) -> bytes:
    return json.dumps({name: value for name, value in {**GOOD, **fields}.items() if value is not ...}).encode()


def refused(raw: bytes, format: Format = Format.OPENAI) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(raw, format)
    return caught.value


def accepted(raw: bytes, format: Format) -> Request | None:
    """The request, or None where it is refused; then the refusal must be one that a client can be given."""
    found = attempt(raw, format)
    if isinstance(found, Request):
        return found
    assert found.status == 400
    assert found.message
    assert found.code
    assert json.loads(error_body(found, format, "id"))
    return None


def attempt(raw: bytes, format: Format) -> Request | RequestError:
    try:
        return parse(raw, format)
    except RequestError as error:
        return error


@QUICK
@given(st.binary(max_size=200), st.sampled_from(Format))
def test_any_bytes_are_read_or_refused(raw: bytes, format: Format) -> None:
    accepted(raw, format)


@QUICK
@given(VALUES, st.sampled_from(Format))
def test_any_json_is_read_or_refused(value: Any, format: Format) -> None:
    accepted(json.dumps(value).encode(), format)


FIELDS = ["model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "system"]


@settings(QUICK, max_examples=600)
@given(st.dictionaries(st.sampled_from([*FIELDS, "aion_preferences"]), VALUES, max_size=3), st.sampled_from(Format))
def test_any_value_in_any_field_is_accepted_or_refused_by_name(fields: dict[str, Any], format: Format) -> None:
    found = attempt(encode(**fields), format)
    if isinstance(found, RequestError):
        assert found.param is not None
        name = found.param.split(".")[0].split("[")[0]
        assert name in fields
        assert found.param.split(".")[-1] in found.message or name in found.message


@settings(QUICK, max_examples=300)
@given(st.data(), st.sampled_from(Format))
def test_a_damaged_request_is_read_or_refused(data: st.DataObject, format: Format) -> None:
    """A byte too few, too many or another one, at any place."""
    raw = encode(system="s", aion_preferences={"tier": 1}, tools=[{"type": "function"}], max_tokens=5)
    at = data.draw(st.integers(0, len(raw)))
    cut = data.draw(st.integers(0, 3))
    accepted(raw[:at] + data.draw(st.binary(max_size=2)) + raw[at + cut :], format)


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"model": ...}, "missing_field", "model", "model is missing"),
    ({"model": ""}, "invalid_type", "model", "non-empty"),
    ({"model": None}, "invalid_type", "model", "not null"),
    ({"model": ["m"]}, "invalid_type", "model", "not a list"),
    ({"messages": ...}, "missing_field", "messages", "messages is missing"),
    ({"messages": {}}, "invalid_type", "messages", "not an object"),
    ({"messages": []}, "empty_messages", "messages", "at least one"),
    ({"messages": ["x"]}, "invalid_type", "messages[0]", "not a string"),
    ({"messages": [GOOD["messages"][0], {"content": "x"}]}, "invalid_type", "messages[1].role", "messages[1].role"),
    ({"messages": [{"role": 1, "content": "x"}]}, "invalid_type", "messages[0].role", "must be a string"),
    ({"messages": [{"role": "user", "content": 1}]}, "invalid_type", "messages[0].content", "not a number"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "invalid_type", "messages[0].content[0]", "with a type"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "invalid_type", "messages[0].content[0]", "with a type"),
    ({"stream": "true"}, "invalid_type", "stream", "not a string"),
    ({"stream": 1}, "invalid_type", "stream", "not a number"),
    ({"max_tokens": "5"}, "invalid_type", "max_tokens", "non-negative integer"),
    ({"max_tokens": 1.5}, "invalid_type", "max_tokens", "non-negative integer"),
    ({"max_tokens": -1}, "invalid_type", "max_tokens", "non-negative integer"),
    ({"max_tokens": True}, "invalid_type", "max_tokens", "not a boolean"),
    ({"tools": {"a": 1}}, "invalid_type", "tools", "not an object"),
    ({"aion_preferences": []}, "invalid_type", "aion_preferences", "must be an object"),
    ({"aion_preferences": {"teir": 1}}, "invalid_preferences", "aion_preferences", "tier, prefer_quality"),
    ({"aion_preferences": {"tier": 4}}, "invalid_preferences", "aion_preferences.tier", "1, 2 or 3"),
    ({"aion_preferences": {"tier": True}}, "invalid_preferences", "aion_preferences.tier", "1, 2 or 3"),
    ({"aion_preferences": {"tier": [1]}}, "invalid_preferences", "aion_preferences.tier", "1, 2 or 3"),
    ({"aion_preferences": {"prefer_speed": 1}}, "invalid_preferences", "aion_preferences.prefer_speed", "true or"),
]


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize(("fields", "code", "param", "words"), REFUSALS)
def test_a_refusal_names_the_field(format: Format, fields: dict[str, Any], code: str, param: str, words: str) -> None:
    error = refused(encode(**fields), format)
    assert (error.code, error.param, error.status) == (code, param, 400)
    assert words in error.message


def test_refusals_of_one_format_only() -> None:
    assert refused(encode(stream_options=[1])).param == "stream_options"
    assert refused(encode(max_completion_tokens="5")).param == "max_completion_tokens"
    assert refused(encode(system=5), Format.ANTHROPIC).param == "system"
    assert refused(encode(system=[{"text": "x"}]), Format.ANTHROPIC).param == "system[0]"
    no_content = encode(messages=[{"role": "assistant", "tool_calls": []}])
    assert refused(no_content, Format.ANTHROPIC).param == "messages[0].content"
    assert parse(no_content, Format.OPENAI).messages


def test_a_system_message_may_only_say_the_effort() -> None:
    """A beta of Anthropic's: neither content nor an output_config is refused there too."""
    effort = {"role": "system", "output_config": {"effort": "low"}}
    found = parse(encode(messages=[*GOOD["messages"], effort]), Format.ANTHROPIC)
    assert conversation(found).system == ()
    assert estimate_input_tokens(found) > 0
    for bad in ({"role": "system"}, {**effort, "role": "user"}, {**effort, "output_config": 1}):
        error = refused(encode(messages=[*GOOD["messages"], bad]), Format.ANTHROPIC)
        assert error.param == f"messages[{len(GOOD['messages'])}].content"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        (b'{"model":"m"', "not valid JSON"),
        (b'{"model":"m",}', "not valid JSON"),
        (b'{"model":NaN}', "not valid JSON"),
        (b'{"model":"\\ud800","n":NaN}', "not valid JSON"),
        (b'{"model":"\\ud800","n":-Infinity}', "not valid JSON"),
        (b'{"a":"\\u12"}', "not valid JSON"),
        (b'{"model":"m"} {}', "not valid JSON"),
        (b'\xef\xbb\xbf{"model":"m"}', "not valid JSON"),
        ('{"model":"m"}'.encode("utf-16"), "byte 0 is not UTF-8"),
        (b'{"model":"\xff"}', "byte 10 is not UTF-8"),
        (b'{"model":"\xed\xa0\x80"}', "byte 10 is not UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[" * 100_000 + b'"\\u0061"', "not valid JSON"),
        (b'["\\ud800"]', "must be a JSON object, not a list"),
        (b"null", "not null"),
        (b'"model"', "not a string"),
        (b"1e5", "not a number"),
        (b"true", "not a boolean"),
    ],
)
def test_what_is_not_a_json_object(raw: bytes, words: str) -> None:
    error = refused(raw)
    assert words in error.message
    assert error.code in ("invalid_json", "invalid_type")
    assert len(error.message) < 200


def test_a_refusal_never_quotes_the_request() -> None:
    secret = "hunter2"
    for body in (f'{{"model":"m","messages":"{secret}"', f'{{"{secret}":}}', f'{{"model":{{"{secret}":1}}}}'):
        assert secret not in refused(body.encode()).message
    for fields in ({"messages": secret}, {"stream": secret}, {"aion_preferences": {secret: 1}}, {"tools": secret}):
        assert secret not in refused(encode(**fields)).message


def test_what_is_read() -> None:
    options = {"include_usage": True}
    raw = encode(stream=True, stream_options=options, max_tokens=7, max_completion_tokens=9)
    request = parse(raw, Format.OPENAI)
    assert (request.model, request.stream, request.wants_usage, request.max_tokens) == ("m", True, True, 9)
    assert request.preferences == Preferences()
    anthropic = parse(encode(max_tokens=7, max_completion_tokens=9, stream=None), Format.ANTHROPIC)
    assert (anthropic.stream, anthropic.wants_usage, anthropic.max_tokens) == (False, False, 7)
    hinted = parse(encode(aion_preferences={"tier": 3, "prefer_quality": True}), Format.OPENAI)
    assert hinted.preferences == Preferences(tier=3, prefer_quality=True)
    for unasked in (None, {}, {"include_usage": False}, {"include_usage": None}):
        assert not parse(encode(stream=True, stream_options=unasked), Format.OPENAI).wants_usage


def test_the_last_of_two_equal_keys_counts() -> None:
    raw = b'{"model":1,"messages":5,"model":"m","messages":[{"role":"user","content":"x"}],"mod\\u0065l":"n"}'
    assert parse(raw, Format.OPENAI).model == "n"


def test_half_a_surrogate_pair_is_accepted_as_javascript_sends_it() -> None:
    """JavaScript's JSON.stringify writes one where a text was cut in the middle of an emoji."""
    raw = b'{"model":"m","messages":[{"role":"user","content":"cut \\ud83d"}],"n":12345678901234567890}'
    assert parse(raw, Format.OPENAI).messages[0]["content"] == "cut \ud83d"
    # Whatever is written down later must be text that can be written.
    parse(raw.replace(b'"m"', b'"\\udc00m"'), Format.OPENAI).model.encode()


@pytest.mark.parametrize("text", ['"x"', '"cut \\ud83d"'])
def test_a_number_too_large_for_any_parser_is_refused(text: str) -> None:
    raw = f'{{"model":"m","messages":[{{"role":"user","content":{text}}}],"temperature":-1e999}}'.encode()
    with pytest.raises(RequestError) as refused:
        parse(raw, Format.OPENAI)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("text", ['"x"', '"cut \\ud83d"'])
def test_a_limit_beyond_all_bounds_is_no_limit(text: str) -> None:
    for number in ("99999999999999999999999", "9223372036854775807", "18446744073709551615"):
        raw = f'{{"model":"m","messages":[{{"role":"user","content":{text}}}],"max_tokens":{number}}}'.encode()
        request = accepted(raw, Format.OPENAI)
        assert request is None or 10**9 <= (request.max_tokens or 0) < 2**62
