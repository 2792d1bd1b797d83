"""Anthropic. https://platform.claude.com/docs/en/api/messages

Its OpenAI-compatible endpoint drops fields, so it counts as speaking Anthropic only. What the generations of its
models take: the page of each at https://platform.claude.com/docs/en/models, and the migration guides there.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import MessagesTarget

# claude-opus-4-8, claude-opus-4-1@20250805, anthropic/claude-haiku-5.5, us.anthropic.claude-sonnet-4-5-20250929-v1:0,
# claude-3-5-haiku-latest: a date is no minor version.
_VERSION = re.compile(r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?![\d])")


@lru_cache(maxsize=1024)  # asked for every request
def messages(model: str) -> MessagesTarget:
    """What a Claude model takes, by its id on any platform. One that says no version counts as the newest; of a model
    that is no Claude, at a server that speaks Anthropic's format, nothing is known."""
    if "claude" not in model:
        return MessagesTarget()
    found = _VERSION.search(model)
    version = (int(found["major"]), int(found["minor"] or 0)) if found else (99, 0)
    family = (found["family"] if found else None) or ""
    preview = "mythos-preview" in model  # of no version, and not as new as it looks
    target = MessagesTarget(
        prefill=version < (4, 6),  # https://platform.claude.com/docs/en/api/errors#prefill-not-supported
        forced_tools=_takes_forced_tools(family, version),
        system_turns=version >= (4, 8) and (family, version) != ("sonnet", (5, 0)) and not preview,
        checks_thinking=True,
        max_tokens=32_000,
    )
    if version >= (4, 7):
        # A token budget is refused, and so are temperature, top_p and top_k.
        return replace(target, unthinking=_unthinking(family, version), xhigh=not preview, sampling=False)
    if version >= (4, 6):
        return target
    if version >= (4, 5):
        return replace(target, thinking="budget", effort=family == "opus", max_effort=False)
    if version >= (3, 7):
        # Whether Opus 4.1 still takes output_config.format, as it did in the beta, could not be verified.
        return replace(target, thinking="budget", effort=False, json_schema=False)
    limit = 8192 if version >= (3, 5) else 4096
    return replace(target, thinking="", unthinking="", effort=False, json_schema=False, max_tokens=limit)


def _takes_forced_tools(family: str, version: tuple[int, int]) -> bool:
    """https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5#forced-tool-use-is-not-supported, and
    the same section for Opus 5.5 and Fable 5.1; Haiku 5.5's migration guide has none."""
    if family in ("fable", "mythos"):
        return version < (5, 1)
    return version < (5, 5) or (family, version) == ("haiku", (5, 5))


def _unthinking(family: str, version: tuple[int, int]) -> Literal["disabled", "between_tools", ""]:
    """https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting"""
    if family not in ("fable", "mythos") and (version < (5, 5) or (family, version) == ("haiku", (5, 5))):
        return "disabled"
    return "between_tools" if (family, version) == ("sonnet", (5, 5)) else ""


KIND = Kind(
    name="anthropic",
    origin="https://api.anthropic.com",
    bases={Format.ANTHROPIC: ""},
    auth={Format.ANTHROPIC: "x-api-key"},
    endpoints=frozenset({Endpoint.MESSAGES, Endpoint.COUNT_TOKENS}),
    messages=messages,
    api_key_env=("ANTHROPIC_API_KEY",),
    price_provider="anthropic",
    default_models=(
        DefaultModel("claude-haiku-5-5", tier=1),
        DefaultModel("claude-sonnet-5-5", tier=2),
        DefaultModel("claude-opus-5-5", tier=3),
    ),
)
