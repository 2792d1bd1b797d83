"""`aion up`: every process of the gateway on one machine, started in order, watched, and stopped without losing a row.

    start   demo, managed llama-servers ─▶ workers, API ─▶ Envoy ─▶ answers on its port
    stop    listeners drained ─▶ what is still open is cut, and logged ─▶ Envoy ─▶ workers write their rows ─▶ rest
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import structlog

from aion_extproc import __version__
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.schema import Managed, Settings
from aion_extproc.extproc.assignment import dump_assignment
from aion_extproc.extproc.policy import make_providers
from aion_extproc.gateway.bootstrap import render_bootstrap, render_draining_listeners, render_listeners
from aion_extproc.gateway.child import Child
from aion_extproc.gateway.envoy import find_envoy
from aion_extproc.gateway.spec import make_spec

if TYPE_CHECKING:
    from aion_extproc.accounting.metrics import Metrics

log = structlog.get_logger(__name__)

START_SECONDS = 30.0
# Ctrl-C to the last process gone is three seconds: the drain, then these.
_FLUSH_SECONDS = 0.3  # Envoy sends its access log every 0.1 s
_ENVOY_SECONDS = 0.3
_WORKER_SECONDS = 1.2
_ENVOY_LOG = ["-l", "warning", "--component-log-level", "misc:error,config:warning"]


class StartError(Exception):
    """The gateway could not start; the text says why and what to do."""


class Supervisor:
    """One gateway. `demo_port`: where to serve the built-in demo upstream, None without it."""

    def __init__(self, settings: Settings, catalog: Catalog, demo_port: int | None = None) -> None:
        self.settings = settings
        self._catalog = catalog
        self._demo_port = demo_port
        self.run_dir = Path(tempfile.mkdtemp(prefix="aion-"))  # mode 0700
        self._spec = make_spec(settings, make_providers(settings).values(), self.run_dir, listeners_from_file=True)
        self._restarts: Metrics | None = None
        self.backends: list[Child] = []
        self.workers: list[Child] = []
        self.api: Child | None = None
        self.envoy: Child | None = None

    async def start(self) -> None:
        """Returns when the gateway answers. Raises StartError."""
        gateway = self.settings.gateway
        for port, key in ((gateway.port, "port"), (gateway.admin_port, "admin_port")):
            _check_free(gateway.listen if key == "port" else "127.0.0.1", port, key)
        envoy = find_envoy()
        self._prepare()
        await self._start_backends()
        assignment = dump_assignment(self.settings, self._catalog)
        self.workers = [self._worker(path, assignment) for path in self._spec.worker_sockets]
        state = ["--socket", str(self._spec.api_socket), "--state", str(self.run_dir / "api.json")]
        self.api = Child("api", _python("aion_extproc.api.server", *state))
        for child in (*self.workers, self.api):
            await child.start()
        await self._wait(lambda: all(_listens(path) for path in self._spec.worker_sockets), "the workers")
        self.envoy = Child("envoy", self._envoy_command(envoy))
        await self.envoy.start()
        await self._wait(self._answers, "Envoy")

    async def stop(self) -> None:
        """Drain, then stop everything. Safe to call after a failed start."""
        for child in self._children():
            child.stop_restarting()
        if self.envoy is not None and self.envoy.alive:
            self._write("listeners.json", render_draining_listeners(self._spec))
            await self._drained()
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.envoy.stop(_ENVOY_SECONDS)
        rest = [*self.workers, *self.backends, *([self.api] if self.api else [])]
        await asyncio.gather(*(child.stop(_WORKER_SECONDS) for child in rest))
        if self.envoy is not None:
            await self.envoy.stop(0)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def _children(self) -> list[Child]:
        return [*self.backends, *self.workers, *(c for c in (self.api, self.envoy) if c is not None)]

    def _prepare(self) -> None:
        metrics = self.run_dir / "metrics"
        metrics.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        self._write("bootstrap.json", render_bootstrap(self._spec))
        self._write("listeners.json", render_listeners(self._spec))
        self._write("api.json", api_state(self.settings, self._catalog))

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Whole or not at all: Envoy reads the listeners as soon as the name changes hands."""
        path = self.run_dir / name
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(content))
        temporary.rename(path)

    def _worker(self, path: Path, assignment: bytes) -> Child:
        command = _python("aion_extproc.extproc.worker", "--socket", str(path))
        return Child(path.stem, command, stdin=assignment, heartbeat=True, died=self._worker_died)

    def _worker_died(self, pid: int) -> None:
        from aion_extproc.accounting.metrics import Metrics, forget_process

        forget_process(pid)
        if self._restarts is None:  # prometheus_client must not be imported before its directory is set
            self._restarts = Metrics((), ())
        self._restarts.worker_restarts.inc()

    async def _start_backends(self) -> None:
        if self._demo_port is not None:
            command = _python("aion_extproc.demo.upstream", "--port", str(self._demo_port))
            self.backends.append(Child("demo", command))
        waits = []
        for name, provider in self.settings.enabled_providers.items():
            managed = provider.managed
            if managed is None:
                continue
            command = _llama_command(name, managed, provider.models[0].id)
            self.backends.append(Child(f"llama-server of {name}", command))
            waits.append((f"http://127.0.0.1:{managed.port}/health", name, managed.ready_timeout))
        for child in self.backends:
            await child.start()
        for url, name, timeout in waits:
            await self._wait(lambda url=url: _http_ok(url), f"the llama-server of {name}", timeout)

    def _envoy_command(self, envoy: Path) -> list[str]:
        gateway = self.settings.gateway
        command = [str(envoy), "-c", str(self.run_dir / "bootstrap.json"), "--use-dynamic-base-id"]
        # Streams may finish for so long after Ctrl-C; then they are cut, and their rows written.
        command += ["--drain-time-s", str(max(1, round(gateway.drain_timeout))), "--drain-strategy", "immediate"]
        if gateway.envoy_concurrency is not None:
            command += ["--concurrency", str(gateway.envoy_concurrency)]
        return command + _ENVOY_LOG

    async def _wait(self, ready: Any, what: str, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(ready):
            if time.monotonic() > deadline:
                raise StartError(f"{what} did not become ready within {seconds:g} s; the log above says more")
            failed = next((c for c in self._children() if c.restarts >= 3), None)
            if failed is not None:
                raise StartError(f"{failed.name} keeps dying at its start; the log above says why")
            await asyncio.sleep(0.05)

    def _answers(self) -> bool:
        host = "127.0.0.1" if self.settings.gateway.listen == "0.0.0.0" else self.settings.gateway.listen
        host = f"[{host}]" if ":" in host else host
        return _http_ok(f"http://{host}:{self.settings.gateway.port}/health")

    async def _drained(self) -> None:
        """Until no connection is left on the public listener, or Envoy must have cut the last one."""
        deadline = time.monotonic() + max(1.0, self.settings.gateway.drain_timeout) + 0.3
        await asyncio.sleep(0.1)  # Envoy is told by inotify
        while time.monotonic() < deadline:
            active = await asyncio.to_thread(_active_connections, self._spec.envoy_admin_socket)
            if not active:
                return
            await asyncio.sleep(0.05)


def api_state(settings: Settings, catalog: Catalog) -> dict[str, Any]:
    """What the API process needs to know (aion_extproc.api.state); keys only as their digests."""
    providers = settings.enabled_providers
    models = [
        {
            "id": model.id,
            "provider": model.provider,
            "tier": model.tier,
            "formats": sorted(model.formats),
            "local": model.local,
            "demo": providers[model.provider].kind == "demo",
            "context_window": model.context_window,
            "priced": model.prices is not None,
        }
        for model in catalog.models
    ]
    hashes = [hashlib.sha256(entry.key.get_secret_value().encode()).hexdigest() for entry in settings.auth.keys]
    return {
        "db_path": settings.telemetry.db_path,
        "models": models,
        "auth": {"enabled": settings.auth.enabled, "key_hashes": hashes},
        "version": __version__,
    }


def _llama_command(name: str, managed: Managed, alias: str) -> list[str]:
    where = f"providers.{name}.managed"
    binary = shutil.which(managed.binary_path)
    if binary is None:
        raise StartError(f"{where}.binary_path: there is no program {managed.binary_path}")
    if not Path(managed.model_path).is_file():
        raise StartError(f"{where}.model_path: there is no file {managed.model_path}")
    _check_free("127.0.0.1", managed.port, f"{where}.port")
    command = [binary, "-m", managed.model_path, "--host", "127.0.0.1", "--port", str(managed.port)]
    command += ["-c", str(managed.ctx_size), "--alias", alias]
    return command if managed.threads is None else [*command, "-t", str(managed.threads)]


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _python(module: str, *arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", module, *arguments]


def _check_free(host: str, port: int, key: str) -> None:
    """Envoy shares a port that it finds taken (SO_REUSEPORT), and half of the requests would go astray."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"{key}: cannot listen on {host}:{port}: {error.strerror}") from None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _http_ok(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _active_connections(admin: Path) -> int:
    """Open connections on the public listener, by Envoy's own count; 0 when it cannot be asked any more."""
    connection = http.client.HTTPConnection("localhost", timeout=0.5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(0.5)
        connection.sock.connect(str(admin))
        connection.request("GET", "/stats?filter=http.aion_public.downstream_cx_active$")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return int(text.rsplit(":", 1)[1]) if ":" in text else 0
