"""xAI. https://docs.x.ai/developers/rest-api-reference/inference

Its /v1/messages is "fully deprecated" by that page, so only the OpenAI format is used. Chat completions are called
deprecated too, in favour of responses, but served; they return no thinking
(https://docs.x.ai/developers/model-capabilities/text/comparison). Grok 4.3 and later take reasoning_effort
(https://docs.x.ai/developers/model-capabilities/text/reasoning).
"""

from __future__ import annotations

import re

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget

_VERSION = re.compile(r"grok-(\d+)\.(\d+)")


def chat(model: str) -> ChatTarget:
    version = _VERSION.match(model)
    # 4.20 came before 4.3: their parts are decimals.
    effort = version is not None and float(f"{version[1]}.{version[2]}") >= 4.3
    return ChatTarget(max_tokens="max_completion_tokens", reasoning_effort=effort)


KIND = Kind(
    name="xai",
    origin="https://api.x.ai",
    bases={Format.OPENAI: "/v1"},
    auth={Format.OPENAI: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.RESPONSES}),
    chat=chat,
    api_key_env=("XAI_API_KEY",),
    # "counted separately from completion_tokens": https://docs.x.ai/docs/key-information/consumption-and-rate-limits
    reasoning_apart=True,
    price_provider="x-ai",
    # The cheap "fast" models were retired in May 2026: https://docs.x.ai/docs/migration/may-15-retirement.
    # What would be tier 1 goes to tier 2.
    default_models=(
        DefaultModel("grok-4.3", tier=2),
        DefaultModel("grok-4.7", tier=3),
    ),
)
