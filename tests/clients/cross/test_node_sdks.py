"""The official SDKs for Node, each served by a provider that speaks only the other format."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.clients.cross.cases import CALLS, PERSON, PIECE, TEXT, a_person, calling, check_row
from tests.clients.cross.test_errors import of_anthropic, of_openai
from tests.support.gateway import Gateway
from tests.support.node import node_sdks, run
from tests.support.says import Says
from tests.support.scripted import Scripted

HERE = Path(__file__).parent
CUTS = pytest.mark.parametrize("cut", [0, PIECE], ids=["events", "cut anywhere"])


@pytest.fixture(scope="session")
def sdks() -> Path:
    return node_sdks()


def openai(sdks: Path, gateway: Gateway, scenario: str, **more: Any) -> Any:
    return run(sdks, HERE / "openai.mjs", url=gateway.url, scenario=scenario, **more)


def anthropic(sdks: Path, gateway: Gateway, scenario: str, **more: Any) -> Any:
    return run(sdks, HERE / "anthropic.mjs", url=gateway.url, scenario=scenario, **more)


def test_openai_json(sdks: Path, claude_gateway: Gateway, claude: Scripted) -> None:
    answer = openai(sdks, claude_gateway, "json")
    assert (answer["text"], answer["finish_reason"], answer["calls"]) == (TEXT, "stop", [])
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (900, 200, 1100)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 400
    check_row(claude_gateway, answer["id"], "claude-haiku-4-5", (900, 200, 400), 1_340_000)


@CUTS
def test_openai_stream(sdks: Path, claude_gateway: Gateway, claude: Scripted, cut: int) -> None:
    claude.says(Says(cut=cut))
    answer = openai(sdks, claude_gateway, "stream")
    assert (answer["text"], answer["finish_reason"], answer["usage"]["prompt_tokens"]) == (TEXT, "stop", 900)
    assert [word for word in answer["words"] if word] == Says().words


@pytest.mark.parametrize("scenario", ["tools", "tools_streamed"])
def test_openai_tools(sdks: Path, claude_gateway: Gateway, claude: Scripted, scenario: str) -> None:
    claude.says(calling("anthropic", cut=PIECE), Says())
    answer = openai(sdks, claude_gateway, scenario)
    called = [(id, name, json.loads(arguments)) for id, name, arguments in answer["first"]["calls"]]
    assert called == [(call.id, call.name, call.arguments) for call in CALLS["anthropic"]]
    assert (answer["first"]["text"], answer["first"]["finish_reason"]) == ("I will look.", "tool_calls")
    assert answer["second"]["text"] == TEXT
    results = claude.last["messages"][2]["content"]
    assert [part["tool_use_id"] for part in results] == [call.id for call in CALLS["anthropic"]]


def test_openai_structured(sdks: Path, claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(a_person(cut=PIECE))
    assert openai(sdks, claude_gateway, "structured") == [PERSON, PERSON]


def test_openai_errors(sdks: Path, claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(of_anthropic(429, "rate_limit_error", "Slow down.", ("retry-after", "7")))
    error = openai(sdks, claude_gateway, "error", model="claude-fails-429")
    assert (error["kind"], error["status"], error["retry"]) == ("RateLimitError", 429, "7")
    assert (error["type"], error["message"]) == ("rate_limit_error", "429 Slow down.")
    claude.says(Says("So far", error=("overloaded_error", "Overloaded"), cut=PIECE))
    error = openai(sdks, claude_gateway, "error_in_stream", model="claude-fails-503")
    assert (error["kind"], error["text"]) == (True, "So far")
    assert "Overloaded" in error["message"]


def test_openai_hangs_up(sdks: Path, claude_gateway: Gateway, claude: Scripted) -> None:
    claude.says(Says(hold=threading.Event()))
    openai(sdks, claude_gateway, "hang_up")
    assert claude.disconnected.wait(20)


def test_anthropic_json(sdks: Path, gpt_gateway: Gateway, gpt: Scripted) -> None:
    answer = anthropic(sdks, gpt_gateway, "json")
    assert (answer["text"], answer["stop_reason"], answer["calls"]) == (TEXT, "end_turn", [])
    usage = answer["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) == (500, 200, 400)
    check_row(gpt_gateway, answer["id"], "gpt-4.1-mini", (900, 200, 400), 670_000)


@CUTS
def test_anthropic_stream(sdks: Path, gpt_gateway: Gateway, gpt: Scripted, cut: int) -> None:
    gpt.says(Says(cut=cut, thinking="Hm, 日本."))
    answer = anthropic(sdks, gpt_gateway, "stream")
    assert (answer["text"], answer["thinking"], answer["stop_reason"]) == (TEXT, "Hm, 日本.", "end_turn")
    assert answer["words"] == Says().words
    usage = answer["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) == (500, 200, 400)


@pytest.mark.parametrize("scenario", ["tools", "tools_streamed"])
def test_anthropic_tools(sdks: Path, gpt_gateway: Gateway, gpt: Scripted, scenario: str) -> None:
    gpt.says(calling("openai", cut=PIECE), Says())
    answer = anthropic(sdks, gpt_gateway, scenario)
    assert answer["first"]["calls"] == [[call.id, call.name, call.arguments] for call in CALLS["openai"]]
    assert (answer["first"]["text"], answer["first"]["stop_reason"]) == ("I will look.", "tool_use")
    assert answer["second"]["text"] == TEXT
    results = [turn["tool_call_id"] for turn in gpt.last["messages"] if turn["role"] == "tool"]
    assert results == [call.id for call in CALLS["openai"]]


def test_anthropic_structured(sdks: Path, gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.says(a_person(cut=PIECE))
    assert anthropic(sdks, gpt_gateway, "structured") == [PERSON, PERSON]


def test_anthropic_errors(sdks: Path, gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.says(of_openai(429, "requests", "rate_limit_exceeded", "Slow down.", ("retry-after", "7")))
    error = anthropic(sdks, gpt_gateway, "error", model="gpt-4.1-fails-429")
    assert (error["kind"], error["status"], error["retry"]) == ("RateLimitError", 429, "7")
    assert error["type"] == "rate_limit_error"
    assert "Slow down." in error["message"]
    gpt.says(Says("So far", error=("server_error", "Went wrong"), cut=PIECE))
    error = anthropic(sdks, gpt_gateway, "error_in_stream", model="gpt-4.1-fails-503")
    assert (error["kind"], error["text"]) == (True, "So far")
    assert "Went wrong" in error["message"]


def test_anthropic_hangs_up(sdks: Path, gpt_gateway: Gateway, gpt: Scripted) -> None:
    gpt.says(Says(hold=threading.Event()))
    anthropic(sdks, gpt_gateway, "hang_up")
    assert gpt.disconnected.wait(20)
