"""A rewritten request against a slow reader of JSON: what must change has changed, and no other byte."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.format import Format
from aion_extproc.wire.members import edited, members
from aion_extproc.wire.request import _edits, _plain_edits, parse, rewrite
from tests.property.documents import VALUES, objects, read, requests, strings
from tests.property.reference import check

NEW = st.sampled_from(["gpt-small", "anthropic/claude-3.5", "a", "models/gemini:free"])
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(QUICK, max_examples=300)
@given(raw=requests(), new=NEW, ask=st.booleans(), format=st.sampled_from(Format))
def test_only_what_must_change_changes(raw: bytes, new: str, ask: bool, format: Format) -> None:
    request = parse(raw, format)
    out = rewrite(request, new, ask_usage=ask)
    check(raw, out, new, ask)
    # Both ways of finding the places lead to the same bytes.
    assert edited(raw, _edits(request, new, ask)) == out
    event("slow" if _plain_edits(request, new, ask) is None else "quick")


PLAIN = [
    b'{"model":"aion-auto","messages":[{"role":"user","content":"the model is \\"model\\""}]}',
    b'{ "messages" : [ { "role" : "user", "content" : "x" } ],\n "model" :\t"aion-auto" , "stream":true\n}\n',
    b'{"messages":[{"role":"user","content":"}"}],"model":"a\\"b","n":1,"stream":true}',
]
ODD = [
    b'{"mod\\u0065l":"a","messages":[{"role":"user","content":"\\"model\\":\\"b\\""}],"x":{"model":"c"}}',
    b'{"x":{"model":"c"},"model":"a","messages":[{"role":"user","content":"x"}]}',
    b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}',
    b'{"model":"a","messages":[{"role":"user","content":"a\\"model"}]}',
]


@pytest.mark.parametrize("raw", PLAIN)
def test_the_quick_path_is_taken_for_ordinary_requests(raw: bytes) -> None:
    for ask in (False, True):
        request = parse(raw, Format.OPENAI)
        assert _plain_edits(request, "new", ask) is not None
        check(raw, rewrite(request, "new", ask_usage=ask), "new", ask)


@pytest.mark.parametrize("raw", ODD)
def test_the_quick_path_is_not_taken_where_it_could_be_wrong(raw: bytes) -> None:
    for ask in (False, True):
        request = parse(raw, Format.OPENAI)
        assert _plain_edits(request, "new", ask) is None
        check(raw, rewrite(request, "new", ask_usage=ask), "new", ask)


def test_nothing_to_change_is_the_same_bytes() -> None:
    raw = b' {"model" : "m", "messages":[{"role":"user","content":"x"}], "x": {"model":1}} '
    assert rewrite(parse(raw, Format.OPENAI), "m", ask_usage=False) == raw


@pytest.mark.parametrize(
    ("raw", "out"),
    [
        ('{"aion_preferences":{}, "model":"a",M}', '{"model":"N",M}'),
        ('{"model":"a", "aion_preferences":{"tier":1} ,M}', '{"model":"N" ,M}'),
        ('{"model":"a",M,"aion_preferences":null\n}', '{"model":"N",M\n}'),
        ('{"aion_preferences":{"aion_preferences":1},"aion_preferences":{},"model":"a",M}', '{"model":"N",M}'),
        ('{"model":"a","aion_preferences":1,"aion_preferences":{},M}', '{"model":"N",M}'),
        (
            '{"model":"a","x":{"aion_preferences":1},M,"aion_pr\\u0065ferences":{}}',
            '{"model":"N","x":{"aion_preferences":1},M}',
        ),
        ('{"stream_options":null,"model":"a",M}', '{"stream_options":{"include_usage":true},"model":"N",M}'),
        ('{"stream_options":{},"model":"a",M}', '{"stream_options":{"include_usage":true},"model":"N",M}'),
        ('{"stream_options":{ "x":1},"model":"a",M}', '{"stream_options":{"include_usage":true, "x":1},"model":"N",M}'),
        (
            '{"stream_options":{"include_usage":false},"model":"a",M}',
            '{"stream_options":{"include_usage":true},"model":"N",M}',
        ),
        ('{"model":"a",M,"aion_preferences":{}}', '{"model":"N",M,"stream_options":{"include_usage":true}}'),
    ],
)
def test_examples(raw: str, out: str) -> None:
    def whole(pattern: str) -> bytes:
        return pattern.replace("M", '"messages":[{"role":"user","content":"x"}]').encode()

    ask = "stream_options" in out
    assert rewrite(parse(whole(raw), Format.OPENAI), "N", ask_usage=ask) == whole(out)


@settings(QUICK, max_examples=150)
@given(st.lists(st.tuples(strings(), VALUES), max_size=6).flatmap(objects))
def test_members_are_where_the_slow_reader_finds_them(data: bytes) -> None:
    found = [(one.key, data[one.start : one.value], data[one.value : one.end]) for one in members(data)]
    assert found == [(part.key, part.written, part.value) for part in read(data).parts]


def test_a_large_request_is_rewritten_in_linear_time_whichever_path_it_takes() -> None:
    """By what is said, not by a clock: a quadratic walk over these would not end in this test's lifetime."""
    deep = b"[" * 900 + b"]" * 900
    many = b",".join(b'"k%d":{"model":"x","a":[1,{"b":"\\"}"}]}' % n for n in range(60_000))
    nested = b",".join([deep] * 1_000)
    text_20_mb = b"word \\n \xc3\xa9 " * 2_000_000
    for filler in (many, b'"a":[' + nested + b"]", b'"b":"' + text_20_mb + b'"'):
        messages = b',"messages":[{"role":"user","content":"x"}]'
        raw = b'{"aion_preferences":{"tier":1},' + filler + b',"model":"aion-auto"' + messages + b"}"
        out = rewrite(parse(raw, Format.OPENAI), "new", ask_usage=True)
        options = b',"stream_options":{"include_usage":true}}'
        assert out == b"{" + filler + b',"model":"new"' + messages + options
