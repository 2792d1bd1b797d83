"""Anthropic. https://platform.claude.com/docs/en/api/messages

Its OpenAI-compatible endpoint drops fields, so it counts as speaking Anthropic only. What the generations of its
models take: the page of each at https://platform.claude.com/docs/en/models, and the migration guides there.
"""

from __future__ import annotations

import re

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import MessagesTarget

# claude-opus-4-8, claude-opus-4-1@20250805, anthropic/claude-haiku-5.5, us.anthropic.claude-sonnet-4-5-20250929-v1:0,
# claude-3-5-haiku-latest: a date is no minor version.
_VERSION = re.compile(r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?![\d])")


def messages(model: str) -> MessagesTarget:
    """What a Claude model takes, by its id on any platform. One that says no version counts as the newest; of a model
    that is no Claude, at a server that speaks Anthropic's format, nothing is known."""
    if "claude" not in model:
        return MessagesTarget()
    found = _VERSION.search(model)
    version = (int(found["major"]), int(found["minor"] or 0)) if found else (99, 0)
    if version >= (4, 7):
        # A token budget is refused, and so are temperature, top_p and top_k.
        return MessagesTarget(thinking="adaptive", sampling=False, max_tokens=32_000)
    if version >= (4, 6):
        return MessagesTarget(thinking="adaptive", max_tokens=32_000)
    if version >= (4, 5):
        effort = found is not None and found["family"] == "opus"
        return MessagesTarget(thinking="budget", effort=effort, max_tokens=32_000)
    if version >= (3, 7):
        # Whether Opus 4.1 still takes output_config.format, as it did in the beta, could not be verified.
        return MessagesTarget(thinking="budget", effort=False, json_schema=False, max_tokens=32_000)
    limit = 8192 if version >= (3, 5) else 4096
    return MessagesTarget(thinking="", effort=False, json_schema=False, max_tokens=limit)


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
