"""What the supervisor hands a worker on its standard input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.schema import Settings


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of the configuration, from a reload to the next.

    `revisions`: of the providers whose Envoy cluster is not their first one (gateway.spec.cluster_name).
    """

    number: int
    settings: Settings
    catalog: Catalog
    revisions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker works with. It decides by `current`, and by `next` when it is told to turn: then every other
    worker knows it too. `earlier`: what requests that are still open may have been decided by."""

    current: Generation
    earlier: tuple[Generation, ...] = ()
    next: Generation | None = None

    @property
    def newest(self) -> Generation:
        return self.next or self.current

    @property
    def all(self) -> tuple[Generation, ...]:
        return (self.current, *self.earlier, *([self.next] if self.next else []))


def dump_assignment(assignment: Assignment) -> bytes:
    """As JSON, secrets included: for a pipe, never for a file."""
    return orjson.dumps(
        {
            "current": _dump(assignment.current),
            "earlier": [_dump(one) for one in assignment.earlier],
            "next": _dump(assignment.next) if assignment.next else None,
        }
    )


def load_assignment(text: bytes) -> Assignment:
    plain = orjson.loads(text)
    return Assignment(
        _load(plain["current"]),
        tuple(_load(one) for one in plain["earlier"]),
        _load(plain["next"]) if plain["next"] else None,
    )


def _dump(generation: Generation) -> dict[str, object]:
    return {
        "number": generation.number,
        "settings": _with_secrets(generation.settings),
        "catalog": generation.catalog.to_json().decode(),
        "revisions": generation.revisions,
    }


def _load(plain: dict[str, Any]) -> Generation:
    return Generation(
        plain["number"],
        Settings.model_validate(plain["settings"]),
        Catalog.from_json(plain["catalog"]),
        plain["revisions"],
    )


def _with_secrets(settings: Settings) -> dict[str, Any]:
    plain: dict[str, Any] = settings.model_dump(mode="json", exclude_defaults=True)
    for name, provider in settings.providers.items():
        if provider.api_key is not None:
            plain["providers"][name]["api_key"] = provider.api_key.get_secret_value()
    auth = plain.setdefault("auth", {})
    auth["enabled"] = settings.auth.enabled  # its default depends on whether there are keys
    for entry, key in zip(auth.get("keys", ()), settings.auth.keys, strict=True):
        entry["key"] = key.key.get_secret_value()
    return plain
