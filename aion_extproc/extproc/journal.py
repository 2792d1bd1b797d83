"""The last of Envoy's log once more, unread: for the case that the process which keeps the ledger dies with what it has
not written yet.

Envoy sends its log to two processes. One makes rows of it; the other, a worker, keeps what it gets for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

REPLAY = "replay"  # the kind of news that asks for it
KEPT_SECONDS = 30.0  # longer than it takes to notice that the other is gone, and to replace it
MOST_BYTES = 64 << 20


class Journal:
    """Messages of the last `KEPT_SECONDS`, `MOST_BYTES` of them at most. Times of any clock that never goes back."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def keep(self, message: bytes, now: float) -> None:
        self._kept.append((now, message))
        self._bytes += len(message)
        while self._kept and (self._bytes > MOST_BYTES or self._kept[0][0] < now - KEPT_SECONDS):
            self._bytes -= len(self._kept.popleft()[1])

    def messages(self) -> Iterator[bytes]:
        """All that is kept, in the order in which it came."""
        for _, message in list(self._kept):
            yield message
