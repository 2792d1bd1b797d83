"""Ledgers of older and newer versions, and many processes that meet at one."""

from __future__ import annotations

import multiprocessing
import sqlite3
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.accounting.usage import Usage
from aion_extproc.stores.database import HEAD, MIGRATIONS, REVISIONS, connect, describe, snapshot
from aion_extproc.stores.ledger import INT64_MAX, Ledger, LedgerAway, LedgerError
from aion_extproc.stores.report_sums import AttemptSums
from tests.support.postgres import PASSWORD, Postgres

spawn = multiprocessing.get_context("spawn")

# As the first two versions wrote it; the first had no attempts.
REQUESTS = """
CREATE TABLE requests (
    request_id VARCHAR(256) NOT NULL, at_ms BIGINT NOT NULL, outcome VARCHAR(256) NOT NULL, status INTEGER NOT NULL,
    path VARCHAR(256) NOT NULL, format VARCHAR(256) NOT NULL, stream BOOLEAN NOT NULL, key_name VARCHAR(256) NOT NULL,
    tenant VARCHAR(256) NOT NULL, asked_model VARCHAR(256) NOT NULL, model VARCHAR(256) NOT NULL,
    provider VARCHAR(256) NOT NULL, tier INTEGER NOT NULL, score DOUBLE, task VARCHAR(256) NOT NULL,
    reason VARCHAR(256) NOT NULL, error VARCHAR(256) NOT NULL, attempts INTEGER NOT NULL, input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL, cache_write_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, estimated BOOLEAN NOT NULL,
    cost_nano BIGINT, baseline_nano BIGINT, baseline_model VARCHAR(256) NOT NULL, latency_ms DOUBLE NOT NULL,
    ttft_ms DOUBLE, request_bytes BIGINT NOT NULL, response_bytes BIGINT NOT NULL, PRIMARY KEY (request_id));
CREATE INDEX requests_at_ms ON requests (at_ms);
INSERT INTO requests VALUES ('id-1', 7200001, 'served', 200, '/v1/messages', 'anthropic', 1, 'dev', 'acme', 'aion-auto',
    'gpt', 'openai', 2, 0.5, 'code', 'score', '', 2, 10, 20, 3, 4, 1, 5, 1, 700, 900, 'big', 1.5, 0.5, 11, 12);
"""
ATTEMPTS = """
CREATE TABLE attempts (
    request_id VARCHAR(256) NOT NULL, number INTEGER NOT NULL, at_ms BIGINT NOT NULL, provider VARCHAR(256) NOT NULL,
    model VARCHAR(256) NOT NULL, status INTEGER NOT NULL, error VARCHAR(256) NOT NULL, latency_ms DOUBLE NOT NULL,
    cost_nano BIGINT, PRIMARY KEY (request_id, number));
CREATE INDEX attempts_at_ms ON attempts (at_ms);
INSERT INTO attempts VALUES ('id-1', 1, 7200000, 'openai', 'mini', 503, 'provider_503', 12.5, 40);
"""
ROW = LedgerRow(
    "id-1", 7200001, "served", 200, "/v1/messages", "anthropic", True, "dev", "acme", "", "", "aion-auto", "gpt",
    "openai", 2, 0.5, "code", "score", "", 2, Usage(10, 20, 3, 4, 1, 5), True, 700, 900, "big", latency_ms=1.5,
    ttft_ms=0.5, request_bytes=11, response_bytes=12,
)  # fmt: skip
ATTEMPT = AttemptRow("id-1", 1, 7200000, "openai", "mini", 503, "provider_503", 12.5, 40, "dev", "acme")


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_from_before_is_taken_over_and_summed(tmp_path: Path, version: int) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(REQUESTS + (ATTEMPTS if version == 2 else "") + f"PRAGMA user_version={version};")
    connection.close()
    ledger = Ledger(path)
    assert ledger.rows() == [ROW]
    assert ledger.attempts("id-1") == ([ATTEMPT] if version == 2 else [])
    report = ledger.report(0, INT64_MAX, "tenant")
    (line,) = report.lines
    assert (line.name, line.sums.cost_nano, line.sums.saved_nano, line.sums.latency_us) == ("acme", 700, 200, 1500)
    assert line.failed == (AttemptSums(1, 0, 40) if version == 2 else AttemptSums())
    assert ledger.add([ROW, ATTEMPT]) == 0, "they are there already"
    assert ledger.report(0, INT64_MAX, "tenant").total.sums == line.sums
    ledger.close()


def test_versions_follow_one_another() -> None:
    script = ScriptDirectory(str(MIGRATIONS))
    assert script.get_heads() == [HEAD]
    assert [step.revision for step in script.walk_revisions()] == list(reversed(REVISIONS))


@pytest.mark.parametrize("statement", ["PRAGMA user_version=99", "UPDATE alembic_version SET version_num = '99'"])
def test_a_newer_file_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "aion.db"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(LedgerError, match=r"aion\.db has schema version 99") as caught:
        Ledger(path)
    assert not isinstance(caught.value, LedgerAway)


def test_an_aion_from_before_alembic_refuses_our_file(tmp_path: Path) -> None:
    """It knows 2, and would not add to the sums."""
    Ledger(tmp_path / "aion.db").close()
    with sqlite3.connect(tmp_path / "aion.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] > 2
    connection.close()


def test_a_newer_database_is_refused(postgres_url: str) -> None:
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(LedgerError, match="schema version 9999"):
        connect(postgres_url)


def test_a_database_of_another_encoding_is_refused(postgres_server: Postgres) -> None:
    with (
        postgres_server.database("TEMPLATE template0 ENCODING 'LATIN1'") as url,
        pytest.raises(LedgerError, match="encoding LATIN1"),
    ):
        connect(url)


def opened(target: str, start: Barrier, results: Queue[str]) -> None:
    start.wait(60)
    ledger = Ledger(target)
    ledger.add([ROW, ATTEMPT])
    ledger.close()
    results.put("")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_many_processes_make_the_schema_once(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    target = str(tmp_path / "aion.db") if database == "sqlite" else request.getfixturevalue("postgres_url")
    start, results = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=opened, args=(target, start, results)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    ledger = Ledger(target)
    assert ledger.report(0, INT64_MAX, "day").total.sums.requests == 1
    ledger.close()


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_report_is_of_one_moment(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """It may read several times."""
    target = str(tmp_path / "aion.db") if database == "sqlite" else request.getfixturevalue("postgres_url")
    ledger = Ledger(target)
    count = text("SELECT count(*) FROM requests")
    with ledger.engine() as engine, snapshot(engine) as connection:
        assert connection.scalar(count) == 0
        assert ledger.add([ROW]) == 1
        assert connection.scalar(count) == 0
    with ledger.engine() as engine, snapshot(engine) as connection:
        assert connection.scalar(count) == 1
    ledger.close()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://aion:{PASSWORD}@127.0.0.1:1/aion",
        f"postgresql://aion@127.0.0.1:1/aion?password={PASSWORD}",
        f"postgresql://aion:{PASSWORD}@127.0.0.1:port/aion",
        f"postgresql://aion:{PASSWORD}@127.0.0.1:1/aion?wrong={PASSWORD}",
    ],
)
def test_no_error_has_the_password(url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        connect(url)
    assert PASSWORD not in repr(caught.value) + str(caught.value.__cause__)


def test_the_name_of_a_database_has_no_password(postgres_url: str) -> None:
    assert describe(postgres_url) == postgres_url.replace(f":{PASSWORD}", "")
    ledger = Ledger(postgres_url)
    assert PASSWORD not in ledger.name
    ledger.close()
