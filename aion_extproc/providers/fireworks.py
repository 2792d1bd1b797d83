"""Fireworks AI. https://docs.fireworks.ai/tools-sdks/openai-compatibility and …/anthropic-compatibility

Its Claude Code guide sends the key as a bearer token. What of thinking and cache_control its Messages API reads
could not be verified.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

KIND = Kind(
    name="fireworks",
    origin="https://api.fireworks.ai",
    bases={Format.OPENAI: "/inference/v1", Format.ANTHROPIC: "/inference"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.MESSAGES}),
    chat=lambda _: ChatTarget(reasoning_effort=True, reasoning="reasoning_content"),
    messages=lambda _: MessagesTarget(thinking="budget", effort=False, json_schema=False, cache_control=False),
    api_key_env=("FIREWORKS_API_KEY",),
    price_provider="fireworks",
    default_models=(
        DefaultModel("accounts/fireworks/models/gpt-oss-20b", tier=1),
        DefaultModel("accounts/fireworks/models/gpt-oss-120b", tier=2),
        DefaultModel("accounts/fireworks/models/deepseek-v4-pro", tier=3),
    ),
)
