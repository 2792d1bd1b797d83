"""What the response phase must know of the request to translate its answer, as it travels in Envoy's metadata."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from aion_extproc.wire.translate.target import Asked


def encode_asked(asked: Asked, request_id: str) -> str:
    return orjson.dumps({"asked": asdict(asked), "request_id": request_id}).decode()


def decode_asked(text: str) -> tuple[Asked, str]:
    """The request's traits and its id."""
    plain = orjson.loads(text)
    return Asked(**plain["asked"]), plain["request_id"]
