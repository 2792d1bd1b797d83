"""OpenAI. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.format import Format

KIND = Kind(
    name="openai",
    origin="https://api.openai.com",
    bases={Format.OPENAI: "/v1"},
    auth={Format.OPENAI: "bearer"},
    api_key_env=("OPENAI_API_KEY",),
    price_provider="openai",
    # GPT-5.6 and later refuse function tools in Chat Completions unless the client sends
    # reasoning_effort: none, so an agent that works against GPT-5.4 gets a 400 from them:
    # https://community.openai.com/t/gpt-5-6-chat-completion-reasoning-effort-bug-behavior-change/1386454
    # GPT-5.4 nano shuts down on 2027-04-01 (https://developers.openai.com/api/docs/deprecations).
    default_models=(
        DefaultModel("gpt-5.4-nano", tier=1),
        DefaultModel("gpt-5.4-mini", tier=2),
        DefaultModel("gpt-5.4", tier=3),
    ),
)
