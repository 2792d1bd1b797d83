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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

import structlog

from aion_extproc.logs import describe

log = structlog.get_logger(__name__)

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
_STABLE_SECONDS = 30.0  # one that ran this long starts with the first back-off again
# A worker beats twice a second. Its open requests wait this long at most, so it stays below their five seconds.
SILENT_SECONDS = 3.5
_START_SECONDS = 30.0
LAST_SECONDS = 1.2  # from SIGTERM to SIGKILL
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # not between fork and exec, where another thread may have left the loader locked
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, eq=False)
class Child:
    """What to run. `heartbeat`: the command takes `--heartbeat FD` and beats on it. `stdin` is written and closed.
    `shown`: makes what a start's output goes through, line by line; without it nobody reads it."""

    name: str
    command: Sequence[str]
    stdin: bytes = field(default=b"", repr=False)  # may have secrets in it
    heartbeat: bool = False
    shown: Callable[[], Callable[[bytes], bytes]] | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)  # None: as ours
    died: Callable[[str], None] | None = None  # told the name of each process that ended without being asked
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    _stopping: bool = False
    _started_at: float = 0.0
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

    @property
    def resident_bytes(self) -> int:
        """Memory that it holds; 0 where that cannot be known (proc(5) is Linux)."""
        if self.process is None:
            return 0
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    @property
    def age(self) -> float:
        """Seconds since its last start."""
        return time.monotonic() - self._started_at

    def stop_restarting(self) -> None:
        self._stopping = True

    def tell(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    async def see_off(self, within: float) -> None:
        """SIGUSR1, upon which it ends when its work is done; `stop` when that takes longer than `within` seconds."""
        self._stopping = True
        self.tell(signal.SIGUSR1)
        if self._watcher is not None:
            await asyncio.wait({self._watcher}, timeout=within)
        await self.stop(LAST_SECONDS)

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
            stdout=sys.stderr if self.shown is None else subprocess.PIPE,
            stderr=None if self.shown is None else subprocess.STDOUT,
            pass_fds=inherited,
            env=self.env,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which knows the order
            preexec_fn=_die_with_parent,
        )
        if self.shown is not None:
            assert self.process.stdout is not None
            Thread(target=_pass_on, args=(self.process.stdout, self.shown()), daemon=True).start()
        if write_end is not None:
            os.close(write_end)
        loop = asyncio.get_running_loop()
        if self.process.stdin is not None:  # a pipe may hold less than that, and the child reads when it has started
            loop.run_in_executor(None, _feed, self.process.stdin, self.stdin)
        self._started_at = time.monotonic()
        self._beat_at = time.monotonic() + _START_SECONDS
        if self._reader is not None:
            loop.add_reader(self._reader, self._beats)

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
                    self.died(self.name)
                except Exception as error:  # whoever listens must not end the watch
                    log.error("listener_failed", process=self.name, error=describe(error))
            if self.age > _STABLE_SECONDS:
                backoff = FIRST_BACKOFF
            log.error("died", process=self.name, pid=process.pid, exit=code, restart_in_seconds=backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
            if self._stopping:
                return
            self.restarts += 1
            self._spawn()


def _feed(pipe: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(OSError), pipe:  # it died at once; the watcher says so
        pipe.write(text)


def _pass_on(output: IO[bytes], shown: Callable[[bytes], bytes]) -> None:
    with output:
        for line in output:
            sys.stderr.buffer.write(shown(line))
            sys.stderr.buffer.flush()


def _die_with_parent() -> None:
    """Where the kernel can (Linux): no child outlives a supervisor that was killed."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
