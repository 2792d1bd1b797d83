"""What an answer says of its tokens: in one JSON body, or event by event in a stream."""

from __future__ import annotations

import re
from typing import Any

import orjson

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.format import Format
from aion_extproc.wire.service_tier import served_tier

# An event longer than this is no usage event; it is passed by without being kept.
_LONGEST_EVENT = 1 << 20
_TAIL = 4096
_LAST_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}"]*(?:"[^{}"]*"[^{}"]*)*\})')
_LARGEST_COUNT = 1 << 60  # so that sums stay within 64 bits; whether a count is believed is not judged here


def answer_usage(body: bytes, format: Format, asked_tier: str = "") -> tuple[Usage, str | None] | None:
    """The usage that a JSON answer reports and the service tier that it was served at (None: it does not say); None
    when it reports no usage or is not JSON."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return None
    return usage_of(usage, format), served_tier(usage if format is Format.ANTHROPIC else answer, format, asked_tier)


def usage_of(usage: dict[str, Any], format: Format) -> Usage:
    """A usage object in the words of its API; the three of the OpenAI format differ only in names."""
    if format is Format.ANTHROPIC:
        return messages_usage(usage)
    is_response = "input_tokens" in usage and "prompt_tokens" not in usage
    return responses_usage(usage) if is_response else chat_usage(usage)


class StreamUsage:
    """Reads the usage out of an SSE stream, cut anywhere into chunks."""

    def __init__(self, format: Format, asked_tier: str = "") -> None:
        self._format = format
        self._asked_tier = asked_tier
        self.service_tier: str | None = None  # that it is served at; None: it has not said
        self._rest = b""
        self._fields: dict[str, Any] = {}
        self.complete = False  # the final count has been seen

    def feed(self, chunk: bytes) -> bool:
        """Take in a chunk; True when the usage has changed by it."""
        data = self._rest + chunk if self._rest else chunk
        *lines, rest = data.split(b"\n")
        self._rest = rest if len(rest) <= _LONGEST_EVENT else b""
        changed = False
        for line in lines:
            # Nearly every event has no usage; the substring test costs less than parsing it.
            if line.startswith(b"data:") and b'"usage"' in line:
                changed |= self._event(line[5:])
        return changed

    @property
    def usage(self) -> Usage | None:
        """What is known so far; None: nothing."""
        if not self._fields:
            return None
        return usage_of(self._fields, self._format)

    def _event(self, data: bytes) -> bool:
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(event, dict):
            return False
        # message_start carries the usage one level down, and so do the events that end a response.
        inner = event.get("message") or event.get("response")
        usage = event.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
        if not isinstance(usage, dict):
            return False
        # Anthropic counts cumulatively, and its last event may leave out what the first one said.
        self._fields.update({key: value for key, value in usage.items() if value is not None})
        self.complete = self.complete or self._is_last(event)
        says = self._fields if self._format is Format.ANTHROPIC else event if "usage" in event else inner
        if isinstance(says, dict) and (tier := served_tier(says, self._format, self._asked_tier)) is not None:
            self.service_tier = tier
        return True

    def _is_last(self, event: dict[str, Any]) -> bool:
        """Some OpenAI-format servers count in every chunk; only with the last choice, or after it, is it final."""
        if self._format is Format.ANTHROPIC:
            return event.get("type") == "message_delta"
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices:
            return True
        return any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)


class TailUsage:
    """Reads the usage out of a JSON answer that is too large to hold: it stands at its end, behind the data."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        self._tail = (self._tail + chunk)[-_TAIL:]

    @property
    def usage(self) -> Usage | None:
        found = _LAST_USAGE.findall(self._tail)
        try:
            return usage_of(orjson.loads(found[-1]), self._format) if found else None
        except orjson.JSONDecodeError:
            return None

    @property
    def complete(self) -> bool:
        return self.usage is not None


def chat_usage(usage: dict[str, Any]) -> Usage:
    """Of chat completions. Tokens out of the cache stand in the details, at DeepSeek in prompt_cache_hit_tokens and at
    Moonshot in cached_tokens beside the others; all of them are part of prompt_tokens. Reasoning is part of
    completion_tokens, but at xAI it stands beside them: then only total_tokens has both."""
    prompt = _part(usage, "prompt_tokens_details")
    completion = _part(usage, "completion_tokens_details")
    if prompt.get("cached_tokens") is None:
        own = next((name for name in ("prompt_cache_hit_tokens", "cached_tokens") if usage.get(name) is not None), "")
        prompt = {**prompt, "cached_tokens": usage.get(own)}
    read, written = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    reasoning = _count(completion, "reasoning_tokens")
    if reasoning and _count(usage, "total_tokens") == read + written + reasoning:
        written += reasoning
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cache_read_tokens=_count(prompt, "cached_tokens"),
        cache_write_tokens=_count(prompt, "cache_write_tokens"),
        reasoning_tokens=reasoning,
    )


def responses_usage(usage: dict[str, Any]) -> Usage:
    """Of the responses API: chat's convention with other names."""
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cache_read_tokens=_count(_part(usage, "input_tokens_details"), "cached_tokens"),
        cache_write_tokens=_count(_part(usage, "input_tokens_details"), "cache_write_tokens"),
        reasoning_tokens=_count(_part(usage, "output_tokens_details"), "reasoning_tokens"),
    )


def messages_usage(usage: dict[str, Any]) -> Usage:
    # Anthropic's input_tokens leaves the cached ones out.
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(usage, "input_tokens") + read + written,
        output_tokens=_count(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=_count(_part(usage, "cache_creation"), "ephemeral_1h_input_tokens"),
    )


def _part(fields: dict[str, Any], key: str) -> dict[str, Any]:
    part = fields.get(key)
    return part if isinstance(part, dict) else {}


def _count(fields: dict[str, Any], key: str) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), _LARGEST_COUNT)
