"""Waits for what may never come back, no longer than one wants to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class StillWaiting(Exception):
    """It has not come back in time, or the one before it has not."""


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: T
        self.error: Exception | None = None


class Patience:
    """Does one thing after another in a thread of its own, which nobody has to wait for at the end."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._last: _Job[object] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(self, work: Callable[[], T], seconds: float) -> T:
        """What `work` returns or raises. Raises StillWaiting after `seconds`: it goes on all the same, and nothing new
        is begun before it has ended."""
        if self._last is not None and not self._last.done.is_set():
            raise StillWaiting
        job = _Job(work)
        self._last = job  # type: ignore[assignment]
        self._jobs.put(job)  # type: ignore[arg-type]
        if not job.done.wait(seconds):
            raise StillWaiting
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job.result = job.work()
            except Exception as error:
                job.error = error
            job.done.set()
