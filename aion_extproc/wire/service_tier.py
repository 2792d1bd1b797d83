"""The service tier: providers have several prices for the same model, by how soon they serve a request.

OpenAI's `service_tier` is in the request and, as it was served, in the answer. Anthropic's answers have one in their
usage; its requests choose by `speed` and `inference_geo`, of which each has a price of its own, so they are joined:
"fast", "us", "fast+us". The usual tier is "".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aion_extproc.wire.format import Format

STANDARD = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})
_SAME = {"fast": "priority"}  # OpenAI's two words for one tier
_CHOICES = ("speed", "inference_geo")
_USUAL = STANDARD | {"global", "not_available"}
_LONGEST = 32


def asked_tier(body: Mapping[str, Any], format: Format) -> str:
    """The tier that a request asks for."""
    if format is Format.ANTHROPIC:
        return _joined("", {key: body.get(key) for key in _CHOICES})
    return _named(body.get("service_tier"))


def served_tier(fields: Mapping[str, Any], format: Format, asked: str = "") -> str | None:
    """The tier that an answer was served at; None: it does not say.

    `fields`: of Anthropic's answers the usage, of all others the answer or the event itself. `asked`: the request's.
    """
    if not isinstance(fields.get("service_tier"), str):
        return None
    if format is not Format.ANTHROPIC:
        return _named(fields["service_tier"])
    parts = asked.split("+")
    said = {"speed": "fast" if "fast" in parts else None, "inference_geo": "us" if "us" in parts else None}
    said |= {key: fields[key] for key in _CHOICES if isinstance(fields.get(key), str)}
    return _joined(_named(fields["service_tier"]), said)


def _joined(tier: str, said: Mapping[str, Any]) -> str:
    parts = (tier, *(value for key in _CHOICES if isinstance(value := said[key], str)))
    return "+".join(part[:_LONGEST] for part in parts if part not in _USUAL)


def _named(value: object) -> str:
    name = value[:_LONGEST].lower() if isinstance(value, str) else ""
    return "" if name in STANDARD else _SAME.get(name, name)
