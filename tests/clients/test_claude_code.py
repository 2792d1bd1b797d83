"""The real Claude Code, run as `claude -p`, with the gateway as its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aion_extproc.accounting.row import LedgerRow
from tests.clients import streams
from tests.clients.conftest import CLIENT_KEY
from tests.support.claude_code import ask, claude_code
from tests.support.configs import ANTHROPIC_KEY
from tests.support.gateway import Gateway, wait_for
from tests.support.upstream import Answer, Received, Upstream

CONNECTION_HEADERS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}


@pytest.fixture(scope="session")
def claude() -> list[str]:
    return claude_code()


@pytest.fixture
def tap(gateway: Gateway) -> Iterator[Upstream]:
    """Stands between Claude Code and the gateway, and keeps what Claude Code sent."""

    def forward(request: Received) -> Answer:
        headers = [(name, value) for name, value in request.headers if name not in CONNECTION_HEADERS]
        url = gateway.url + request.path
        answer = httpx.request(request.method, url, headers=headers, content=request.body, timeout=30)
        return Answer(answer.status_code, answer.headers.get("content-type", ""), [answer.content])

    with Upstream(forward) as between:
        yield between


def posted(upstream: Upstream) -> list[Received]:
    return [request for request in upstream.received if request.method == "POST"]


def new_rows(gateway: Gateway, before: list[LedgerRow], count: int) -> list[LedgerRow]:
    """The rows of chat requests that were not there `before`, once there are so many."""
    known = {row.request_id for row in before}

    def look() -> list[LedgerRow] | None:
        # Its tools alone are larger than this; a row of an earlier test may still have been on its way.
        rows = [row for row in gateway.rows() if row.request_id not in known and row.request_bytes > 20_000]
        found = [row for row in rows if row.path == "/v1/messages"]
        return found if len(found) >= count else None

    rows: list[LedgerRow] = wait_for(look)
    return rows


def test_against_the_demo(claude: list[str], demo: Gateway, tmp_path: Path) -> None:
    before = demo.rows()
    done = ask(claude, demo.url, tmp_path, "say hello")
    assert done.returncode == 0, done
    assert "built-in demo" in done.stdout
    rows = new_rows(demo, before, 1)
    assert {(row.outcome, row.status, row.provider, row.asked_model) for row in rows} == {
        ("served", 200, "demo", "aion-auto")
    }
    for row in rows:
        assert row.score is not None
        assert row.tier == 1  # "say hello", whatever Claude Code says around it
        assert not row.estimated
        assert row.stream


def test_the_provider_gets_what_claude_code_sent(
    claude: list[str], gateway: Gateway, provider: Upstream, tap: Upstream, tmp_path: Path
) -> None:
    before = gateway.rows()
    done = ask(claude, tap.url, tmp_path, "say hello")
    assert (done.returncode, done.stdout.strip()) == (0, "four"), done
    sent, received = posted(tap), posted(provider)
    assert len(sent) == len(received) >= 1
    for ours, theirs in zip(sent, received, strict=True):
        asked = json.loads(ours.body)
        assert asked["tools"]
        assert asked["system"]
        assert ours.body.count(b'"model":"aion-auto"') == 1
        assert theirs.body == ours.body.replace(b'"model":"aion-auto"', b'"model":"claude-small"')
        assert theirs.path == ours.path == "/v1/messages?beta=true"
        for name in ("anthropic-version", "anthropic-beta", "user-agent", "x-app"):
            assert theirs.header(name) == ours.header(name) is not None
        assert theirs.header("x-api-key") == ANTHROPIC_KEY
        assert "a-key-of-the-client" not in str(theirs)
    rows = new_rows(gateway, before, len(sent))
    for row in rows:
        assert (row.outcome, row.model, row.tier) == ("served", "claude-small", 1)
        assert row.score is not None
        assert (row.usage.input_tokens, row.usage.output_tokens, row.estimated) == (1000, 200, False)


def test_tools_are_called_and_their_results_come_back(
    claude: list[str], gateway: Gateway, provider: Upstream, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    names = ["first.txt", "second.txt"]
    for name in names:
        (project / name).write_text(f"the text of {name}\n")

    def answer(request: Received) -> Answer:
        if request.method != "POST":
            return Answer()
        if b'"tool_result"' in request.body:
            return streams.streamed(streams.messages_stream(streams.text(0, "Both ", "read: ✓")))(request)
        calls = [
            streams.tool_use(index, f"toolu_{index}", "Read", list(json.dumps({"file_path": str(project / name)})))
            for index, name in enumerate(names)
        ]
        return streams.streamed(streams.messages_stream(*calls, stop_reason="tool_use"))(request)

    provider.answer = answer
    before = gateway.rows()
    done = ask(claude, gateway.url, tmp_path, "read both files")
    assert (done.returncode, done.stdout.strip()) == (0, "Both read: ✓"), done
    results = {block["tool_use_id"]: json.dumps(block["content"]) for block in tool_results(posted(provider)[-1])}
    assert set(results) == {"toolu_0", "toolu_1"}
    for index, name in enumerate(names):
        assert f"the text of {name}" in results[f"toolu_{index}"]
    rows = new_rows(gateway, before, 2)
    assert {(row.outcome, row.estimated) for row in rows} == {("served", False)}


def tool_results(request: Received) -> list[dict[str, Any]]:
    contents = [message["content"] for message in json.loads(request.body)["messages"]]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return [block for block in blocks if block["type"] == "tool_result"]


def test_its_small_model_is_routed_too(claude: list[str], gateway: Gateway, provider: Upstream, tmp_path: Path) -> None:
    before = gateway.rows()
    done = ask(claude, gateway.url, tmp_path, "say hello", "--model", "haiku")
    assert (done.returncode, done.stdout.strip()) == (0, "four"), done
    assert {row.asked_model for row in new_rows(gateway, before, 1)} == {"aion-auto"}
    assert {json.loads(request.body)["model"] for request in posted(provider)} == {"claude-small"}


def test_model_discovery(claude: list[str], gateway: Gateway, tap: Upstream, tmp_path: Path) -> None:
    done = ask(claude, tap.url, tmp_path, "say hello", CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1")
    assert (done.returncode, done.stdout.strip()) == (0, "four"), done


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_a_key_of_the_gateway(claude: list[str], guarded: Gateway, tmp_path: Path, variable: str) -> None:
    before = guarded.rows()
    keys = {"ANTHROPIC_API_KEY": "", variable: CLIENT_KEY}
    done = ask(claude, guarded.url, tmp_path, "say hello", **keys)
    assert (done.returncode, done.stdout.strip()) == (0, "four"), done
    assert {(row.outcome, row.key_name) for row in new_rows(guarded, before, 1)} == {("served", "team-a")}


def test_a_wrong_key_is_said_at_once(claude: list[str], guarded: Gateway, provider: Upstream, tmp_path: Path) -> None:
    before = guarded.rows()
    done = ask(claude, guarded.url, tmp_path, "say hello")
    assert done.returncode != 0
    assert "API key" in done.stdout + done.stderr
    assert posted(provider) == []
    assert [row.error for row in new_rows(guarded, before, 1)] == ["invalid_api_key"]  # not once more


def test_an_unknown_model_is_said_at_once(
    claude: list[str], gateway: Gateway, provider: Upstream, tmp_path: Path
) -> None:
    before = gateway.rows()
    done = ask(claude, gateway.url, tmp_path, "say hello", "--model", "claude-nothing")
    assert done.returncode != 0
    assert "claude-nothing" in done.stdout + done.stderr
    assert posted(provider) == []
    assert {row.error for row in new_rows(gateway, before, 1)} == {"model_not_found"}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", ["/", "/api/hello", "/v1/messages", "/v1/models?limit=1000", "/api/event_logging"])
def test_probes_do_not_hurt(gateway: Gateway, provider: Upstream, method: str, path: str) -> None:
    headers = {"user-agent": "Bun/1.4.0", "accept-encoding": "gzip, deflate, br, zstd"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=10) as http:
        answer = http.request(method, path)
        assert answer.status_code in (200, 404, 405)
        assert (answer.content == b"") == (method == "HEAD")
        if path == "/":
            assert answer.status_code == 200
        # The same connection goes on.
        body = {"model": "aion-auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
        assert http.post("/v1/messages?beta=true", json=body).status_code == 200
    assert [request.path for request in provider.received] == ["/v1/messages?beta=true"]
