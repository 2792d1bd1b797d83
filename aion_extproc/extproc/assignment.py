"""What the supervisor hands a worker on its standard input."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.config.schema import Settings


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker works with."""

    settings: Settings
    catalog: Catalog


def dump_assignment(settings: Settings, catalog: Catalog) -> bytes:
    """As JSON, secrets included: for a pipe, never for a file."""
    return orjson.dumps({"settings": _with_secrets(settings), "catalog": catalog.to_json().decode()})


def load_assignment(text: bytes) -> Assignment:
    plain = orjson.loads(text)
    return Assignment(Settings.model_validate(plain["settings"]), Catalog.from_json(plain["catalog"]))


def _with_secrets(settings: Settings) -> dict[str, object]:
    plain = settings.model_dump(mode="json", exclude_defaults=True)
    for name, provider in settings.providers.items():
        if provider.api_key is not None:
            plain["providers"][name]["api_key"] = provider.api_key.get_secret_value()
    for entry, key in zip(plain.get("auth", {}).get("keys", ()), settings.auth.keys, strict=False):
        entry["key"] = key.key.get_secret_value()
    return plain
