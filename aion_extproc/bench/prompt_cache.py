"""What providers' prompt caches hold, simulated: how much of a request a model reads from its cache and writes to it.

A request is a sequence of blocks in the order in which providers read them: tools, system prompt, messages. A model
that has seen the same beginning within LIFETIME seconds reads it from its cache, and that starts the time anew; no
model sees what another one has cached. Nothing below MINIMUM tokens is cached. Then there are two kinds of providers:

    marked      Anthropic: only up to the blocks that the client marks (`cache_control`). A beginning is found only
                within LOOKBACK blocks before a mark. What was not found, up to the last mark, is written.
    automatic   all others: every beginning, in steps of STEP tokens, without being asked. A write is billed only where
                the catalogue has a price for it.

Lifetime, minimum and lookback are what the providers document (some models have a minimum of 2,048 or 4,096: for
the latter the first steps of the session here would not be cached). Real caches also lose entries
under load and forget none on the second; here they are exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import estimate_input_tokens
from aion_extproc.wire.request import Request

LIFETIME = 300.0
MINIMUM = 1_024
LOOKBACK = 20
STEP = 128


class Block(NamedTuple):
    """A part of a request, and everything before it."""

    digest: bytes  # of all of it
    tokens: int  # of all of it
    marked: bool


class PromptCaches:
    """Of all models, over the requests that they are told of. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], dict[bytes, float]] = {}
        self._sizes: dict[bytes, int] = {}  # tokens of a block by its own digest

    def served(self, request: Request, model: Model, output_tokens: int, now: float) -> Usage:
        """The usage that the model's provider reports for the request as it was sent there. Input tokens are counted
        block by block as the gateway estimates them, rounded up."""
        blocks = self._blocks(request)
        total = blocks[-1].tokens
        held = self._until.setdefault((model.provider, model.id), {})
        live = [held.get(block.digest, now) > now for block in blocks]
        priced = model.prices is not None and model.prices.cache_write is not None
        if Format.ANTHROPIC in model.formats and priced:
            read, written, kept = _marked(blocks, live)
        else:
            read, written, kept = _automatic(blocks, live)
            written *= priced
        for block in kept:
            held[block.digest] = now + LIFETIME
        return Usage(total, output_tokens, cache_read_tokens=read, cache_write_tokens=written)

    def _blocks(self, request: Request) -> Sequence[Block]:
        chain, tokens, blocks = b"", 0, []
        for name, value, marked in _parts(request):
            text = orjson.dumps([name, value])
            own = hashlib.blake2b(text, digest_size=16).digest()
            size = self._sizes.get(own)
            if size is None:
                alone = {"messages": [value]} if name == "messages" else {name: [value]}
                size = self._sizes[own] = estimate_input_tokens(replace(request, raw=text, body=alone))
            chain = hashlib.blake2b(chain + own, digest_size=16).digest()
            tokens += size
            blocks.append(Block(chain, tokens, marked))
        return blocks


def _marked(blocks: Sequence[Block], live: Sequence[bool]) -> tuple[int, int, list[Block]]:
    """(tokens read, tokens written, what is held from now on)."""
    marks = [place for place, block in enumerate(blocks) if block.marked and block.tokens >= MINIMUM]
    if not marks:
        return 0, 0, []
    found = max((p for mark in marks for p in range(max(0, mark - LOOKBACK), mark + 1) if live[p]), default=None)
    read = 0 if found is None else blocks[found].tokens
    kept = [blocks[place] for place in marks] + ([] if found is None else [blocks[found]])
    return read, max(0, blocks[marks[-1]].tokens - read), kept


def _automatic(blocks: Sequence[Block], live: Sequence[bool]) -> tuple[int, int, list[Block]]:
    if blocks[-1].tokens < MINIMUM:
        return 0, 0, []
    longest = max((block.tokens for block, there in zip(blocks, live, strict=True) if there), default=0)
    read = longest // STEP * STEP if longest >= MINIMUM else 0
    return read, blocks[-1].tokens - read, list(blocks)


def _parts(request: Request) -> Iterator[tuple[str, Any, bool]]:
    """The blocks with where they stand and whether they are marked. The mark itself is no part of them."""
    body = request.body
    for tool in body.get("tools") or ():
        yield "tools", *_unmarked(tool)
    system = body.get("system") or ()
    for block in [system] if isinstance(system, str) else system:
        yield "system", *_unmarked(block)
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, list):
            for block in content:
                plain, marked = _unmarked(block)
                yield "messages", {"role": message["role"], "content": [plain]}, marked
        else:
            yield "messages", message, False


def _unmarked(block: Any) -> tuple[Any, bool]:
    if isinstance(block, dict) and "cache_control" in block:
        return {name: value for name, value in block.items() if name != "cache_control"}, True
    return block, False
