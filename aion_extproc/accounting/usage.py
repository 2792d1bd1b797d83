"""Token counts of one answer, in one convention for all providers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. The parts are contained in the totals, as in Envoy's `envoy.data.ai.v3.TokenUsage`."""

    input_tokens: int = 0  # everything sent: plain, read from cache, written to cache
    output_tokens: int = 0  # everything generated, reasoning included
    cache_read_tokens: int = 0  # part of input
    cache_write_tokens: int = 0  # part of input; both lifetimes
    cache_write_1h_tokens: int = 0  # part of cache_write (Anthropic's one-hour cache)
    reasoning_tokens: int = 0  # part of output
