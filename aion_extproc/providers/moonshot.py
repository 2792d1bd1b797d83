"""Moonshot AI (Kimi). https://platform.kimi.ai/docs/api/overview

K3 always thinks and takes an effort (low, high, max); K2 is told to think or not. Its vision guide shows images as data
URLs and uploaded files only. What it makes of json_schema, cache_control and sampling parameters could not be verified.
"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget


def chat(model: str) -> ChatTarget:
    # Between tool calls its thinking must be given back.
    return ChatTarget(
        reasoning_effort=model.startswith("kimi-k3"),
        reasoning="reasoning_content",
        image_urls=False,
        json_schema=False,
        user=False,
    )


def messages(model: str) -> MessagesTarget:
    k3 = model.startswith("kimi-k3")
    return MessagesTarget(
        thinking="" if k3 else "budget", effort=k3, json_schema=False, image_urls=False, cache_control=False
    )


KIND = Kind(
    name="moonshot",
    origin="https://api.moonshot.ai",
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: "/anthropic"},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES}),
    chat=chat,
    messages=messages,
    api_key_env=("MOONSHOT_API_KEY",),
    price_provider="moonshotai",
    # It sells no small model: what would be tier 1 goes to tier 2.
    default_models=(
        DefaultModel("kimi-k2.6", tier=2),
        DefaultModel("kimi-k3.1-pro", tier=3),
    ),
)
