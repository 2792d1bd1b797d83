"""What `benchmarks.overhead` compares: the upstream, two Envoys of ours, and the product, each started for a while."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aion_extproc.config.load import loads
from aion_extproc.extproc.policy import make_providers
from aion_extproc.gateway.bootstrap import render_bootstrap
from aion_extproc.gateway.envoy import find_envoy
from aion_extproc.gateway.spec import cluster_name, make_spec
from benchmarks.kinds import KINDS, Kind
from tests.support.gateway import clean_env, free_ports, running, wait_for


@dataclass(slots=True)
class Side:
    """One Envoy to send to. `pids` by role, `python` among them where there is one."""

    port: int
    admin: Path
    pids: dict[str, int]
    noop: subprocess.Popen[bytes] | None = None
    memory: dict[str, dict[str, float]] = field(default_factory=dict)

    def prepare(self, kind: Kind, way: str) -> None:
        """Have the do-nothing server send requests and answers the way that the product does."""
        if self.noop is None:
            return
        assert self.noop.stdin is not None
        assert self.noop.stdout is not None
        wish = {"cluster": cluster_name(kind.provider), "way": way}
        self.noop.stdin.write(json.dumps(wish).encode() + b"\n")
        self.noop.stdin.flush()
        self.noop.stdout.readline()


def configuration(upstream_port: int, json_cost: str, directory: Path) -> dict[str, Any]:
    """An aion.yaml: two providers, a model a tier each, everything else as a user gets it."""

    # Names of no known model: what a known one refuses would be taken out of the requests.
    def models(prefix: str) -> list[dict[str, Any]]:
        prices = ((1, 0.25, 1.0), (2, 1.0, 4.0), (3, 5.0, 20.0))
        return [
            {"id": f"{prefix}-{tier}", "tier": tier, "input_price_per_1m": low, "output_price_per_1m": high}
            for tier, low, high in prices
        ]

    url = f"http://127.0.0.1:{upstream_port}"
    return {
        "gateway": {"workers": 1, "envoy_concurrency": 1, "json_cost": json_cost},
        "providers": {
            "openai": {"api_key": "sk-benchmark", "base_url": f"{url}/v1", "models": models("fast")},
            "anthropic": {"api_key": "sk-benchmark", "base_url": url, "models": models("wise")},
        },
        "telemetry": {"db_path": str(directory / "aion.db")},
    }


@contextlib.contextmanager
def child(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=clean_env(), **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def upstream(directory: Path) -> Iterator[tuple[int, int]]:
    """Its port and its pid."""
    port = free_ports(1)[0]
    with child([sys.executable, "-m", "benchmarks.upstream", str(port)], directory / "upstream.log") as process:
        wait_for(lambda: _connects(port))
        yield port, process.pid


@contextlib.contextmanager
def envoy(directory: Path, upstream_port: int, *, alone: bool) -> Iterator[Side]:
    """An Envoy of ours with the product's configuration and the do-nothing server, or without anything of ours."""
    directory.mkdir()
    settings = loads(json.dumps(configuration(upstream_port, "exact", directory)), "benchmark")
    port, admin_port = free_ports(2)
    gateway = settings.gateway.model_copy(update={"port": port, "admin_port": admin_port})
    settings = settings.model_copy(update={"gateway": gateway})
    spec = make_spec(settings, make_providers(settings).values(), directory)
    bootstrap = render_bootstrap(spec)
    if alone:
        _leave_envoy_alone(bootstrap)
    path = directory / "bootstrap.json"
    path.write_text(json.dumps(bootstrap))
    command = [str(find_envoy()), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]
    with contextlib.ExitStack() as stack:
        side = Side(port, spec.envoy_admin_socket, {})
        if not alone:
            arguments = [sys.executable, "-m", "benchmarks.noop", str(spec.worker_sockets[0])]
            noop = child(arguments, directory / "noop.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            side.noop = stack.enter_context(noop)
            side.pids["python"] = side.noop.pid
            wait_for(spec.worker_sockets[0].exists)
            side.prepare(KINDS["chat"], "")
        side.pids["envoy"] = stack.enter_context(child(command, directory / "envoy.log")).pid
        wait_for(lambda: _serves(port))
        yield side


def _leave_envoy_alone(bootstrap: dict[str, Any]) -> None:
    """The same listener and provider clusters, with the router as the only filter and nothing logged."""
    static = bootstrap["static_resources"]
    static["clusters"] = [c for c in static["clusters"] if c["name"].startswith(cluster_name(""))]
    del static["listeners"][1:]
    manager = static["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][-1:]
    manager.pop("access_log")
    routes = [
        {"match": {"prefix": prefix}, "route": {"cluster": cluster_name(provider), "timeout": "0s"}}
        for prefix, provider in (("/v1/messages", "anthropic"), ("/", "openai"))
    ]
    manager["route_config"]["virtual_hosts"] = [{"name": "all", "domains": ["*"], "routes": routes}]


@contextlib.contextmanager
def product(directory: Path, upstream_port: int, json_cost: str) -> Iterator[Side]:
    directory.mkdir()
    with running(directory, configuration(upstream_port, json_cost, directory)) as gateway:
        [envoy_pid] = gateway.children("--use-dynamic-base-id")
        [worker] = gateway.children("aion_extproc.extproc.worker")
        arguments = Path(f"/proc/{envoy_pid}/cmdline").read_text().split("\0")
        admin = Path(arguments[arguments.index("-c") + 1]).parent / "envoy-admin.sock"
        wait_for(lambda: _serves(gateway.port))
        yield Side(gateway.port, admin, {"envoy": envoy_pid, "python": worker})


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _serves(port: int) -> bool:
    kind = KINDS["chat"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", kind.path, kind.body(0), {"content-type": "application/json"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
