"""Bad input: a precise error in the shape of the API called, a row, a metric, and nothing for the provider."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import as_asked
from tests.support.configs import two_providers
from tests.support.gateway import Gateway, running, wait_for
from tests.support.upstream import Upstream

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
USER = [{"role": "user", "content": "hello"}]

BAD_BODIES: list[tuple[str, object, str, str]] = [
    ("not JSON", b'{"model": "aion-auto",', "invalid_json", "not valid JSON"),
    ("empty", b"", "missing_body", "no body"),
    ("blank", b" \n", "invalid_json", "empty"),
    ("not an object", ["aion-auto"], "invalid_type", "a list"),
    ("not UTF-8", b'{"model":"aion-auto","messages":[{"role":"user","content":"\xff"}]}', "invalid_json", "UTF-8"),
    ("no model", {"messages": USER}, "missing_field", "model is missing"),
    ("model not a string", {"model": 7, "messages": USER}, "invalid_type", "model must be"),
    ("no messages", {"model": "aion-auto"}, "missing_field", "messages is missing"),
    ("no message", {"model": "aion-auto", "messages": []}, "empty_messages", "at least one"),
    ("message a string", {"model": "aion-auto", "messages": ["hi"]}, "invalid_type", "messages[0]"),
    ("no role", {"model": "aion-auto", "messages": [{"content": "hi"}]}, "invalid_type", "messages[0].role"),
    (
        "content a number",
        {"model": "aion-auto", "messages": [{"role": "user", "content": 5}]},
        "invalid_type",
        "messages[0].content",
    ),
    ("stream a string", {"model": "aion-auto", "messages": USER, "stream": "yes"}, "invalid_type", "stream"),
    ("limit a string", {"model": "aion-auto", "messages": USER, "max_tokens": "9"}, "invalid_type", "max_tokens"),
    ("tools an object", {"model": "aion-auto", "messages": USER, "tools": {}}, "invalid_type", "tools"),
    (
        "unknown preference",
        {"model": "aion-auto", "messages": USER, "aion_preferences": {"speed": 1}},
        "invalid_preferences",
        "prefer_speed",
    ),
]


@pytest.mark.parametrize(("body", "code", "words"), [case[1:] for case in BAD_BODIES], ids=[c[0] for c in BAD_BODIES])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_bad_body(gateway: Gateway, provider: Upstream, path: str, body: object, code: str, words: str) -> None:
    answer = gateway.post(path, body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    message = _message(answer, path, "invalid_request_error")
    assert words in message
    assert "Traceback" not in answer.text
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.status, row.cost_nano) == ("refused", code, 400, None)
    assert provider.received == []
    if path == CHAT:
        assert answer.json()["error"]["code"] == code


def test_an_unknown_model_is_404_with_near_names(gateway: Gateway, provider: Upstream) -> None:
    for path in (CHAT, MESSAGES):
        answer = gateway.post(path, {"model": "gpt-smal", "messages": USER, "max_tokens": 5})
        assert answer.status_code == 404
        kind = "not_found_error" if path == MESSAGES else "invalid_request_error"
        assert "gpt-small" in _message(answer, path, kind)
        assert gateway.row(answer.headers["x-request-id"]).error == "model_not_found"
    assert provider.received == []


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/metrics", 404), ("/v1/messages/x", 404)])
def test_a_wrong_path(gateway: Gateway, path: str, status: int) -> None:
    answer = gateway.post(path, {"model": "aion-auto", "messages": USER})
    assert answer.status_code == status
    row = gateway.row(answer.headers["x-request-id"])
    assert (row.outcome, row.error, row.path) == ("refused", "unknown_path", path)


def test_a_wrong_method(gateway: Gateway) -> None:
    answer = httpx.get(gateway.url + CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert gateway.row(answer.headers["x-request-id"]).error == "method_not_allowed"


def test_a_body_compressed_in_an_unknown_way_is_415_and_never_classified(gateway: Gateway, provider: Upstream) -> None:
    body = zlib.compress(json.dumps({"model": "aion-auto", "messages": USER}).encode())
    answer = gateway.post(CHAT, body, content_encoding="deflate")
    assert answer.status_code == 415
    assert "deflate" in _message(answer, CHAT, "invalid_request_error")
    assert provider.received == []


@pytest.fixture(scope="module")
def strict(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with keys and a small body limit."""
    keys = [{"key": "sk-aion-one-11111", "name": "one", "tenant": "acme"}, {"key": "sk-aion-two-22222", "name": "two"}]
    config = two_providers(provider, auth={"keys": keys}, gateway={"max_body_bytes": 100_000})
    with running(tmp_path_factory.mktemp("strict"), config) as gateway:
        yield gateway


