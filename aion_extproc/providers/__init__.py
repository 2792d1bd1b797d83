"""The providers we know, by the name that `kind:` in the config gives them."""

from __future__ import annotations

from collections.abc import Mapping

from aion_extproc.providers import (
    anthropic,
    azure,
    bedrock,
    deepseek,
    demo,
    fireworks,
    gemini,
    groq,
    llamacpp,
    minimax,
    mistral,
    moonshot,
    ollama,
    openai,
    openrouter,
    together,
    vertex,
    vllm,
    xai,
)
from aion_extproc.providers.base import Kind, Place, Provider, configure

ALL: tuple[Kind, ...] = (
    openai.KIND,
    anthropic.KIND,
    xai.KIND,
    openrouter.KIND,
    gemini.KIND,
    minimax.KIND,
    moonshot.KIND,
    deepseek.KIND,
    groq.KIND,
    mistral.KIND,
    together.KIND,
    fireworks.KIND,
    azure.KIND,
    bedrock.KIND,
    vertex.KIND,
    ollama.KIND,
    vllm.KIND,
    llamacpp.KIND,
    demo.KIND,
)
# Names that mean the same: the seed's config calls a llama.cpp server "local".
ALIASES: Mapping[str, str] = {"local": "llama.cpp", "llamacpp": "llama.cpp", "google": "gemini"}
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in ALL} | {
    alias: kind for kind in ALL for alias, name in ALIASES.items() if name == kind.name
}

__all__ = ["ALIASES", "ALL", "KINDS", "Kind", "Place", "Provider", "configure"]
