"""Amazon Bedrock: Anthropic's models by InvokeModel, which answers streams in AWS's own framing.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
https://platform.claude.com/docs/build-with-claude/claude-on-amazon-bedrock-legacy (the body)
https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html (the key)

Bedrock also serves the Messages API as it is (inference-messages-api.html beside the last page); with an API key that
is kind: anthropic, base_url: https://bedrock-mantle.<region>.api.aws/anthropic.
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
    """Anthropic's, but for images by URL: https://platform.claude.com/docs/en/build-with-claude/vision. Whether
    InvokeModel takes system turns could not be verified: their page names the other of Bedrock's APIs."""
    return replace(anthropic.messages(model), image_urls=False, system_turns=False)


def suffix(endpoint: Endpoint, model: str, stream: bool) -> str:
    # A model may be named by an ARN, whose slashes and colons are part of the one segment.
    return f"/model/{quote(model, safe='')}/invoke" + ("-with-response-stream" if stream else "")


KIND = Kind(
    name="bedrock",
    origin="https://bedrock-runtime.{region}.amazonaws.com",
    bases={Format.ANTHROPIC: ""},
    auth={Format.ANTHROPIC: "bearer"},
    endpoints=frozenset({Endpoint.MESSAGES}),  # its CountTokens has a shape of its own
    messages=messages,
    envelope=Envelope(
        version="bedrock-2023-05-31", model_in_path=True, stream_in_path=True, beta_in_body=True, framing="eventstream"
    ),
    suffix=suffix,
    api_key_env=("AWS_BEARER_TOKEN_BEDROCK",),
    signing="aws",
    place=("region",),
    place_env={"region": ("AWS_REGION", "AWS_DEFAULT_REGION")},
    price_provider="aws",
    # The global profiles: they serve from any region and cost a tenth less than the regional ones.
    default_models=(
        DefaultModel("global.anthropic.claude-haiku-5-5", tier=1),
        DefaultModel("global.anthropic.claude-sonnet-5-5", tier=2),
        DefaultModel("global.anthropic.claude-opus-5-5", tier=3),
    ),
)
