"""OpenAI. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget

# gpt-5.4-mini, openai/gpt-6, ft:gpt-4o-mini:…, o3-mini; not gpt-oss, which others serve.
_GPT = re.compile(r"(?:^|[/:])gpt-(\d+)(?:\.(\d+))?")
_REASONING = re.compile(r"(?:^|[/:])o\d")
_OPENAI = ChatTarget(max_tokens="max_completion_tokens", files=True)


@lru_cache(maxsize=1024)  # asked for every request
def chat(model: str) -> ChatTarget:
    """What an OpenAI model takes. Any other name is taken for a server that only speaks OpenAI's format: those know
    max_tokens, not all of them max_completion_tokens."""
    gpt = _GPT.search(model)
    if gpt is None:
        reasoning = replace(_OPENAI, reasoning_effort=True, sampling="never")
        return reasoning if _REASONING.search(model) else ChatTarget()
    version = (int(gpt[1]), int(gpt[2] or 0))
    # The "chat" variants of GPT-5 do not reason.
    reasons = version >= (5, 0) and "-chat" not in model
    # Of those that reason, 5.1 to 5.5 do so only when told to, and take a temperature as long as they do not.
    sampling: Literal["always", "unthinking", "never"] = "always"
    if reasons:
        sampling = "unthinking" if (5, 1) <= version < (5, 6) else "never"
    # https://community.openai.com/t/gpt-5-6-chat-completion-reasoning-effort-bug-behavior-change/1386454
    no_tools = reasons and version >= (5, 6)
    return replace(_OPENAI, reasoning_effort=reasons, tools_need_no_reasoning=no_tools, sampling=sampling)


KIND = Kind(
    name="openai",
    origin="https://api.openai.com",
    bases={Format.OPENAI: "/v1"},
    auth={Format.OPENAI: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS}),
    chat=chat,
    api_key_env=("OPENAI_API_KEY",),
    price_provider="openai",
    # GPT-5.6 and later refuse function tools in Chat Completions unless the client sends reasoning_effort: none
    # (see above), so an agent that works against GPT-5.4 gets a 400 from them.
    # GPT-5.4 nano shuts down on 2027-04-01 (https://developers.openai.com/api/docs/deprecations).
    default_models=(
        DefaultModel("gpt-5.4-nano", tier=1),
        DefaultModel("gpt-5.4-mini", tier=2),
        DefaultModel("gpt-5.4", tier=3),
    ),
)
