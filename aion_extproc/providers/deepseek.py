"""DeepSeek. https://api-docs.deepseek.com, /guides/anthropic_api and /guides/thinking_mode

By these pages its Anthropic API takes x-api-key, ignores anthropic-version and anthropic-beta, and is told how hard to
think by output_config.effort. What it makes of cache_control, of json_schema and of image URLs could not be verified.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

KIND = Kind(
    name="deepseek",
    origin="https://api.deepseek.com",
    bases={Format.OPENAI: "", Format.ANTHROPIC: "/anthropic"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "x-api-key"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.MESSAGES}),
    # Thinking between tool calls must be given back.
    chat=lambda _: ChatTarget(reasoning_effort=True, reasoning="reasoning_content", json_schema=False, user=False),
    messages=lambda _: MessagesTarget(thinking="budget", effort=True, json_schema=False, cache_control=False),
    api_key_env=("DEEPSEEK_API_KEY",),
    price_provider="deepseek",
    # It sells no small model: what would be tier 1 goes to tier 2.
    default_models=(
        DefaultModel("deepseek-flash", tier=2),
        DefaultModel("deepseek-v4-pro", tier=3),
    ),
)
