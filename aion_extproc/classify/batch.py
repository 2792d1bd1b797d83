"""`aion classify`: JSON lines in, scores out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import orjson

from aion_extproc.classify.classification import Classification, Thresholds
from aion_extproc.classify.classifier import Classifier
from aion_extproc.wire.conversation import Conversation, Turn
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation
from aion_extproc.wire.request import parse


class LineError(ValueError):
    """What is wrong with a line."""


def classify_lines(
    source: IO[bytes],
    target: IO[bytes],
    report: Callable[[str], None],
    classifier: Classifier,
    thresholds: Thresholds,
) -> int:
    """Score every line of `source`; a bad one is reported with its number and passed over. Returns how many were."""
    bad = 0
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            identity, said = _read(line)
        except (LineError, RequestError) as error:
            report(f"line {number}: {error}")
            bad += 1
            continue
        start = time.perf_counter_ns()
        result = classifier.classify(said)
        micros = (time.perf_counter_ns() - start) / 1000
        target.write(orjson.dumps(_answer(identity, result, thresholds, micros)) + b"\n")
    target.flush()
    return bad


def _answer(identity: object, result: Classification, thresholds: Thresholds, micros: float) -> dict[str, Any]:
    return {
        "id": identity,
        "score": result.score,
        "tier": thresholds.tier(result.score),
        "task": result.task,
        "reason": result.reason,
        "signals": dict(result.signals),
        "weights": dict(result.weights),
        "micros": round(micros, 1),
    }


def _read(line: bytes) -> tuple[object, Conversation]:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineError(f"not JSON: {error}") from None
    if not isinstance(entry, dict) or "id" not in entry:
        raise LineError('must be an object with an "id"')
    return entry["id"], said_in(entry)


def said_in(entry: Mapping[str, Any]) -> Conversation:
    """Of a line's `prompt`, or of its `format` and `body`. LineError, or RequestError of the body, if it has none."""
    if entry.get("prompt") is not None:
        if not isinstance(entry["prompt"], str):
            raise LineError('"prompt" must be a string')
        return Conversation((Turn("user", (entry["prompt"],)),))
    if entry.get("format") not in tuple(Format):
        raise LineError('needs a "prompt", or a "format" ("openai" or "anthropic") and a "body"')
    if not isinstance(entry.get("body"), dict):
        raise LineError('"body" must be an object')
    body = {"model": "aion-auto", **entry["body"]}
    return conversation(parse(orjson.dumps(body), Format(entry["format"])))
