"""What the response phase must know of the request to translate its answer, as it travels in Envoy's metadata."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from aion_extproc.wire.translate.target import Asked


def encode_asked(asked: Asked) -> str:
    return orjson.dumps(asdict(asked)).decode()


def decode_asked(text: str) -> Asked:
    return Asked(**orjson.loads(text))
