"""Azure OpenAI by its v1 API, where `model` is the name of a deployment and no api-version is sent.
https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle

A deployment's name is free, so give its models prices of their own unless they are named as OpenAI names them. Claude
in Microsoft Foundry is another address: kind: anthropic, base_url: https://<resource>.services.ai.azure.com/anthropic.
"""

from __future__ import annotations

from dataclasses import replace

from aion_extproc.providers import openai
from aion_extproc.providers.base import Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget


def chat(model: str) -> ChatTarget:
    """As OpenAI's, where the deployment is named after its model; max_completion_tokens is taken by all of them."""
    return replace(openai.chat(model), max_tokens="max_completion_tokens")


KIND = Kind(
    name="azure",
    origin="https://{resource}.openai.azure.com",
    bases={Format.OPENAI: "/openai/v1"},
    auth={Format.OPENAI: "api-key"},
    # Completions (the old ones) could not be verified for the v1 API.
    endpoints=frozenset({Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.EMBEDDINGS}),
    chat=chat,
    # Without a file nobody would know the deployments: there are no default models.
    api_key_env=("AZURE_OPENAI_API_KEY",),
    place=("resource",),
    price_provider="azure",
)
