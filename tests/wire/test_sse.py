"""Server-sent events, wherever the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.wire import sse
from aion_extproc.wire.sse import KEEP_ALIVE, Event, EventTooLarge, SseReader

# What a line may hold: no line end, and what would be another kind of line must not begin it.
VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12).map(str.encode)
TYPES = st.sampled_from([b"", b"message", b"content_block_delta"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A stream in one of the ways that servers write it, and what it says."""
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    space = draw(st.sampled_from([b" ", b""]))
    written: list[bytes] = []
    events: list[Event] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.integers(0, 3)) == 0:
            comment = draw(st.sampled_from([b"", b"ping", b" keep-alive"]))
            written.append(b":" + comment + end)
            events.append(Event(KEEP_ALIVE, comment.strip()))
        kind = draw(TYPES)
        lines = draw(st.lists(VALUES, min_size=1, max_size=3))
        lines = [b"-" + line if line[:1] == b" " else line for line in lines]
        if kind:
            written.append(b"event:" + space + kind + end)
        if draw(st.booleans()):
            written.append(b"id: 7" + end + b"retry: 10" + end)
        written += [b"data:" + space + line + end for line in lines]
        written.append(end)
        events.append(Event(kind, b"\n".join(lines)))
    return b"".join(written), events


def read(*chunks: bytes) -> list[Event]:
    reader = SseReader()
    return [event for chunk in chunks for event in reader.feed(chunk)] + reader.finish()


@given(streams(), st.lists(st.integers(0, 400), max_size=8))
def test_a_stream_cut_anywhere_says_the_same(stream: tuple[bytes, list[Event]], cuts: list[int]) -> None:
    data, events = stream
    assert read(data) == events
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    assert read(*(data[start:end] for start, end in itertools.pairwise(places))) == events
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:]) == events
    assert read(*(data[at : at + 1] for at in range(len(data)))) == events


@given(streams())
def test_the_last_blank_line_may_be_missing(stream: tuple[bytes, list[Event]]) -> None:
    data, events = stream
    assert read(data.rstrip(b"\r\n")) == events or not data.strip()


def test_an_event_comes_out_with_its_blank_line() -> None:
    reader = SseReader()
    assert reader.feed(b"event: a\ndata: 1\n") == []
    assert reader.feed(b"\n") == [Event(b"a", b"1")]
    assert reader.feed(b"data: 2\n\ndata: 3\n\ndata: 4\n") == [Event(b"", b"2"), Event(b"", b"3")]
    assert reader.finish() == [Event(b"", b"4")]
    assert reader.finish() == []


def test_a_comment_comes_out_with_its_own_line() -> None:
    reader = SseReader()
    assert reader.feed(b"data: 1\n: ping\n") == [Event(KEEP_ALIVE, b"ping")]
    assert reader.feed(b"\n") == [Event(b"", b"1")]


def test_an_event_without_data_is_none() -> None:
    assert read(b"event: ping\n\n\n\n") == []
    assert read(b"event: a\n\ndata: 1\n\n") == [Event(b"", b"1")]


def test_only_one_space_belongs_to_the_format() -> None:
    assert read(b"data:  two\n\n") == [Event(b"", b" two")]
    assert read(b"data:\n\n") == [Event(b"", b"")]


def test_other_fields_are_passed_by() -> None:
    assert read(b"dataset: 1\nid: 2\n\n") == []


def test_a_character_cut_in_two_is_whole_again() -> None:
    data = "data: é🎉日\n\n".encode()
    for at in range(len(data)):
        assert read(data[:at], data[at:])[0].data.decode() == "é🎉日"


def test_an_event_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LARGEST_EVENT", 100)
    for chunks in ([b"data: " + b"x" * 200], [b"x" * 10] * 11, [b"data: " + b"x" * 30 + b"\n"] * 4):
        with pytest.raises(EventTooLarge):
            read(*chunks)


def test_events_of_any_number_may_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LARGEST_EVENT", 100)
    reader = SseReader()
    for _ in range(50):
        assert len(reader.feed(b"data: " + b"x" * 60 + b"\n\n")) == 1
