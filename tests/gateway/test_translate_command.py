"""aion translate, as a user runs it: what comes out, what is said of it, and when."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.answers import CHAT, CHAT_EVENTS, CHAT_USAGE, DONE, MESSAGE, MESSAGE_EVENTS
from tests.support.aws_frames import chunk, exception
from tests.support.gateway import clean_env

HELLO = [{"role": "user", "content": "hello"}]
CHAT_STREAM = b"".join([*CHAT_EVENTS, CHAT_USAGE, DONE])


def command(source: str, target: str, what: str, *options: str) -> list[str]:
    aion = [sys.executable, "-m", "aion_extproc.cli", "translate"]
    return [*aion, "--from", source, "--to", target, "--what", what, *options]


def translate(
    source: str, target: str, what: str, said: object, *options: str
) -> subprocess.CompletedProcess[bytes]:
    given = said if isinstance(said, bytes) else json.dumps(said).encode()
    return subprocess.run(
        command(source, target, what, *options),
        input=given, capture_output=True, timeout=60, env=clean_env(), check=False,
    )


def translated(source: str, target: str, what: str, said: object, *options: str) -> Any:
    """The JSON on standard output of a command that has nothing to complain of."""
    done = translate(source, target, what, said, *options)
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


# Requests


def test_a_chat_request_for_anthropic() -> None:
    said = {"model": "claude-sonnet-4-6", "max_completion_tokens": 9, "stop": "x", "messages": HELLO}
    assert translated("openai", "anthropic", "request", said) == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "stop_sequences": ["x"],
    }


def test_a_messages_request_for_openai() -> None:
    said = {"model": "claude-x", "max_tokens": 9, "system": "Be brief.", "messages": HELLO, "stop_sequences": ["x"]}
    assert translated("anthropic", "openai", "request", said, "--model", "gpt-5.4") == {
        "model": "gpt-5.4",
        "max_completion_tokens": 9,
        "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
        "stop": ["x"],
    }


@pytest.mark.parametrize("source", ["openai", "anthropic"])
def test_a_request_for_the_clouds(source: str) -> None:
    """The model is in the path there; Bedrock's stream too."""
    said = {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": HELLO, "stream": True}
    bedrock = translated(source, "bedrock", "request", said)
    vertex = translated(source, "vertex", "request", said)
    assert bedrock.keys() == {"anthropic_version", "max_tokens", "messages"}
    assert vertex.keys() == {"anthropic_version", "max_tokens", "messages", "stream"}
    assert bedrock["anthropic_version"] == "bedrock-2023-05-31"
    assert vertex["anthropic_version"] == "vertex-2023-10-16"


def test_a_request_that_was_written_for_a_cloud() -> None:
    """It names no model; the option does."""
    said = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": HELLO}
    got = translated("bedrock", "openai", "request", said, "--model", "gpt-4o")
    assert got == {"model": "gpt-4o", "max_completion_tokens": 9, "messages": HELLO}


def test_the_same_format_keeps_the_clients_bytes() -> None:
    said = b'{"model":"gpt-4o",  "messages":[{"role":"user","content":"caf\\u00e9"}], "seed": 1.0}'
    done = translate("openai", "openai", "request", said)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")


def test_what_is_dropped_stands_on_standard_error() -> None:
    said = {"model": "claude-sonnet-4-6", "messages": HELLO, "seed": 7, "logprobs": True}
    done = translate("openai", "anthropic", "request", said)
    assert done.returncode == 0
    assert done.stderr == b"X-AION-Dropped: logprobs,seed\n"
    assert "seed" not in json.loads(done.stdout)


# Answers, streams, errors


def test_answers() -> None:
    message = translated("openai", "anthropic", "response", CHAT)
    assert (message["type"], message["content"]) == ("message", [{"type": "text", "text": "four é😀"}])
    for cloud in ("anthropic", "bedrock", "vertex"):
        chat = translated(cloud, "openai", "response", MESSAGE)
        assert chat["object"] == "chat.completion"
        assert chat["choices"][0]["message"]["content"] == "four"
        assert abs(chat["created"] - time.time()) < 100


def bedrock_stream() -> list[bytes]:
    return [chunk(event.partition(b"data: ")[2].strip()) for event in MESSAGE_EVENTS]


@pytest.mark.parametrize(
    ("source", "target", "pieces", "first", "last"),
    [
        ("openai", "anthropic", [*CHAT_EVENTS, CHAT_USAGE, DONE], b"event: message_start\n", b"message_stop"),
        ("anthropic", "openai", MESSAGE_EVENTS, b'data: {"id":"msg_1"', b"data: [DONE]"),
        ("bedrock", "openai", bedrock_stream(), b'data: {"id":"msg_1"', b"data: [DONE]"),
        ("bedrock", "anthropic", bedrock_stream(), b"event: message_start\n", b"message_stop"),
    ],
)
def test_a_stream_comes_out_while_it_goes_in(
    source: str, target: str, pieces: Iterable[bytes], first: bytes, last: bytes
) -> None:
    with subprocess.Popen(
        command(source, target, "stream"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_env()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        begin, *rest = pieces
        process.stdin.write(begin)
        process.stdin.flush()
        assert process.stdout.readline().startswith(first)  # standard input is still open
        for piece in rest:
            process.stdin.write(piece)
        process.stdin.close()
        out = process.stdout.read()
        assert process.wait(30) == 0
    assert last in out
    assert b"four" in out or (b"fo" in out and b"ur" in out)


def test_the_usage_of_a_stream_is_always_told() -> None:
    done = translate("anthropic", "openai", "stream", b"".join(MESSAGE_EVENTS))
    *_, usage, _ = done.stdout.decode().strip().split("\n\n")
    assert json.loads(usage[6:])["usage"]["prompt_tokens"] == 1000


@pytest.mark.parametrize(
    ("source", "said", "wanted"),
    [
        ("openai", CHAT_STREAM[:300], b"cut_stream"),
        ("openai", b"<html>no stream</html>", b"cut_stream"),
        ("openai", b"data: <html>\n\n", b"bad_stream"),
        ("bedrock", exception("throttlingException", "slow down"), b"rate_limit_error"),
        ("bedrock", b"\x00\x00\x00", b'"type":"error"'),
    ],
)
def test_what_is_wrong_with_a_stream_stands_in_it(source: str, said: bytes, wanted: bytes) -> None:
    """As for a client, to whom the gateway has already said 200."""
    done = translate(source, "anthropic", "stream", said)
    assert done.returncode == 0
    last = done.stdout.strip().split(b"\n\n")[-1]
    assert last.startswith(b"event: error\n")
    assert wanted in last


def test_errors() -> None:
    said: dict[str, Any] = {"error": {"message": "slow", "type": "tokens", "code": "rate_limit_exceeded"}}
    error = translated("openai", "anthropic", "error", said, "--status", "429")
    assert error["error"] == {
        "type": "rate_limit_error", "message": "slow", "details": {"error_code": "rate_limit_exceeded"}
    }
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    error = translated("anthropic", "openai", "error", said, "--status", "529")
    assert error == {"error": {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"}}
    page = b"<html><title>Bad gateway</title></html>"
    error = translated("bedrock", "openai", "error", page, "--status", "502")
    assert "Bad gateway" in error["error"]["message"]


# What goes wrong


@pytest.mark.parametrize(
    ("source", "what", "said", "complaint"),
    [
        ("openai", "request", {"model": "m", "n": 2, "messages": HELLO}, "unsupported_value: n must be 1"),
        ("openai", "request", b"hello", "invalid_json: The request body is not valid JSON"),
        ("openai", "request", b"", "invalid_json: The request body is not valid JSON: it is empty"),
        ("openai", "request", [], "invalid_type: The request body must be a JSON object"),
        ("openai", "request", {"messages": HELLO}, "missing_field: model is missing"),
        ("anthropic", "request", {"model": "m", "compaction": {"type": "x"}, "messages": HELLO}, "compaction"),
        ("bedrock", "request", {"max_tokens": 9, "messages": HELLO}, "missing_field: model is missing"),
        ("anthropic", "response", b"<html>[bold]</html>", "bad_answer: The provider's answer is not JSON."),
        ("openai", "response", b"<html>[bold]</html>", "bad_answer: The provider's answer is not JSON."),
        ("openai", "response", {"error": {"message": "[red]no[/]"}}, "error_answer: [red]no[/]"),
        ("openai", "response", {"object": "list"}, "bad_answer: The provider's answer is no chat completion."),
    ],
)
def test_what_cannot_be_translated(source: str, what: str, said: object, complaint: str) -> None:
    target = "anthropic" if source == "openai" else "openai"
    done = translate(source, target, what, said)
    assert (done.returncode, done.stdout) == (1, b"")
    message = done.stderr.decode()
    assert message.startswith("aion: ")
    assert complaint in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ("openai", "mistral", "request"),
        ("azure", "openai", "request"),
        ("openai", "anthropic", "embedding"),
        ("openai", "anthropic", "error", "--status", "many"),
        ("openai", "anthropic", "error", "--status", "200"),
        ("openai", "anthropic", "request", "--wibble"),
    ],
)
def test_options_that_are_none(options: tuple[str, ...]) -> None:
    source, target, what, *more = options
    done = translate(source, target, what, b"{}", *more)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Usage:" in done.stderr
