"""Bedrock and Vertex without a key of ours: Envoy signs, or fetches a token. Against stand-ins of both clouds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

from aion_extproc.config.load import loads
from aion_extproc.extproc.policy import make_providers
from aion_extproc.gateway.bootstrap import render_bootstrap
from aion_extproc.gateway.envoy import validate
from aion_extproc.gateway.spec import make_spec
from tests.support.answers import MESSAGE, MESSAGE_EVENTS
from tests.support.aws_frames import chunk, exception
from tests.support.configs import FORGETFUL
from tests.support.gateway import Gateway, running
from tests.support.upstream import Answer, Received, Upstream

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "session/token==",
}
BODY: dict[str, Any] = {"max_tokens": 10, "messages": [{"role": "user", "content": "hello é"}]}
EVENTS = [json.loads(event.split(b"data: ", 1)[1]) for event in MESSAGE_EVENTS]


def as_clouds_do(request: Received) -> Answer:
    if request.path.endswith("/invoke-with-response-stream"):
        return Answer(content_type="application/vnd.amazon.eventstream", chunks=map(chunk, EVENTS))
    if request.path.endswith(":streamRawPredict"):
        return Answer(content_type="text/event-stream", chunks=MESSAGE_EVENTS)
    return Answer(chunks=[MESSAGE])


def as_metadata_server(request: Received) -> Answer:
    assert request.header("metadata-flavor") == "Google"
    assert request.path == "/computeMetadata/v1/instance/service-accounts/default/token"
    token = {"access_token": "ya29.TOKEN", "expires_in": 3599, "token_type": "Bearer"}
    return Answer(chunks=[json.dumps(token).encode()])


@pytest.fixture(scope="module")
def clouds() -> Iterator[Upstream]:
    with Upstream(as_clouds_do) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def metadata() -> Iterator[Upstream]:
    with Upstream(as_metadata_server) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def shared(clouds: Upstream, metadata: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    def models(*names: str) -> list[dict[str, Any]]:
        return [{"id": name, "tier": 1} for name in names]

    at = {"base_url": clouds.url}
    providers = {
        "signed": {"kind": "bedrock", "region": "us-east-1", "models": models(SONNET, PROFILE), **at},
        "bearer": {"kind": "bedrock", "region": "eu-west-1", "api_key": "K", "models": models("claude-k"), **at},
        "token": {"kind": "vertex", "project": "p", "region": "global", "models": models("claude-opus-5-5"), **at},
    }
    env = {**AWS, "GCE_METADATA_HOST": f"127.0.0.1:{metadata.port}"}
    with running(tmp_path_factory.mktemp("clouds"), {"providers": providers, "routing": FORGETFUL}, env) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared: Gateway, clouds: Upstream) -> Gateway:
    clouds.received.clear()
    clouds.answer = as_clouds_do
    return shared


def assert_signed(request: Received, region: str = "us-east-1") -> None:
    """As AWS does it: the signature is made again from what arrived."""
    fields = dict(request.headers)
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/(\d{8})/([a-z0-9-]+)/bedrock/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        fields["authorization"],
    )
    assert found is not None, fields["authorization"]
    assert found[2] == region
    signed = found[3].split(";")
    assert {"host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "content-type"} == set(signed)
    assert fields["x-amz-content-sha256"] == hashlib.sha256(request.body).hexdigest()
    credentials = Credentials(AWS["AWS_ACCESS_KEY_ID"], AWS["AWS_SECRET_ACCESS_KEY"], AWS["AWS_SESSION_TOKEN"])
    again = AWSRequest(
        request.method, f"http://{fields['host']}{request.path}", {n: fields[n] for n in signed}, request.body
    )
    again.context["timestamp"] = fields["x-amz-date"]
    auth = SigV4Auth(credentials, "bedrock", region)
    text = auth.string_to_sign(again, auth.canonical_request(again))
    assert auth.signature(text, again) == found[4]


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        (SONNET, "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"),
        (
            PROFILE,
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc",
        ),
    ],
)
def test_a_request_to_bedrock_is_signed_as_aws_wants_it(
    gateway: Gateway, clouds: Upstream, model: str, segment: str
) -> None:
    answer = gateway.post("/v1/messages", {"model": model, **BODY}, anthropic_beta="context-1m-2025-08-07, x")
    assert (answer.status_code, answer.json()) == (200, json.loads(MESSAGE))
    assert clouds.last.path == f"/model/{segment}/invoke"
    assert_signed(clouds.last)
    said = json.loads(clouds.last.body)
    assert said == {
        "anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["context-1m-2025-08-07", "x"], **BODY
    }  # fmt: skip
    assert clouds.last.header("content-length") == str(len(clouds.last.body))


def test_a_stream_of_bedrocks_leaves_as_anthropics(gateway: Gateway, clouds: Upstream) -> None:
    answer = gateway.post("/v1/messages", {"model": SONNET, "stream": True, **BODY})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(event.split("data: ", 1)[1]) for event in answer.text.strip().split("\n\n")]
    assert events == EVENTS
    assert clouds.last.path.endswith("/invoke-with-response-stream")
    assert "stream" not in json.loads(clouds.last.body)
    assert_signed(clouds.last)
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.estimated) == ("served", False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_in_place_of_an_answer_is_an_error(gateway: Gateway, clouds: Upstream, stream: bool) -> None:
    clouds.answer = lambda _: Answer(content_type="text/html", chunks=[b"<h1>Hello</h1>"])
    answer = gateway.post("/v1/messages", {"model": SONNET, "stream": stream, **BODY})
    clouds.answer = as_clouds_do
    assert (answer.status_code, answer.json()["type"]) == (502, "error")
    assert gateway.row(answer.headers["x-request-id"]).error == "bad_answer"


def test_an_exception_in_bedrocks_stream_is_an_error_event(gateway: Gateway, clouds: Upstream) -> None:
    frames = [chunk(EVENTS[0]), exception("throttlingException", "Too many tokens")]
    clouds.answer = lambda _: Answer(content_type="application/vnd.amazon.eventstream", chunks=frames)
    answer = gateway.post("/v1/messages", {"model": SONNET, "stream": True, **BODY})
    last = json.loads(answer.text.strip().rsplit("data: ", 1)[1])
    assert last == {"type": "error", "error": {"type": "rate_limit_error", "message": "Too many tokens"}}


def test_a_request_larger_than_envoys_buffers_is_signed_whole(gateway: Gateway, clouds: Upstream) -> None:
    large = {"model": PROFILE, "max_tokens": 10, "messages": [{"role": "user", "content": "word " * 1_000_000}]}
    assert gateway.post("/v1/messages", large).status_code == 200
    assert len(clouds.last.body) > 5_000_000
    assert_signed(clouds.last)


def test_with_a_key_nothing_is_signed(gateway: Gateway, clouds: Upstream) -> None:
    assert gateway.post("/v1/messages", {"model": "claude-k", **BODY}).status_code == 200
    assert clouds.last.header("authorization") == "Bearer K"
    assert clouds.last.header("x-amz-date") is None


def test_a_request_to_vertex_carries_the_metadata_servers_token(
    gateway: Gateway, clouds: Upstream, metadata: Upstream
) -> None:
    base = "/v1/projects/p/locations/global/publishers/anthropic/models/claude-opus-5-5"
    for stream, verb in ((False, "rawPredict"), (True, "streamRawPredict")):
        asked = {"model": "claude-opus-5-5", "stream": stream, **BODY}
        answer = gateway.post("/v1/messages", asked, anthropic_beta="a-1", anthropic_version="2023-06-01")
        assert answer.status_code == 200
        assert clouds.last.header("anthropic-beta") == "a-1"
        assert clouds.last.header("anthropic-version") is None  # it stands in the body
        assert clouds.last.path == f"{base}:{verb}"
        assert clouds.last.header("authorization") == "Bearer ya29.TOKEN"
        assert json.loads(clouds.last.body) == {"anthropic_version": "vertex-2023-10-16", "stream": stream, **BODY}
    assert len(metadata.received) == 1  # it is kept while it is valid
    gateway.post("/v1/messages", {"model": "claude-k", **BODY})
    assert clouds.last.header("authorization") == "Bearer K"


def test_envoy_takes_the_configuration_for_the_clouds_own_hosts(tmp_path: Path) -> None:
    """With TLS and HTTP/2, which the stand-ins above do without."""
    text = (
        "providers: {bedrock: {region: us-east-1, models: [{id: a, tier: 1}]}, "
        "vertex: {project: p, region: us-east5, models: [{id: b, tier: 1}]}}"
    )
    settings = loads(text, "x", {})
    validate(render_bootstrap(make_spec(settings, make_providers(settings).values(), tmp_path)))
