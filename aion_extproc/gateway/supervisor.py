"""`aion up`: every process of the gateway on one machine, started in order, watched, and stopped without losing a row.

    start   demo, managed llama-servers ─▶ workers, API ─▶ Envoy ─▶ answers on its port
    stop    health failing, port open ─▶ port closed ─▶ open requests end ─▶ the rest is cut, and logged ─▶
            Envoy ─▶ workers write their rows ─▶ rest

SIGTERM takes its time (gateway.drain_delay, gateway.drain_timeout), Ctrl-C a second at most, a second signal none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr

from aion_extproc import __version__
from aion_extproc.accounting.metrics import Metrics, name_process
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.assignment import Assignment, Generation
from aion_extproc.gateway.backends import Backend, backends
from aion_extproc.gateway.bootstrap import render_bootstrap, render_last_listeners
from aion_extproc.gateway.child import LAST_SECONDS, Child
from aion_extproc.gateway.config_file import ConfigFile
from aion_extproc.gateway.environment import without_secrets
from aion_extproc.gateway.envoy import find_envoy
from aion_extproc.gateway.envoy_admin import AdminError, EnvoyAdmin
from aion_extproc.gateway.envoy_log import EnvoyLog
from aion_extproc.gateway.files import Files, write_json
from aion_extproc.gateway.generation import spec_of
from aion_extproc.gateway.reload import Reload
from aion_extproc.gateway.starting import StartError, check_free, http_ok
from aion_extproc.gateway.workers import LEDGER, START_SECONDS, WORKER, WorkerError, Workers
from aion_extproc.logs import describe

log = structlog.get_logger(__name__)

# Ctrl-C to the last process gone is three seconds: the first, then the others.
_HURRY_SECONDS = 1.0
_SENDING_SECONDS = 0.5  # the last bytes of the last answers
_FLUSH_SECONDS = 0.3  # of Envoy's access log
_ENVOY_SECONDS = 0.3
_ENVOY_LOG = ["-l", "warning", "--component-log-level", "misc:error,config:warning"]


class Supervisor:
    """One gateway. `demo_port`: where to serve the built-in demo upstream, None without it. `file`: what to reload."""

    def __init__(
        self, settings: Settings, catalog: Catalog, demo_port: int | None = None, file: ConfigFile | None = None
    ) -> None:
        self.stopping = asyncio.Event()
        self._demo_port = demo_port
        self._file = file
        self._run_dir = Path(tempfile.mkdtemp(prefix="aion-"))  # mode 0700
        self._metrics = _metrics(self._run_dir / "metrics")
        first = Generation(1, settings, catalog)
        self._spec = spec_of(first, self._run_dir)
        self._files = Files(self._run_dir)
        self._admin = EnvoyAdmin(self._spec.envoy_admin_socket)
        drain = settings.gateway.worker_drain_timeout
        self._workers = Workers(WORKER, self._files.workers, self._admin, self._metrics, drain)
        self._ledger = Workers(LEDGER, self._files.ledger, self._admin, self._metrics, drain)
        self._reload = Reload(
            first, self._files, self._admin, self._workers, self._ledger, self._metrics, self._tell_api
        )
        self._backends: list[Backend] = []
        self._api: Child | None = None
        self._envoy: Child | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._terminal = _terminal()
        self._ready = self._draining = False
        self._open_until = self._serve_until = 0.0

    @property
    def settings(self) -> Settings:
        return self._reload.current.settings

    async def start(self) -> None:
        """Returns when the gateway answers. Raises StartError and EnvoyError."""
        gateway = self.settings.gateway
        check_free(gateway.listen, gateway.port, "port")
        check_free("127.0.0.1", gateway.admin_port, "admin_port")
        envoy = find_envoy()
        await self._start_backends()
        write_json(self._run_dir / "bootstrap.json", render_bootstrap(self._spec))
        self._reload.publish()
        self._tell_api(self._reload.current)
        arguments = ["--socket", str(self._spec.api_socket), "--state", str(self._api_state)]
        # Its URL has a password, which must be in no file and on no command line.
        url = self.settings.telemetry.db_url
        database = b"" if url is None else url.get_secret_value().encode()
        self._api = Child("api", [sys.executable, "-m", "aion_extproc.api.server", *arguments], stdin=database)
        await self._api.start()
        try:
            assignment = Assignment(self._reload.current)
            await asyncio.gather(self._ledger.start(assignment, 1), self._workers.start(assignment, gateway.workers))
        except WorkerError as error:
            raise StartError(str(error)) from None
        self._envoy = Child(
            "envoy",
            self._envoy_command(envoy),
            shown=lambda: EnvoyLog().line,
            env=without_secrets(self.settings),
        )
        await self._envoy.start()
        await self._wait(self._answers, "Envoy")
        for processes in (self._workers, self._ledger):
            self._begin(processes.care(lambda: self.settings.gateway.worker_memory_bytes))
        if self._file is not None:
            self._begin(self._reload.follow(self._file))
        self._ready = True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", error=describe(error))

    def told(self, number: signal.Signals) -> None:
        """A signal has come: stop, sooner if it is not the first one; read the file again; renew the workers."""
        now, gateway = time.monotonic(), self.settings.gateway
        if number == signal.SIGHUP and self._terminal == _terminal():
            if self._file is None:
                log.warning("nothing_to_reload", reason="the gateway was started without a file")
            self._reload.ask()
        elif number == signal.SIGUSR2:
            self._begin(self._restart_workers())
        elif self.stopping.is_set():
            self._open_until = self._serve_until = now
        else:
            patient = number == signal.SIGTERM and self._ready
            longest = gateway.drain_timeout if patient else min(_HURRY_SECONDS, gateway.drain_timeout)
            self._serve_until = now + longest
            self._open_until = now + (min(gateway.drain_delay, longest) if patient else 0)
            self.stopping.set()

    async def stop(self) -> None:
        """Drain, then stop everything. Safe to call after a failed start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self._children():
            child.stop_restarting()
        if self._envoy is not None and self._envoy.alive:
            await self._drain()
            write_json(self._files.listeners, render_last_listeners(self._spec))
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._envoy.stop(_ENVOY_SECONDS)
        rest = [*(backend.child for backend in self._backends), *([self._api] if self._api else [])]
        await asyncio.gather(
            self._workers.stop(), self._ledger.stop(), *(child.stop(LAST_SECONDS) for child in rest)
        )
        if self._envoy is not None:
            await self._envoy.stop(0)
        shutil.rmtree(self._run_dir, ignore_errors=True)

    async def _drain(self) -> None:
        """Until the last open request has ended, or may wait no longer."""
        self._draining = True
        # Envoy first: who hears that we are draining must find its connection closing.
        await self._tell_envoy(self._admin.last_requests)
        self._tell_api(self._reload.current)
        await self._while(lambda: self._open_until)
        await self._tell_envoy(self._admin.close_ports)
        await self._while(lambda: self._serve_until, "http.aion_public.downstream_rq_active")
        last_bytes = time.monotonic() + _SENDING_SECONDS
        await self._while(lambda: min(last_bytes, self._serve_until), "http.aion_public.downstream_cx_active")

    async def _tell_envoy(self, what: Callable[[], Awaitable[None]]) -> None:
        """Until it has heard, unless time is up: it may be busy."""
        while self._envoy is not None and self._envoy.alive:
            try:
                await what()
            except AdminError as error:
                if time.monotonic() > self._serve_until:
                    log.error("not_drained", reason=str(error))
                    return
            else:
                return

    async def _while(self, until: Callable[[], float], gauge: str | None = None) -> None:
        """As long as Envoy's gauge is not 0. `until` may come nearer meanwhile."""
        while time.monotonic() < until() and self._envoy is not None and self._envoy.alive:
            with contextlib.suppress(AdminError):  # it is busy
                if gauge is not None and not await self._admin.gauge(gauge):
                    return
            await asyncio.sleep(0.05)

    async def _restart_workers(self) -> None:
        try:
            await self._workers.restart()
            await self._ledger.restart()
        except WorkerError as error:
            log.error("restart_failed", reason=str(error))
        else:
            log.info("workers_restarted")

    def _children(self) -> list[Child]:
        mine = [*(backend.child for backend in self._backends), self._api, self._envoy]
        return [*self._workers.children, *self._ledger.children, *(child for child in mine if child is not None)]

    @property
    def _api_state(self) -> Path:
        return self._run_dir / "api.json"

    def _tell_api(self, generation: Generation) -> None:
        state = api_state(generation.settings, generation.catalog) | {"draining": self._draining}
        write_json(self._api_state, state)
        if self._api is not None:
            self._api.tell(signal.SIGHUP)

    async def _start_backends(self) -> None:
        self._backends = backends(self.settings, self._demo_port)
        for backend in self._backends:
            await backend.child.start()
        for backend in self._backends:
            if backend.ready_url:
                ready = partial(http_ok, backend.ready_url)
                await self._wait(ready, f"the {backend.child.name}", backend.ready_seconds)

    def _envoy_command(self, envoy: Path) -> list[str]:
        command = [str(envoy), "-c", str(self._run_dir / "bootstrap.json"), "--use-dynamic-base-id"]
        # How long a drain takes is ours to say: by the time a listener is taken away, what is on it is to be cut.
        command += ["--drain-time-s", "0", "--drain-strategy", "immediate"]
        concurrency = self.settings.gateway.envoy_concurrency
        if concurrency is not None:
            command += ["--concurrency", str(concurrency)]
        return command + _ENVOY_LOG

    async def _wait(self, ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(ready):
            if time.monotonic() > deadline:
                raise StartError(f"{what} did not become ready within {seconds:g} s; the log above says more")
            failed = next((child for child in self._children() if child.restarts >= 3), None)
            if failed is not None:
                raise StartError(f"{failed.name} keeps dying at its start; the log above says why")
            await asyncio.sleep(0.05)

    def _answers(self) -> bool:
        host = "127.0.0.1" if self.settings.gateway.listen == "0.0.0.0" else self.settings.gateway.listen
        host = f"[{host}]" if ":" in host else host
        return http_ok(f"http://{host}:{self.settings.gateway.port}/health")


def api_state(settings: Settings, catalog: Catalog) -> dict[str, Any]:
    """What the API process needs to know (aion_extproc.api.state); secrets only as their digests."""
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
    auth = settings.auth
    return {
        "db_path": None if settings.telemetry.db_url else settings.telemetry.db_path,
        "models": models,
        "providers": list(providers),
        "auth": {
            "enabled": auth.enabled,
            "keys": [
                {"digest": _digest(entry.key), "rules": entry.rules.model_dump(mode="json", exclude_defaults=True)}
                for entry in auth.keys
            ],
            "admin_digest": _digest(auth.admin_secret) if auth.admin_secret else None,
        },
        "tenants": {
            name: {
                "rules": tenant.model_dump(mode="json", exclude={"provider_keys"}, exclude_defaults=True),
                "providers": sorted(tenant.provider_keys),
            }
            for name, tenant in settings.tenants.items()
        },
        "version": __version__,
    }


def _digest(secret: SecretStr) -> str:
    return hashlib.sha256(secret.get_secret_value().encode()).hexdigest()


def _terminal() -> bool:
    """Whether somebody sits before us. The signal for a terminal that is closed is also the one for a reload."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _metrics(directory: Path) -> Metrics:
    """The supervisor's own; all processes that it starts keep theirs in the same directory."""
    directory.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    name_process("supervisor")
    return Metrics((), ())
