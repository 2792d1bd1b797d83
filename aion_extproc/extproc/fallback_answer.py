"""The answer of an attempt that was written when it was made: it brings what was sent (gateway/fallback.py), and that
takes the place of what Envoy knows of the attempts before. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from aion_extproc.extproc.ended import how_it_ended
from aion_extproc.extproc.replies import Amend, Headers, LetPass, WantWhole, Watch
from aion_extproc.gateway.spec import ANSWER_HEADERS, ENDED_HEADER, SERVED_HEADER

Wish = LetPass | WantWhole | Watch | Amend

FALLBACK_KEY = "fallback"  # of the metadata: the answer came by the fallback listener


def encode_served(metadata: Mapping[str, str]) -> str:
    """The metadata of what was sent, in ASCII."""
    return json.dumps(metadata, separators=(",", ":"))


def decode_served(headers: Mapping[str, str]) -> dict[str, str]:
    """From the answer's headers."""
    served: dict[str, str] = json.loads(headers[SERVED_HEADER])
    return served


def by_fallback(wish: Wish, headers: Mapping[str, str], served: Mapping[str, str]) -> Wish:
    """The exchange's wish for the answer with these headers, with all that is told of it."""
    told, untold = _answer_headers(served, headers.get(":status", ""))
    error, _ = how_it_ended(headers.get(ENDED_HEADER, ""))
    metadata = {**served, FALLBACK_KEY: "1", **({"stream_error": error} if error else {}), **wish.metadata}
    return replace(
        wish,
        set_headers=(*told, *wish.set_headers),
        remove_headers=(SERVED_HEADER, ENDED_HEADER, *untold, *wish.remove_headers),
        metadata=metadata,
    )


def _answer_headers(served: Mapping[str, str], status: str) -> tuple[Headers, tuple[str, ...]]:
    """To set and to remove."""
    told = []
    for name in ANSWER_HEADERS:
        value = served.get(name.replace("-", "_"), "")
        if value and name.endswith("-usd") and not status.startswith("2"):
            value = "0.000000"  # nobody bills an error answer
        told.append((f"x-aion-{name}", value))
    return tuple((name, value) for name, value in told if value), tuple(name for name, value in told if not value)
