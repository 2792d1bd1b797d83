"""Answers that came compressed: read whatever way they are cut, and never without bound."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.wire import compression
from aion_extproc.wire.compression import BadCompression, Decompressor, decompressor

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP ": gzip.compress,
    "deflate": zlib.compress,
}


@given(st.binary(max_size=2000), st.sampled_from(sorted(PACK)), st.integers(1, 50))
def test_cut_anywhere(text: bytes, encoding: str, size: int) -> None:
    packed = PACK[encoding](text)
    reader = decompressor(encoding)
    assert reader is not None
    assert b"".join(reader.feed(packed[at : at + size]) for at in range(0, len(packed), size)) == text


@pytest.mark.parametrize("encoding", ["", "identity", " Identity"])
def test_nothing_to_do(encoding: str) -> None:
    assert decompressor(encoding) is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_what_nobody_here_reads_is_named(encoding: str) -> None:
    with pytest.raises(BadCompression, match=encoding):
        decompressor(encoding)


def test_what_is_not_what_it_says() -> None:
    with pytest.raises(BadCompression, match="cannot be decompressed"):
        Decompressor().feed(b"plain text")


def test_a_bomb_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_LARGEST", 1 << 20)
    reader = Decompressor()
    assert len(reader.feed(gzip.compress(bytes(1 << 20)))) == 1 << 20
    with pytest.raises(BadCompression, match="larger"):
        Decompressor().feed(gzip.compress(bytes((1 << 20) + 1)))
