"""Providers' errors in the shape of the API that the client called."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.errors import failure_in, in_band_error, upstream_error

JSON = "application/json"


def openai_error(status: int, body: bytes, content_type: str = JSON) -> dict[str, Any]:
    error: dict[str, Any] = orjson.loads(upstream_error(status, body, content_type, Format.OPENAI, "req_1"))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def anthropic_error(status: int, body: bytes, content_type: str = JSON) -> dict[str, Any]:
    said = orjson.loads(upstream_error(status, body, content_type, Format.ANTHROPIC, "req_1"))
    assert (said["type"], said["request_id"]) == ("error", "req_1")
    error: dict[str, Any] = said["error"]
    assert error["message"]
    return error


def of_anthropic(kind: str, message: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_theirs"})


def of_openai(kind: str, message: str, code: str | None = None, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


@pytest.mark.parametrize(
    ("status", "kind", "type", "code"),
    [
        (400, "invalid_request_error", "invalid_request_error", None),
        (401, "authentication_error", "authentication_error", "invalid_api_key"),
        (402, "billing_error", "insufficient_quota", "insufficient_quota"),
        (403, "permission_error", "permission_error", None),
        (404, "not_found_error", "invalid_request_error", "not_found"),
        (413, "request_too_large", "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
        (500, "api_error", "server_error", None),
        (504, "timeout_error", "server_error", "timeout"),
        (529, "overloaded_error", "server_error", "overloaded"),
        (418, "teapot_error", "teapot_error", None),
    ],
)
def test_anthropic_to_openai(status: int, kind: str, type: str, code: str | None) -> None:
    assert openai_error(status, of_anthropic(kind, "Why.")) == {
        "message": "Why.",
        "type": type,
        "param": None,
        "code": code,
    }


@pytest.mark.parametrize(
    ("status", "kind", "code", "type"),
    [
        (400, "invalid_request_error", None, "invalid_request_error"),
        (401, "invalid_request_error", "invalid_api_key", "authentication_error"),
        (403, "invalid_request_error", None, "permission_error"),
        (404, "invalid_request_error", "model_not_found", "not_found_error"),
        (429, "insufficient_quota", "insufficient_quota", "billing_error"),
        (429, "tokens", "rate_limit_exceeded", "rate_limit_error"),
        (429, "rate_limit_error", None, "rate_limit_error"),
        (500, "server_error", None, "api_error"),
        (503, "server_error", None, "overloaded_error"),
        (504, "", None, "timeout_error"),
        (422, "", None, "invalid_request_error"),
    ],
)
def test_openai_to_anthropic(status: int, kind: str, code: str | None, type: str) -> None:
    error = anthropic_error(status, of_openai(kind, "Why.", code))
    assert (error["type"], error["message"]) == (type, "Why.")
    assert error.get("details", {}).get("error_code") == code


def test_code_and_param_are_kept() -> None:
    body = of_openai("invalid_request_error", "Bad value.", "invalid_value", "messages[0].role")
    assert openai_error(400, body) == {
        "message": "Bad value.",
        "type": "invalid_request_error",
        "param": "messages[0].role",
        "code": "invalid_value",
    }
    assert anthropic_error(400, body)["message"] == "Bad value. (param: messages[0].role)"


@pytest.mark.parametrize(
    "body",
    [
        of_anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        of_openai("invalid_request_error", "This model's maximum context length is 128000 tokens."),
        of_openai("invalid_request_error", "Too many.", "context_length_exceeded"),
        of_openai("exceed_context_size_error", "the request exceeds the available context size", "400"),
    ],
)
def test_a_conversation_that_is_too_long_is_known_as_such(body: bytes) -> None:
    assert openai_error(400, body)["code"] == "context_length_exceeded"
    error = anthropic_error(400, body)
    assert error["type"] == "invalid_request_error"
    assert error["message"].lower().count("prompt is too long") == 1


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'[{"error":{"code":429,"message":"Quota.","status":"RESOURCE_EXHAUSTED"}}]', "Quota.", "RESOURCE_EXHAUSTED"),
        (b'{"message":"Slow down.","__type":"com.amazon#ThrottlingException"}', "Slow down.", "ThrottlingException"),
        (b'{"Message":"Slow down."}', "Slow down.", None),
        (b'{"error":"model is loading"}', "model is loading", None),
        (b'{"error":"unauthorized","message":"No key."}', "No key.", "unauthorized"),
        (b'{"detail":"Not Found"}', "Not Found", None),
        (b'{"detail":[{"loc":["body","n"],"msg":"too big","type":"value_error"}]}', "too big", None),
        (b'{"errors":[{"code":1015,"message":"limited"},{"message":"again"}]}', "limited; again", "1015"),
        (b'{"object":"error","message":"vLLM","type":"BadRequestError","code":400}', "vLLM", None),
        (b'{"message":{"detail":[{"msg":"Mistral"}]}}', "Mistral", None),
        (b'"just text"', "just text", None),
        (b'{"strange":1}', '{"strange":1}', None),
        (b'data: {"error":{"message":"in a stream"}}\n\n', "in a stream", None),
        (b'event: error\ndata: {"type":"error","error":{"message":"so too"}}\n\n', "so too", None),
        (b'{"error":{"message":"\\ud83d half"}}', "? half", None),
    ],
)
def test_shapes_of_other_servers(body: bytes, message: str, code: str | None) -> None:
    error = openai_error(429, body)
    assert error["message"] == message
    assert error["code"] == code or (code is None and error["code"] == "rate_limit_exceeded")


def test_what_a_router_was_told() -> None:
    inner = '{"error":{"message":"Bad tool.","type":"invalid_request_error"}}'
    body = orjson.dumps({"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": inner}}})
    assert openai_error(400, body)["message"] == "Provider returned error: Bad tool."
    body = body.replace(orjson.dumps(inner), b'"plain words"')
    assert openai_error(400, body)["message"] == "Provider returned error: plain words"


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "", "The provider answered 502."),
        (b"null", JSON, "The provider answered 502."),
        (b"{}", JSON, "The provider answered 502."),
        (b"upstream connect error\r\n", "text/plain", "upstream connect error"),
        (
            b"<html><head><title>502 Bad\n Gateway</title></head></html>",
            "text/html",
            "The provider answered with a web page: 502 Bad Gateway",
        ),
        (b"<!DOCTYPE html><h1 class=x>Sorry</h1>", "", "The provider answered with a web page: Sorry"),
        (b"<html>", "text/html", "The provider answered with a web page."),
        (b"\x1f\x8b\x08\xff\xfe\xfd\xfc", "", "The provider's error could not be read: it is not text."),
    ],
)
def test_no_json_at_all(body: bytes, content_type: str, message: str) -> None:
    assert openai_error(502, body, content_type)["message"] == message
    assert anthropic_error(502, body, content_type)["message"] == message


def test_what_is_kept_is_bounded() -> None:
    long = "x" * 100_000
    body = orjson.dumps({"error": {"message": long, "type": long, "code": long, "param": long}})
    for error in (openai_error(400, body), openai_error(400, long.encode()), openai_error(400, b'"' + long.encode())):
        assert len(orjson.dumps(error)) < 2500
    deep = b'{"error":' * 900 + b"1" + b"}" * 900
    assert openai_error(400, deep)["message"].startswith("{")
    assert openai_error(400, b"[" * 100_000)


BODIES = st.binary(max_size=60) | st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["error", "message", "detail", "type", "code", "metadata", "raw", "loc", "param", "details"]),
        inner,
        max_size=3,
    ),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())


@given(BODIES, st.sampled_from([400, 401, 404, 429, 500, 503, 599]), st.sampled_from(list(Format)))
def test_every_body_is_some_error(body: bytes, status: int, client: Format) -> None:
    said = orjson.loads(upstream_error(status, body, "", client, "req_1"))
    assert isinstance(said["error"]["message"], str)
    assert said["error"]["message"]
    assert isinstance(said["error"]["type"], str)
    assert said["error"]["type"]


def test_errors_in_a_stream() -> None:
    assert in_band_error(Format.OPENAI, "cut_stream", "It ended.") == (
        b'data: {"error":{"message":"It ended.","type":"server_error","param":null,"code":"cut_stream"}}\n\n'
    )
    assert in_band_error(Format.ANTHROPIC, "", "Full.", 529) == (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Full."}}\n\n'
    )
    failure = failure_in({"error": {"message": "Slow.", "type": "tokens", "code": "rate_limit_exceeded"}})
    assert failure.own_status == 429
    out = in_band_error(Format.ANTHROPIC, failure.code, failure.message, failure.own_status, type=failure.type)
    assert b'"type":"rate_limit_error"' in out


class _Recorded(httpx2.BaseTransport):
    def __init__(self, status: int, body: bytes) -> None:
        self._answer = (status, body)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        status, body = self._answer
        return httpx2.Response(status, headers={"content-type": "application/json"}, content=body)


def test_the_clients_raise_them() -> None:
    body = upstream_error(429, of_anthropic("rate_limit_error", "Slow."), JSON, Format.OPENAI, "req_1")
    http = httpx2.Client(transport=_Recorded(429, body))
    with pytest.raises(openai.RateLimitError, match="Slow") as raised:
        openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=http, max_retries=0).models.list()
    assert (raised.value.code, raised.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    body = upstream_error(503, of_openai("server_error", "Full.", "server_is_overloaded"), JSON, Format.ANTHROPIC, "r")
    http = httpx2.Client(transport=_Recorded(503, body))
    with pytest.raises(anthropic.APIStatusError, match="Full") as refused:
        anthropic.Anthropic(api_key="k", base_url="http://test", http_client=http, max_retries=0).models.list()
    assert (refused.value.type, refused.value.error_code) == ("overloaded_error", "server_is_overloaded")
