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
    """What a worker works with. `earlier`: what requests that are still open may have been decided by."""

    current: Generation
    earlier: tuple[Generation, ...] = ()


def dump_assignment(assignment: Assignment) -> bytes:
    """As JSON, secrets included: for a pipe, never for a file."""
    return orjson.dumps([_dump(one) for one in (assignment.current, *assignment.earlier)])


def load_assignment(text: bytes) -> Assignment:
    current, *earlier = (_load(plain) for plain in orjson.loads(text))
    return Assignment(current, tuple(earlier))


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


def _with_secrets(settings: Settings) -> dict[str, object]:
    plain = settings.model_dump(mode="json", exclude_defaults=True)
    for name, provider in settings.providers.items():
        if provider.api_key is not None:
            plain["providers"][name]["api_key"] = provider.api_key.get_secret_value()
    for entry, key in zip(plain.get("auth", {}).get("keys", ()), settings.auth.keys, strict=False):
        entry["key"] = key.key.get_secret_value()
    return plain
