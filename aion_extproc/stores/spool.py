"""Where ledger rows wait on disk while the database is away: files of lines, each a row with its checksum.

    <database>-<pid>-<number>.rows      8 hex digits of CRC-32, a space, "r" or "a", the row as JSON

A file belongs to the process that has it locked (flock), so to nobody when that was killed: then another one takes it
over. Nothing is written into a file that was taken over, and it goes when all its rows are in the database. Should its
owner end just before, they are written again, which changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import structlog

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.usage import Usage

FILE_BYTES = 4 << 20  # then the next one is begun: what is in the database need not wait for the rest to go

Row = LedgerRow | AttemptRow

log = structlog.get_logger(__name__)

_numbers = count()  # several spools of one process, as tests have them, are apart too
_FIELDS = {kind: frozenset(field.name for field in fields(kind)) for kind in (LedgerRow, AttemptRow, Usage)}


@dataclass(slots=True, eq=False)
class _File:
    path: Path
    descriptor: int  # locked
    rows: int
    size: int = 0


class Spool:
    """Rows for the database `name`, in `directory`, which is made when first needed; all processes that write there may
    fill `limit` bytes together. For one thread."""

    def __init__(self, directory: Path, name: str, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._prefix = hashlib.sha256(name.encode()).hexdigest()[:12]
        self._files: list[_File] = []  # ours, oldest first
        self._open: _File | None = None  # the last of them, while rows are added to it

    @property
    def rows(self) -> int:
        """In our files."""
        return sum(file.rows for file in self._files)

    @property
    def waiting(self) -> bool:
        """Whether anybody's rows for this database are still here."""
        return self._used() > 0

    def append(self, rows: Sequence[Row]) -> int:
        """Keep the rows and return how many: the first ones, as many as there is room for. They are on disk then.
        Raises OSError, with nothing kept."""
        room, lines = self._limit - self._used(), []
        for row in rows:
            line = _line(row)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        if not lines:
            return 0
        file = self._open or self._begin()
        try:
            _write(file.descriptor, b"".join(lines))
        except OSError:
            os.ftruncate(file.descriptor, file.size)  # half a line would spoil the next one
            raise
        file.rows += len(lines)
        file.size += sum(map(len, lines))
        if file.size >= FILE_BYTES:
            self._open = None
        return len(lines)

    def take_over(self) -> None:
        """Make the files ours whose process is gone."""
        for path in self._paths():
            if any(file.path == path for file in self._files):
                continue
            try:
                descriptor = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                if _lock(descriptor) and os.path.samestat(os.fstat(descriptor), path.stat()):  # it is still there
                    rows = path.read_bytes().count(b"\n")
                    self._files.insert(0, _File(path, descriptor, rows, os.fstat(descriptor).st_size))
                    log.info("spool_taken_over", file=path.name, rows=rows)
                    continue
            except OSError as error:
                log.error("spool_unreadable", file=path.name, reason=str(error))
            os.close(descriptor)

    def oldest(self, size: int) -> Iterator[list[Row]]:
        """The rows of our oldest file, `size` at a time. Call `done` when they are in the database."""
        file = self._files[0]
        if file is self._open:
            self._open = None
        rows: list[Row] = []
        unreadable = 0
        with file.path.open("rb") as lines:
            for line in lines:
                row = _row(line)
                if row is None:
                    unreadable += 1
                    continue
                rows.append(row)
                if len(rows) == size:
                    yield rows
                    rows = []
        if rows:
            yield rows
        if unreadable:  # its process was killed as it wrote, or the disk has lost something
            log.error("spool_damaged", file=file.path.name, rows=unreadable)

    def done(self) -> None:
        """Our oldest file is in the database."""
        file = self._files.pop(0)
        with suppress(OSError):
            file.path.unlink()
        os.close(file.descriptor)  # after that: whoever has it now finds that it is gone

    def close(self) -> None:
        """What is left is for whoever comes next."""
        for file in self._files:
            os.close(file.descriptor)
        self._files, self._open = [], None

    def _paths(self) -> list[Path]:
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            return []
        return [self._directory / name for name in names if name.startswith(self._prefix) and name.endswith(".rows")]

    def _used(self) -> int:
        total = 0
        for path in self._paths():
            with suppress(OSError):
                total += path.stat().st_size
        return total

    def _begin(self) -> _File:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = self._directory / f"{self._prefix}-{os.getpid()}-{next(_numbers)}.rows"
            with suppress(FileExistsError):  # a predecessor's that had our number
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
                if _lock(descriptor):
                    break
                os.close(descriptor)  # somebody has just taken it over, empty as it is
        _sync(self._directory)
        file = self._open = _File(path, descriptor, 0)
        self._files.append(file)
        return file


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(row: Row) -> bytes:
    try:
        text = orjson.dumps(row)
    except TypeError:  # lone surrogates, or a number of more than 64 bits
        text = json.dumps(asdict(row), default=repr).encode()
    text = (b"r" if isinstance(row, LedgerRow) else b"a") + text
    return b"%08x %s\n" % (crc32(text), text)


def _row(line: bytes) -> Row | None:
    """None: it is not whole. What this version has no field for is left out."""
    checksum, text = line[:8], line[9:-1]
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32(text):
        return None
    try:
        values: dict[str, Any] = orjson.loads(text[1:])
    except orjson.JSONDecodeError:
        values = json.loads(text[1:])
    if text[:1] == b"a":
        return AttemptRow(**_known(AttemptRow, values))
    usage = Usage(**_known(Usage, values.pop("usage")))
    return LedgerRow(usage=usage, **_known(LedgerRow, values))


def _known(kind: type[LedgerRow | AttemptRow | Usage], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in _FIELDS[kind]}