def test_keys(strict: Gateway, provider: Upstream) -> None:
    provider.answer = as_asked
    provider.received.clear()
    body = {"model": "aion-auto", "messages": USER, "max_tokens": 5}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x_api_key": "wrong"}, {"authorization": "Basic b25l"}):
        for path in (CHAT, MESSAGES):
            answer = strict.post(path, body, **headers)
            assert answer.status_code == 401
            assert "wrong" not in _message(answer, path, "authentication_error")
            assert strict.row(answer.headers["x-request-id"]).error == "invalid_api_key"
    assert provider.received == []
    for headers in ({"authorization": "Bearer sk-aion-one-11111"}, {"x_api_key": "sk-aion-one-11111"}):
        for path in (CHAT, MESSAGES):
            answer = strict.post(path, body, **headers)
            assert answer.status_code == 200
            row = strict.row(answer.headers["x-request-id"])
            assert (row.key_name, row.tenant) == ("one", "acme")
    assert httpx.get(strict.url + "/v1/models").status_code == 401
    assert httpx.get(strict.url + "/health").status_code == 200


def test_a_body_over_the_limit_is_413(strict: Gateway, provider: Upstream) -> None:
    provider.received.clear()
    key = {"authorization": "Bearer sk-aion-two-22222"}
    big = json.dumps({"model": "aion-auto", "messages": [{"role": "user", "content": "x" * 200_000}]}).encode()
    announced = strict.post(CHAT, big, **key)
    chunked = httpx.post(strict.url + CHAT, content=iter([big]), headers=key, timeout=30)
    for answer in (announced, chunked):
        assert answer.status_code == 413
        assert "100000 bytes" in _message(answer, CHAT, "invalid_request_error")
        row = strict.row(answer.headers["x-request-id"])
        assert (row.outcome, row.error) == ("refused", "body_too_large")
    assert provider.received == []


def test_no_key_is_ever_written_down(strict: Gateway) -> None:
    """Not in what Envoy is given, the logs, the ledger, or the process list."""
    secrets = ["sk-aion-one-11111", "sk-aion-two-22222", "sk-secret-openai-1234567890", "sk-ant-secret-1234567890"]
    texts = [strict.log, str(strict.rows()), *command_lines(strict)]
    texts += [path.read_text(errors="replace") for path in strict.run_dir.rglob("*") if path.is_file()]
    assert len(texts) > 6
    for secret in secrets:
        assert not [text[:80] for text in texts if secret in text]


def command_lines(gateway: Gateway) -> list[str]:
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in gateway.children("")]


def test_refusals_are_counted(gateway: Gateway) -> None:
    gateway.post(CHAT, b"{")

    def counted() -> bool:
        return 'aion_errors_total{code="invalid_json"}' in gateway.metrics()

    assert wait_for(counted)


def _message(answer: httpx.Response, path: str, kind: str) -> str:
    """The message of an error in the shape of the API called."""
    body: dict[str, Any] = answer.json()
    if path.startswith(MESSAGES):
        assert body["type"] == "error"
        assert body["request_id"] == answer.headers["x-request-id"]
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == kind
    return str(body["error"]["message"])


@pytest.mark.parametrize("header", [b"content-encoding: \xff\xfe", b"authorization: Bearer \xff", b"x-odd: \xff"])
def test_headers_that_are_no_text(strict: Gateway, header: bytes) -> None:
    """Whatever is wrong is said; nothing breaks in here."""
    key = b"" if header.startswith(b"authorization") else b"authorization: Bearer sk-aion-one-11111\r\n"
    body = b'{"model":"nothing","messages":[{"role":"user","content":"x"}]}'
    lengths = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", strict.port), timeout=5) as connection:
        head = b"POST /v1/chat/completions?q=\xc3\xa9 HTTP/1.1\r\nhost: x\r\n"
        connection.sendall(head + key + header + b"\r\n" + lengths + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.split(b" ")[1] in (b"400", b"401", b"404", b"415"), answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"garbage\r\n\r\n", b"400"),
        (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 200_000 + b"\r\n\r\n", b"431"),
    ],
    ids=["no HTTP", "two lengths", "huge header"],
)
def test_broken_http_gets_an_answer_and_a_row(gateway: Gateway, sent: bytes, status: bytes) -> None:
    before = sum(row.error == "bad_http" for row in gateway.rows())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        connection.sendall(sent)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"invalid_request_error"' in answer
    wait_for(lambda: sum(row.error == "bad_http" for row in gateway.rows()) == before + 1)


def test_a_client_that_leaves_while_it_sends_has_a_row(gateway: Gateway, provider: Upstream) -> None:
    before = sum(row.error == "client_gone" for row in gateway.rows())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{")
    wait_for(lambda: sum(row.error == "client_gone" for row in gateway.rows()) == before + 1)
    assert provider.received == []
