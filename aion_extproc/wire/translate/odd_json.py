"""JSON that orjson does not take but servers and clients do send: half a surrogate pair where a text was cut inside an
emoji, integers of more than 64 bits, more than 254 levels. orjson first, for its speed."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

_LONG_NUMBER = re.compile(rb"\d{19}")  # may be more than 64 bits, which orjson would make a float of


def loads(data: bytes) -> Any:
    """Decoded JSON. Raises ValueError for what is none, and for what is nested deeper than Python goes."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _slowly(data)


def exact_loads(data: bytes) -> Any:
    """The same with integers of any size as they are."""
    return _slowly(data) if _LONG_NUMBER.search(data) else loads(data)


def dumps(value: Any) -> bytes:
    """Compact JSON of what `loads` gave. Raises ValueError where it nests too deeply or a number has no end."""
    try:
        return orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _slowly(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity, which are not JSON
