"""Chat streams that break: one error event in Anthropic's shape, which its SDK raises, and nothing after it."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.support.answers import DONE
from tests.wire.test_stream_to_messages import BROKEN, CALLS, ROLE, TEXT, chunk, data, events, read, run


def failed(*chunks: bytes) -> tuple[str, dict[str, Any]]:
    stream, out = run(*chunks)
    found = events(out)
    assert [event["type"] for event in found].count("error") == 1
    last: dict[str, Any] = found[-1]
    assert last["type"] == "error"
    assert stream.feed(TEXT[1]) == stream.finish() == b""
    with pytest.raises(anthropic.APIStatusError):
        read(*chunks)
    return stream.error, last["error"]


def test_errors_in_the_stream() -> None:
    error, said = failed(*BROKEN)
    assert (error, said) == ("error_event", {"type": "overloaded_error", "message": "out of memory"})
    assert failed(data({"object": "error", "message": "no", "code": 400}))[1]["type"] == "invalid_request_error"
    assert failed(*TEXT[:2], chunk(finish="error"))[0] == "error_event"
    short = failed(*TEXT[:2], chunk(finish="insufficient_system_resource"))
    assert (short[0], short[1]["type"]) == ("error_event", "overloaded_error")


@pytest.mark.parametrize("rubbish", [b"<html>", b"[1]", b'"x"', b"{", b"\xff"])
def test_a_stream_that_is_none(rubbish: bytes) -> None:
    assert failed(ROLE, data(rubbish), *TEXT)[0] == "bad_stream"


def test_a_stream_that_is_cut() -> None:
    for chunks in ([], TEXT[:1], TEXT[:2], CALLS[:3], [*TEXT[:2], TEXT[2][:30]], [DONE]):
        assert failed(*chunks)[0] == "cut_stream"


def test_an_event_without_end_is_not_kept() -> None:
    assert failed(ROLE, *[b"data: " + b"x" * (8 << 20)] * 5)[0] == "bad_stream"
