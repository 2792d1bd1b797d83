"""The file that a gateway was started with, and whether it has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aion_extproc.config.schema import Settings

# Of what a name stands for now: a ConfigMap's is a symbolic link to one that is swapped.
_Signature = tuple[int, int, int, int] | None


class ConfigFile:
    """`load` reads it, with what the command line says put over it. ConfigError: it cannot be used."""

    def __init__(self, path: Path, load: Callable[[Path], Settings]) -> None:
        self.path = path
        self._load = load
        self._read: _Signature = None
        self._seen: _Signature = None

    def read(self) -> Settings:
        """Raises ConfigError."""
        self._read = self._seen = self._signature()  # before: what is written meanwhile is a change
        return self._load(self.path)

    def changed(self) -> bool:
        """Whether it is not what was last read, and was the same at the last look: nobody is writing it."""
        now, before = self._signature(), self._seen
        self._seen = now
        return now == before and now != self._read

    def _signature(self) -> _Signature:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
