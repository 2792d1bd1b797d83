"""The list of models, as OpenAI's and as Anthropic's API give it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aion_extproc.api.state import ModelState
from aion_extproc.wire.format import Format

# No release dates are known. Anthropic's API documents the epoch for that; OpenAI's wants some integer.
CREATED = 0
CREATED_AT = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Entry:
    """One id in the list. Several providers may serve it."""

    id: str
    owned_by: str
    display_name: str
    context_window: int | None
    details: dict[str, Any]  # shown under "aion"; clients of both APIs ignore fields they do not know


def entries(models: Iterable[ModelState], *, all_of_them: bool = True) -> dict[str, Entry]:
    """The virtual models first, then the configured ones in the order of the configuration, by id. Where these are not
    `all_of_them`, only the virtual models are listed that one of them could serve."""
    models = tuple(models)
    listed = {entry.id: entry for entry in _virtual(models, all_of_them)}
    serving: dict[str, list[ModelState]] = {}
    for model in models:
        serving.setdefault(model.id, []).append(model)
    for model_id, offers in serving.items():
        listed.setdefault(model_id, _entry(model_id, offers))
    return listed


def _virtual(models: tuple[ModelState, ...], all_of_them: bool) -> list[Entry]:
    demo = bool(models) and all(model.demo for model in models)
    ids = {"aion-auto": "the cheapest model that can do it", "aion-escalate": "a tier 3 model"}
    tiers = {model.tier for model in models}
    if not all_of_them and not tiers - {0}:
        ids = {}
    elif not all_of_them and 3 not in tiers:
        del ids["aion-escalate"]
    if any(model.local for model in models):
        ids["aion-local"] = "a local model"
    return [
        Entry(
            id=id_,
            owned_by="aion",
            display_name=f"{id_}: {what}" + (" (demo)" if demo else ""),
            context_window=None,
            details={"virtual": True, "demo": demo},
        )
        for id_, what in ids.items()
    ]


def _entry(model_id: str, offers: list[ModelState]) -> Entry:
    first = offers[0]
    demo = all(offer.demo for offer in offers)
    windows = [offer.context_window for offer in offers if offer.context_window is not None]
    return Entry(
        id=model_id,
        owned_by="demo" if demo else first.provider,
        display_name=f"{model_id} (demo)" if demo else model_id,
        context_window=max(windows, default=None),
        details={
            "virtual": False,
            "demo": demo,
            "local": any(offer.local for offer in offers),
            "providers": [
                {
                    "name": offer.provider,
                    "tier": offer.tier,
                    "formats": sorted(offer.formats),
                    "context_window": offer.context_window,
                    "priced": offer.priced,
                }
                for offer in offers
            ],
        },
    )


def model_object(entry: Entry, format_: Format) -> dict[str, Any]:
    """One model in the shape of the API that was called."""
    if format_ is Format.ANTHROPIC:
        return {
            "type": "model",
            "id": entry.id,
            "display_name": entry.display_name,
            "created_at": CREATED_AT,
            "lifecycle": "active",
            "max_input_tokens": entry.context_window,
            "aion": entry.details,
        }
    return {
        "id": entry.id,
        "object": "model",
        "created": CREATED,
        "owned_by": entry.owned_by,
        "display_name": entry.display_name,
        "aion": entry.details,
    }


def model_list(listed: Iterable[Entry], format_: Format) -> dict[str, Any]:
    """All models on one page, in the shape of the API that was called."""
    data = [model_object(entry, format_) for entry in listed]
    if format_ is Format.ANTHROPIC:
        ids = [each["id"] for each in data]
        return {
            "data": data,
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
    return {"object": "list", "data": data}
