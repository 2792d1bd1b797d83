"""From one configuration to the next: what Envoy must have of both, and what cannot change while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.schema import Settings
from aion_extproc.extproc.assignment import Generation
from aion_extproc.extproc.policy import make_providers
from aion_extproc.gateway.spec import Spec, Upstream, make_spec

# Sockets that are bound, files that are open, and what the listener is made of. And where money is counted: for a while
# two stores would grant the same budget, and a seed of the new one lacks what is on its way to the ledger.
_FIXED = {
    "gateway": ("listen", "port", "admin_port", "envoy_concurrency", "usage", "idle_timeout", "envoy_memory_bytes"),
    "telemetry": ("db_path", "db_url", "spool_dir"),
    "state": ("redis_url",),
}


def spec_of(generation: Generation, run_dir: Path) -> Spec:
    """Envoy's side of it, read from files."""
    settings = generation.settings
    providers = make_providers(settings).values()
    return make_spec(settings, providers, run_dir, from_files=True, revisions=generation.revisions)


def following(current: Generation, settings: Settings, catalog: Catalog, known: Mapping[str, Upstream]) -> Generation:
    """The next generation. `known`: Envoy's clusters by name, those of the current one and older ones."""
    number = current.number + 1
    bare = spec_of(Generation(number, settings, catalog), Path())
    revisions = {upstream.name: _revision(upstream, number, known) for upstream in bare.upstreams}
    return Generation(number, settings, catalog, {name: revision for name, revision in revisions.items() if revision})


def _revision(upstream: Upstream, number: int, known: Mapping[str, Upstream]) -> int:
    """That of the cluster which has this address, else a new one."""
    revisions = {one.revision: one for one in known.values() if one.name == upstream.name}
    same = [revision for revision, one in revisions.items() if replace(one, revision=0) == upstream]
    return max(same) if same else number if revisions else 0


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """The keys that differ and can only be changed by a restart."""
    return list(_fixed(old, new))


def _fixed(old: Settings, new: Settings) -> Iterator[str]:
    for section, keys in _FIXED.items():
        for key in keys:
            if getattr(getattr(old, section), key) != getattr(getattr(new, section), key):
                yield f"{section}.{key}"
    before, after = old.enabled_providers, new.enabled_providers
    for name in sorted({*before, *after}):
        was, is_now = before.get(name), after.get(name)
        if (was and was.managed) != (is_now and is_now.managed):
            yield f"providers.{name}.managed"
