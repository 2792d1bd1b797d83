"""What a rewritten request must be, told by the slow reader."""

from __future__ import annotations

import json
from typing import Any

import orjson

from tests.property.documents import Document, Part, read, text


def loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)  # for the depth; the other for halves of surrogate pairs
    except orjson.JSONDecodeError:
        return json.loads(data)


def check(raw: bytes, out: bytes, new: str, ask: bool) -> None:
    """AssertionError unless `out` is `raw` with `new` as its model, without our preferences, with usage where asked
    for, and with every other byte as it was."""
    says = loads(out)
    assert says["model"] == new
    assert "aion_preferences" not in says
    before, after = read(raw), read(out)
    assert [text(part.value) for part in after.parts if part.key == "model"] == [new] * before.keys.count("model")
    kept = [part for part in before.parts if part.key != "aion_preferences"]
    added = ask and "stream_options" not in before.keys
    got = list(after.parts)
    if added:
        last = got.pop()
        assert (last.key, loads(last.value)) == ("stream_options", {"include_usage": True})
    assert [part.key for part in got] == [part.key for part in kept]
    for old, part in zip(kept, got, strict=True):
        assert part.written == old.written
        if part.key == "model":
            assert part.value == orjson.dumps(new)
        elif part.key == "stream_options" and ask:
            check_options(old, part)
        else:
            assert part.value == old.value
    assert (after.lead, after.tail) == (before.lead, before.tail)
    if "aion_preferences" not in before.keys:
        check_spaces(before, after, added)
    original = loads(raw)
    if ask:
        assert says["stream_options"]["include_usage"] is True
    else:
        assert says.get("stream_options") == original.get("stream_options")


def check_options(old: Part, new: Part) -> None:
    """Every include_usage is true, and nothing else in it has changed."""
    if not old.value.startswith(b"{"):
        assert loads(new.value) == {"include_usage": True}
        return
    before, after = read(old.value), read(new.value)
    asked = [part for part in after.parts if part.key == "include_usage"]
    assert {part.value for part in asked} == {b"true"}
    assert len(asked) == max(1, before.keys.count("include_usage"))
    others = [(part.written, part.value) for part in before.parts if part.key != "include_usage"]
    assert [(part.written, part.value) for part in after.parts if part.key != "include_usage"] == others


def check_spaces(before: Document, after: Document, added: bool) -> None:
    """White space between members too, where no member was taken out."""
    count = len(before.parts)
    assert [part.before for part in after.parts[:count]] == [part.before for part in before.parts]
    assert after.gaps[:count] == before.gaps
    if added:
        assert (after.parts[-1].before, after.gaps[-1]) == (b"", b"")
