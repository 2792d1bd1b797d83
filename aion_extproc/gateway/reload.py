"""Reload: the next configuration whole, or not at all.

    file ─▶ settings, catalogue ─▶ what Envoy would read, checked by an Envoy ─▶ its clusters ─▶ its routes
                                                                          ─▶ workers, one by one ─▶ API

No worker names a cluster that Envoy does not have: clusters come before workers and stay behind them. A request that
was decided before finds its own prices, providers and clusters as long as it can still want them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from aion_extproc.accounting.metrics import Metrics
from aion_extproc.catalog.build import build
from aion_extproc.config.errors import ConfigError
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.assignment import Generation
from aion_extproc.gateway.bootstrap import render_bootstrap, render_clusters, render_listeners, render_routes
from aion_extproc.gateway.config_file import ConfigFile
from aion_extproc.gateway.envoy import EnvoyError, validate
from aion_extproc.gateway.envoy_admin import AdminError, EnvoyAdmin
from aion_extproc.gateway.files import Files, write_json
from aion_extproc.gateway.generation import following, needs_restart, spec_of
from aion_extproc.gateway.spec import Spec, Upstream
from aion_extproc.gateway.workers import WorkerError, Workers
from aion_extproc.logs import place

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.5
_TAKEN_SECONDS = 15.0  # for Envoy to take new clusters and routes
_WAIT_SECONDS = 0.02
_MOST_EARLIER = 8  # generations that workers are told of
_CLUSTERS, _ROUTES = "cluster_manager.cds", "http.aion_public.rds.aion_public"


class Refused(Exception):
    """The new configuration cannot be had; the text says why. Nothing has changed."""


class Reload:
    """The configuration that a gateway works with. `told` is called with each that is applied."""

    def __init__(
        self,
        first: Generation,
        files: Files,
        admin: EnvoyAdmin,
        workers: Workers,
        ledger: Workers,
        metrics: Metrics,
        told: Callable[[Generation], None],
    ) -> None:
        self.current = first
        self._earlier: tuple[Generation, ...] = ()
        self._files = files
        self._admin = admin
        self._workers = workers
        self._ledger = ledger
        self._metrics = metrics
        self._told = told
        self._retired: dict[str, tuple[Upstream, float]] = {}  # clusters of earlier generations, since when
        self._version = 0  # of what Envoy reads
        self._asked = asyncio.Event()
        self._spec = spec_of(first, files.directory)

    def publish(self) -> None:
        """Write what Envoy reads at its start."""
        self._write_clusters(self._spec)
        self._write_routes(self._spec)
        write_json(self._files.listeners, render_listeners(self._spec))
        self._report(True)

    def ask(self) -> None:
        """Read the file again, changed or not."""
        self._asked.set()

    async def follow(self, file: ConfigFile) -> None:
        """For ever: apply what the file says, when it has changed."""
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), _LOOK_SECONDS)
            except TimeoutError:
                if not file.changed():
                    self._tidy()
                    continue
            self._asked.clear()
            await self._read(file)

    async def _read(self, file: ConfigFile) -> None:
        try:
            applied = await self.apply(await asyncio.to_thread(file.read))
        except Exception as error:  # whatever it is, the gateway goes on as it is
            # The text of one that nobody has thought of could quote the file.
            known = isinstance(error, Refused | ConfigError)
            reason = str(error) if known else f"internal error: {type(error).__name__} in {place(error)}"
            self._metrics.config_reloads.labels("refused").inc()
            self._metrics.config_reload_successful.set(0)
            log.error("reload_refused", file=str(file.path), reason=reason)
        else:
            result = "applied" if applied else "unchanged"
            self._metrics.config_reloads.labels(result).inc()
            self._report(True)
            log.info(f"reload_{result}", file=str(file.path), generation=self.current.number)

    async def apply(self, settings: Settings) -> bool:
        """Whether they are other ones. Raises Refused."""
        if not settings.enabled_providers:
            raise Refused("no provider is enabled")
        catalog = await asyncio.to_thread(build, settings)
        current = self.current
        if settings == current.settings and catalog.to_json() == current.catalog.to_json():
            return False
        keys = needs_restart(current.settings, settings)
        if keys:
            raise Refused(f"{', '.join(keys)}: can only be changed by a restart")
        known = {upstream.cluster: upstream for upstream, _ in self._retired.values()}
        known |= {upstream.cluster: upstream for upstream in self._spec.upstreams}
        generation = following(current, settings, catalog, known)
        spec = spec_of(generation, self._files.directory)
        await asyncio.to_thread(self._check, spec)
        for warning in catalog.warnings:
            log.warning("reload_note", note=warning)
        await self._swap(generation, spec)
        return True

    def _check(self, spec: Spec) -> None:
        if render_listeners(spec) != render_listeners(self._spec):
            raise Refused("Envoy's listener would be another one, which takes a restart")
        try:
            validate(render_bootstrap(replace(spec, files=None)))
        except EnvoyError as error:
            raise Refused(f"Envoy refuses the configuration: {error}") from None

    async def _swap(self, generation: Generation, spec: Spec) -> None:
        former, retired = self._spec, self._retired
        new = {upstream.cluster for upstream in spec.upstreams}
        leaving = {one.cluster: (one, float("inf")) for one in former.upstreams if one.cluster not in new}
        self._retired = {name: entry for name, entry in retired.items() if name not in new} | leaving
        earlier = (self.current, *self._earlier[: _MOST_EARLIER - 1])
        try:
            await self._taken(_CLUSTERS, lambda: self._write_clusters(spec))
            await self._taken(_ROUTES, lambda: self._write_routes(spec))
            for processes in (self._ledger, self._workers):
                processes.drain_seconds = generation.settings.gateway.worker_drain_timeout
            # First who must understand what the others decide.
            await self._ledger.turn(generation, earlier, 1)
            await self._workers.turn(generation, earlier, generation.settings.gateway.workers)
        except (Refused, WorkerError) as error:
            self._retired = retired
            self._write_clusters(former)
            self._write_routes(former)
            raise Refused(str(error)) from None
        now = time.monotonic()
        self._retired |= {name: (upstream, now) for name, (upstream, _) in leaving.items()}
        self.current, self._earlier, self._spec = generation, earlier, spec
        self._told(generation)

    def _write_clusters(self, spec: Spec) -> None:
        """Those of the spec, and what requests under way may still want."""
        self._version += 1
        retired = (upstream for upstream, _ in self._retired.values())
        write_json(
            self._files.clusters,
            render_clusters(replace(spec, upstreams=(*spec.upstreams, *retired)), str(self._version)),
        )

    def _write_routes(self, spec: Spec) -> None:
        write_json(self._files.routes, render_routes(spec, str(self._version)))

    async def _taken(self, what: str, write: Callable[[], None]) -> None:
        """Write, and wait until Envoy works with it. Raises Refused."""
        rejections, version = f"{what}.update_rejected", f"{what}.version_text"
        warming = "cluster_manager.warming_clusters"
        before = (await self._stats(rejections)).get(rejections, "0")
        write()
        deadline = time.monotonic() + _TAKEN_SECONDS
        while time.monotonic() < deadline:
            stats = await self._stats(rejections, version, warming)
            if stats.get(version) == str(self._version) and stats.get(warming) == "0":
                return
            if stats.get(rejections, before) != before:
                raise Refused("Envoy refuses it; its own words are in the log above")
            await asyncio.sleep(_WAIT_SECONDS)
        raise Refused(f"Envoy did not take it within {_TAKEN_SECONDS:g} s")

    async def _stats(self, *names: str) -> dict[str, str]:
        try:
            return await self._admin.stats(*names)
        except AdminError:  # it will be back, and read the new files then
            return {}

    def _tidy(self) -> None:
        """Take clusters from Envoy that nothing can want any more: a request that was decided before ends when nothing
        has moved on it for idle_timeout, and once its answer has begun, it needs its connection only."""
        oldest = time.monotonic() - self.current.settings.gateway.idle_timeout
        over = [name for name, (_, since) in self._retired.items() if since < oldest]
        if over and not self._workers.leaving:
            for name in over:
                del self._retired[name]
            self._write_clusters(self._spec)

    def _report(self, successful: bool) -> None:
        self._metrics.config_generation.set(self.current.number)
        self._metrics.config_reload_successful.set(int(successful))
