"""A whole gateway (`aion up`: real Envoy, workers, API, ledger) for a test, and ways to look at it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from aion_extproc.accounting.row import AttemptRow, LedgerRow
from aion_extproc.stores.ledger import Ledger

T = TypeVar("T")

START_SECONDS = 60.0
WAIT_SECONDS = 20.0


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    directory: Path
    target: str  # of its ledger

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "aion.log").read_text(errors="replace")

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        """A JSON value or raw bytes; header names with underscores for dashes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return httpx.post(self.url + path, content=content, headers=named, timeout=30)

    def rows(self) -> list[LedgerRow]:
        """The ledger as it is now, oldest first."""
        ledger = Ledger(self.target)
        try:
            return sorted(ledger.rows(limit=100_000), key=lambda row: row.at_ms)
        finally:
            ledger.close()

    def row(self, request_id: str) -> LedgerRow:
        """The row of a request, waited for: it is written shortly after the answer."""
        return wait_for(lambda: next((row for row in self.rows() if row.request_id == request_id), None))

    def attempts(self, request_id: str) -> list[AttemptRow]:
        """The rows of its failed attempts, in their order."""
        ledger = Ledger(self.target)
        try:
            return ledger.attempts(request_id)
        finally:
            ledger.close()

    def children(self, module: str) -> list[int]:
        """The pids of the gateway's processes whose command line has `module` in it."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                parent = int(re.sub(r".*\) ", "", (entry / "stat").read_text()).split()[1])
                if parent == self.process.pid and module in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
        return sorted(found)

    @property
    def run_dir(self) -> Path:
        """Where its sockets and Envoy's configuration are."""
        command = Path(f"/proc/{self.children('bootstrap.json')[0]}/cmdline").read_text()
        return Path(next(word for word in command.split("\0") if word.endswith("bootstrap.json"))).parent

    def envoy_stat(self, name: str) -> int:
        """One of Envoy's own counters or gauges; 0 when it has none of that name."""
        text = self.envoy_admin(f"stats?filter=^{re.escape(name)}$")
        return int(text.rsplit(":", 1)[1]) if ":" in text else 0

    def open_on_workers(self) -> dict[str, int]:
        """What is open on each worker, by its socket: exchanges, and the access log's stream."""
        clusters = json.loads(self.envoy_admin("clusters?format=json"))["cluster_statuses"]
        hosts = next(one["host_statuses"] for one in clusters if one["name"] == "aion_extproc")
        return {
            host["address"]["pipe"]["path"]: int(
                next(stat.get("value", 0) for stat in host["stats"] if stat["name"] == "rq_active")
            )
            for host in hosts
        }

    def envoy_admin(self, query: str) -> str:
        transport = httpx.HTTPTransport(uds=str(self.run_dir / "envoy-admin.sock"))
        with httpx.Client(transport=transport, timeout=5) as client:
            return client.get(f"http://envoy/{query}").text

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10).text

    def stop(self) -> float:
        """Ctrl-C; returns how many seconds it took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(15)
        return time.monotonic() - start


def wait_for(look: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
    """What `look` returns once it is true. AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)  # between two looks, not in place of one
    return result


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def running(
    directory: Path, config: dict[str, Any] | None, env: dict[str, str] | None = None, *options: str
) -> Iterator[Gateway]:
    """`aion up` with this configuration (None: without a file), ports and ledger of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    port, admin_port = free_ports(2)
    command = [sys.executable, "-m", "aion_extproc.cli", "up", "--port", str(port), "--admin-port", str(admin_port)]
    target = str(directory / "data" / "aion.db")  # where it is without a configuration
    if config is not None:
        target = str(directory / "aion.db")
        telemetry = {"db_path": target, "flush_interval": "100ms"}
        path = directory / "aion.yaml"
        written = {"telemetry": telemetry, **config}
        target = written["telemetry"].get("db_url") or written["telemetry"]["db_path"]
        path.write_text(json.dumps(written))  # JSON is YAML
        command += ["--config", str(path)]
    with (directory / "aion.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=directory, env=clean_env() | (env or {}), stderr=log, stdout=log
        )
    gateway = Gateway(process, port, admin_port, directory, target)
    try:
        wait_for(lambda: process.poll() is not None or "ready on" in gateway.log, START_SECONDS)
        assert process.poll() is None, f"aion up ended with {process.returncode}:\n{gateway.log}"
        yield gateway
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def clean_env() -> dict[str, str]:
    """This environment without keys of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
