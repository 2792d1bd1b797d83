"""Answers that come compressed although nobody asked for it."""

from __future__ import annotations

import zlib

# The window sizes that make zlib look for the header: gzip's or zlib's own.
_EITHER_HEADER = zlib.MAX_WBITS | 32
_LARGEST = 256 << 20  # decompressed; a small answer must not fill a worker


class BadCompression(ValueError):
    """It is not what its content-encoding says, or more than anybody would send."""


class Decompressor:
    """gzip or deflate, fed in chunks cut anywhere."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_EITHER_HEADER)
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        try:
            out = self._zlib.decompress(chunk, _LARGEST - self._size + 1)
        except zlib.error as error:
            raise BadCompression(f"cannot be decompressed: {error}") from None
        self._size += len(out)
        if self._size > _LARGEST:
            raise BadCompression(f"is larger than {_LARGEST} bytes")
        return out


def decompressor(encoding: str) -> Decompressor | None:
    """For a content-encoding; None where nothing is compressed. BadCompression: nobody here reads that one."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Decompressor()
    raise BadCompression(f"has the content-encoding {encoding[:32]}, which cannot be read")
