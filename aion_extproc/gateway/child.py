"""A child process that is kept running, and killed when it falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
_STABLE_SECONDS = 30.0  # one that ran this long starts with the first back-off again
# A worker beats twice a second. Its open requests wait this long at most, so it stays below their five seconds.
SILENT_SECONDS = 3.5
_START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """What to run. `heartbeat`: the command takes `--heartbeat FD` and beats on it. `stdin` is written and closed."""

    name: str
    command: Sequence[str]
    stdin: bytes = b""
    heartbeat: bool = False
    died: Callable[[int], None] | None = None  # told the pid of each process that ended without being asked
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    _stopping: bool = False
    _beat_at: float = 0.0
    _reader: int | None = None
    _watcher: asyncio.Task[None] | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start it, and keep it running until `stop`."""
        self._spawn()
        self._watcher = asyncio.create_task(self._watch())

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop_restarting(self) -> None:
        self._stopping = True

    async def stop(self, within: float) -> None:
        """SIGTERM, then SIGKILL after `within` seconds."""
        self._stopping = True
        process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a stopped process would not see the next one
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, within)
            except subprocess.TimeoutExpired:
                log.warning("killed", process=self.name, reason=f"still there after {within:g} s")
                process.kill()
                process.wait()
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._close_reader()

    def _spawn(self) -> None:
        command = list(self.command)
        inherited: tuple[int, ...] = ()
        write_end = None
        if self.heartbeat:
            self._close_reader()
            self._reader, write_end = os.pipe()
            os.set_blocking(self._reader, False)
            command += ["--heartbeat", str(write_end)]
            inherited = (write_end,)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which knows the order
            preexec_fn=_die_with_parent,
        )
        if write_end is not None:
            os.close(write_end)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died at once; the watcher says so
                self.process.stdin.write(self.stdin)
                self.process.stdin.close()
        self._beat_at = time.monotonic() + _START_SECONDS
        if self._reader is not None:
            asyncio.get_running_loop().add_reader(self._reader, self._beats)

    def _beats(self) -> None:
        assert self._reader is not None
        if os.read(self._reader, 4096):
            self._beat_at = time.monotonic()
        else:
            self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = None

    async def _watch(self) -> None:
        backoff = FIRST_BACKOFF
        started = time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            process = self.process
            if process is None:
                continue
            code = process.poll()
            if code is None:
                if self.heartbeat and time.monotonic() - self._beat_at > SILENT_SECONDS:
                    log.error("silent", process=self.name, pid=process.pid, action="killed")
                    process.kill()
                    self._beat_at = time.monotonic()
                continue
            if self._stopping:
                return
            if self.died is not None:
                try:
                    self.died(process.pid)
                except Exception as error:  # whoever listens must not end the watch
                    log.error("listener_failed", process=self.name, error=repr(error))
            if time.monotonic() - started > _STABLE_SECONDS:
                backoff = FIRST_BACKOFF
            log.error("died", process=self.name, pid=process.pid, exit=code, restart_in_seconds=backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
            if self._stopping:
                return
            self.restarts += 1
            self._spawn()
            started = time.monotonic()


def _die_with_parent() -> None:
    """Where the kernel can (Linux): no child outlives a supervisor that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
