"""How much a worker has open, and when that is too much: then it refuses what is new before its memory grows."""

from __future__ import annotations


class Load:
    """Requests that have begun to arrive and are not yet on their way, and the bytes of them that are held here."""

    def __init__(self, most_requests: int, most_bytes: int) -> None:
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self.requests = 0
        self.bytes = 0

    @property
    def over(self) -> bool:
        """Whether the newest of them is one too many."""
        return self.requests > self._most_requests or self.bytes > self._most_bytes


class Share:
    """One request's part of the load, from its making to its `end`."""

    def __init__(self, load: Load) -> None:
        self._load: Load | None = load
        self._bytes = 0
        load.requests += 1

    def add(self, size: int) -> None:
        if self._load is not None:
            self._bytes += size
            self._load.bytes += size

    def end(self) -> None:
        """It holds nothing any more. May be called again."""
        if self._load is not None:
            self._load.requests -= 1
            self._load.bytes -= self._bytes
            self._load = None
