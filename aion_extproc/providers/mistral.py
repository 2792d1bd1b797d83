"""Mistral. https://docs.mistral.ai/api

It refuses every field that it does not know with 422 (extra_forbidden), `user`, stream_options and reasoning_content
among them (https://github.com/BerriAI/litellm/issues/30835), messages[].name too; ids of tool calls that are not nine
letters and digits (https://github.com/anomalyco/opencode/issues/1680); a user's or system's turn after a tool's result
and a system message after the assistant's (https://github.com/mistralai/mistral-common/issues/169, and the validator
there). Thinking stands in the content, as parts of type thinking.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget

KIND = Kind(
    name="mistral",
    origin="https://api.mistral.ai",
    bases={Format.OPENAI: "/v1"},
    auth={Format.OPENAI: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.EMBEDDINGS}),
    # Which models take reasoning_effort could not be verified.
    chat=lambda _: ChatTarget(user=False, stream_options=False, call_ids="nine", order="mistral"),
    api_key_env=("MISTRAL_API_KEY",),
    price_provider="mistral",
    default_models=(
        DefaultModel("mistral-small-2603", tier=1),
        DefaultModel("mistral-large-2512", tier=2),
        DefaultModel("mistral-large-4", tier=3),
    ),
)
