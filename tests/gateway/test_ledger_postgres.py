"""The whole gateway with its ledger in PostgreSQL, which is away, comes, is killed under load, and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from aion_extproc.stores.ledger import INT64_MAX, Ledger
from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.ledgers import added
from tests.support.postgres import PASSWORD, Postgres
from tests.support.upstream import Upstream

BODY = {"model": "aion-auto", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
USERS = 8


def load(gateway: Gateway, count: int) -> set[str]:
    """So many requests, some at a time; their ids. All of them are served, whatever the database does."""

    def one(number: int) -> str:
        answer = gateway.post("/v1/chat/completions", BODY | {"stream": number % 2 == 0})
        assert answer.status_code == 200
        return answer.headers["x-request-id"]

    with ThreadPoolExecutor(USERS) as users:
        return set(users.map(one, range(count)))


def spooled(gateway: Gateway) -> float:
    return sum(
        float(line.split()[1]) for line in gateway.metrics().splitlines() if line.startswith("aion_ledger_spooled ")
    )


def read(gateway: Gateway, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aion_extproc.cli", "report", "-c", str(gateway.directory / "aion.yaml"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_no_request_waits_for_the_database_and_no_row_is_lost(
    postgres_server: Postgres, postgres_url: str, provider: Upstream, tmp_path: Path
) -> None:
    provider.answer = as_asked
    telemetry = {"db_url": postgres_url, "flush_interval": "50ms", "spool_dir": str(tmp_path / "spool")}
    postgres_server.kill()
    with running(tmp_path / "gateway", two_providers(provider, telemetry=telemetry)) as gateway:
        asked = load(gateway, 40)
        wait_for(lambda: spooled(gateway) >= 40)  # some of them twice: from the log, and from the log once more
        answer = httpx.get(gateway.url + "/aion/v1/stats")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert gateway.post("/v1/chat/completions", BODY).status_code == 200
        told = read(gateway)
        assert told.returncode == 2
        assert "Connection refused" in told.stderr

        postgres_server.start()
        with ThreadPoolExecutor(1) as other:
            loading = other.submit(load, gateway, 400)
            for _ in range(2):
                wait_for(lambda: httpx.get(gateway.url + "/aion/v1/stats").status_code == 200)
                postgres_server.kill()
                wait_for(lambda: spooled(gateway) > 0)
                asked |= load(gateway, 20)
                postgres_server.start()
            asked |= loading.result()
        wait_for(lambda: not any((tmp_path / "spool").iterdir()))
        asked |= load(gateway, 5)
        seen = Ledger(postgres_url)
        wait_for(lambda: asked <= {row.request_id for row in seen.rows()})
        rows = seen.rows()
        assert len(rows) == len(asked) + 1, "each once, and the one that was sent alone"
        report = seen.report(0, INT64_MAX, "model")
        assert {line.name: line.sums for line in report.lines} == added(rows, lambda row: f"{row.provider}/{row.model}")
        seen.close()

        stats = httpx.get(gateway.url + "/aion/v1/stats", params={"by": "model"}).json()
        assert stats["total"]["cost_nano"] == sum(row.cost_nano or 0 for row in rows) > 0
        told = read(gateway, "--json")
        assert json.loads(told.stdout)["total"]["requests"] == stats["total"]["requests"] == len(rows)

        shown = [gateway.log, gateway.metrics(), told.stderr, told.stdout]
        shown += [path.read_text(errors="replace") for path in gateway.run_dir.rglob("*") if path.is_file()]
        assert not [text for text in shown if PASSWORD in text]
    rest = [path for path in (tmp_path / "gateway").iterdir() if path.name != "aion.yaml"]
    assert not [path for path in rest if path.is_file() and PASSWORD.encode() in path.read_bytes()]


def test_what_a_stopped_gateway_could_not_write_the_next_one_does(
    postgres_server: Postgres, postgres_url: str, provider: Upstream, tmp_path: Path
) -> None:
    provider.answer = as_asked
    config = two_providers(
        provider, telemetry={"db_url": postgres_url, "flush_interval": "50ms", "spool_dir": str(tmp_path / "spool")}
    )
    with running(tmp_path / "first", config) as gateway:
        asked = load(gateway, 10)
        postgres_server.kill()
        asked |= load(gateway, 30)
        gateway.stop()
    assert any((tmp_path / "spool").iterdir())
    postgres_server.start()
    with running(tmp_path / "second", config) as gateway:
        wait_for(lambda: not any((tmp_path / "spool").iterdir()))
        stats = httpx.get(gateway.url + "/aion/v1/stats").json()
        assert stats["total"]["requests"] == len(asked)
