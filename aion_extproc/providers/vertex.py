"""Anthropic's models on Google Cloud (Vertex AI, now Gemini Enterprise Agent Platform), managed by Google.
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude

Hosts, path and body are those of Anthropic's own SDK (anthropic.lib.vertex). Its count-tokens is a model of its own
in the path and takes the real one in the body, so it is not served here. Structured outputs are off in a project
until its organisation policy allows them; Google's answer then says so.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from aion_extproc.providers import anthropic
from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.envelope import Envelope
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import MessagesTarget


def messages(model: str) -> MessagesTarget:
    """Anthropic's, but for images by URL: https://platform.claude.com/docs/en/build-with-claude/vision"""
    return replace(anthropic.messages(model), image_urls=False)


def suffix(endpoint: Endpoint, model: str, stream: bool) -> str:
    return f"/{quote(model, safe='@')}:{'streamRawPredict' if stream else 'rawPredict'}"


KIND = Kind(
    name="vertex",
    origin="https://{region}-aiplatform.googleapis.com",
    other_origins={
        "global": "https://aiplatform.googleapis.com",
        "us": "https://aiplatform.us.rep.googleapis.com",
        "eu": "https://aiplatform.eu.rep.googleapis.com",
    },
    bases={Format.ANTHROPIC: "/v1/projects/{project}/locations/{region}/publishers/anthropic/models"},
    auth={Format.ANTHROPIC: "bearer"},
    endpoints=frozenset({Endpoint.MESSAGES}),
    messages=messages,
    # `stream` stays in the body; the betas stay in their header.
    envelope=Envelope(version="vertex-2023-10-16", model_in_path=True),
    suffix=suffix,
    signing="gcp",
    place=("project", "region"),
    price_provider="google",
    default_models=(
        DefaultModel("claude-haiku-5-5", tier=1),
        DefaultModel("claude-sonnet-5-5", tier=2),
        DefaultModel("claude-opus-5-5", tier=3),
    ),
)
