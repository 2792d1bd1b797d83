"""The spool on its own: what goes in comes out, once at a time, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores import spool as module
from aion_extproc.stores.spool import Row, Spool
from tests.support import ledgers

PLENTY = 1 << 30


def row(request_id: str) -> LedgerRow:
    return LedgerRow(request_id, 1, "served", 200, provider="p", model="m", cost_nano=1)


def all_of(spool: Spool) -> list[Row]:
    rows: list[Row] = []
    while spool.rows:
        for some in spool.oldest(3):
            rows += some
        spool.done()
    return rows


@given(batches=st.lists(st.lists(ledgers.rows | ledgers.attempts, max_size=8), max_size=5))
def test_rows_come_out_as_they_went_in(batches: list[list[Row]]) -> None:
    with TemporaryDirectory() as directory:
        spool = Spool(Path(directory), "a", PLENTY)
        for batch in batches:
            assert spool.append(batch) == len(batch)
        written = [row for batch in batches for row in batch]
        assert spool.rows == len(written)
        assert all_of(spool) == written
        assert os.listdir(directory) == []


def test_what_json_cannot_say_is_kept_all_the_same(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "a", PLENTY)
    odd = replace(row("odd"), asked_model="a\ud800b\0", usage=Usage(input_tokens=2**70))
    attempt = AttemptRow("x", 1, 2, "p", "\udfff", 0, "e", 0.5, None, "k", "t", "s")
    spool.append([odd, attempt])
    assert all_of(spool) == [odd, attempt]


def test_what_its_owner_leaves_is_for_the_next(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, "a", PLENTY), Spool(tmp_path, "a", PLENTY)
    first.append([row("1"), row("2")])
    second.take_over()
    assert second.rows == 0, "its owner is alive"
    first.close()
    other = Spool(tmp_path, "another database", PLENTY)
    other.take_over()
    assert other.rows == 0
    second.take_over()
    second.take_over()
    assert all_of(second) == [row("1"), row("2")]


def test_a_file_that_grows_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 1000)
    spool = Spool(tmp_path, "a", PLENTY)
    rows = [row(str(n)) for n in range(20)]
    for each in rows:
        spool.append([each])
    assert len(os.listdir(tmp_path)) > 5
    assert all_of(spool) == rows


def test_rows_that_come_while_the_oldest_is_read_are_not_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "a", PLENTY)
    spool.append([row("1")])
    reading = spool.oldest(10)
    assert next(reading) == [row("1")]
    spool.append([row("2")])
    spool.done()
    assert all_of(spool) == [row("2")]


def test_what_there_is_no_room_for_is_not_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "a", 2000)
    rows = [row(str(n)) for n in range(20)]
    kept = spool.append(rows)
    assert 0 < kept < 20
    assert spool.append(rows) == 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    assert Spool(tmp_path, "a", 2000).append(rows[:1]) == 0, "the room is for all processes together"
    assert all_of(spool) == rows[:kept]
    assert spool.append(rows) == kept, "there is room again"


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_line_that_is_not_whole_does_not_take_the_others_along(tmp_path: Path, harm: str) -> None:
    spool = Spool(tmp_path, "a", PLENTY)
    spool.append([row("first"), row("second"), row("third")])
    spool.close()
    (path,) = tmp_path.iterdir()
    text = path.read_bytes()
    path.write_bytes(text[:-10] if harm == "cut" else text.replace(b"third", b"thirt"))
    spool.take_over()
    assert all_of(spool) == [row("first"), row("second")]


def test_rows_of_another_version_are_read(tmp_path: Path) -> None:
    """It may have known more, or less."""
    spool = Spool(tmp_path, "a", PLENTY)
    spool.append([row("1")])
    spool.close()
    (path,) = tmp_path.iterdir()
    text = path.read_bytes()[9:-1].replace(b'"tags":""', b'"later":"x"')
    path.write_bytes(b"%08x %s\n" % (crc32(text), text))
    spool.take_over()
    assert all_of(spool) == [row("1")]


FILLS = """
import sys, time
from pathlib import Path
from aion_extproc.stores.spool import Spool
from tests.unit.test_ledger_spool import row
spool = Spool(Path(sys.argv[1]), "a", 1 << 30)
spool.append([row("of the dead")])
print("written", flush=True)
time.sleep(60)
"""


def test_the_rows_of_a_killed_process_are_taken_over(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", FILLS, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    spool = Spool(tmp_path, "a", PLENTY)
    spool.take_over()
    assert spool.rows == 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    spool.take_over()
    assert all_of(spool) == [row("of the dead")]
