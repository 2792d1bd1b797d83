"""What the supervisor hands a worker on its standard input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
from pydantic import SecretStr

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
        },
        default=_revealed,
    )


def load_assignment(text: bytes) -> Assignment:
    plain = orjson.loads(text)
    return Assignment(
        _load(plain["current"]),
        tuple(_load(one) for one in plain["earlier"]),
        _load(plain["next"]) if plain["next"] else None,
    )


def _dump(generation: Generation) -> dict[str, object]:
    settings = generation.settings.model_dump(exclude_defaults=True)
    settings.setdefault("auth", {})["enabled"] = generation.settings.auth.enabled  # its default depends on the keys
    return {
        "number": generation.number,
        "settings": settings,
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


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)
