"""The real Claude Code, run as `claude -p`, with nothing but chat completions behind the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.claude_code import ask, claude_code
from tests.support.gateway import Gateway, wait_for
from tests.support.says import Call, Says
from tests.support.scripted import Scripted
from tests.support.upstream import Answer

PIECE = 97
# Its own key for the reply to a forced format: a tool that it defines.
STRUCTURED = "StructuredOutput"


@pytest.fixture(scope="session")
def claude_cli() -> list[str]:
    return claude_code()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


def tool_names(body: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools", [])]


def results(body: dict[str, Any]) -> dict[str, str]:
    """What the tools said, by the id of their call."""
    return {turn["tool_call_id"]: json.dumps(turn["content"]) for turn in body["messages"] if turn["role"] == "tool"}


def until_results(first: Says, *then: Says) -> Callable[[dict[str, Any]], Says | Answer]:
    """Says `first` to a prompt; after as many rounds of tools as there are answers before it, one of `then`."""

    def reply(body: dict[str, Any]) -> Says:
        if not tool_names(body):
            return Says("a title")  # what it asks in the background
        rounds = sum(1 for turn in body["messages"] if turn.get("tool_calls"))
        return (first, *then)[rounds]

    return reply


def test_a_prompt(claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path) -> None:
    gpt.says(Says("Hello, Zoë 日本 😀.", cut=PIECE))
    before = {row.request_id for row in gpt_gateway.rows()}
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "say hello")
    assert (done.returncode, done.stdout.strip()) == (0, "Hello, Zoë 日本 😀."), done
    asked = next(body for body in gpt.bodies if tool_names(body))
    assert {"Bash", "Read", "Write"} <= set(tool_names(asked))
    assert asked["messages"][0]["role"] in ("system", "developer")
    assert "say hello" in json.dumps([turn for turn in asked["messages"] if turn["role"] == "user"][-1])
    rows = wait_for(lambda: [row for row in gpt_gateway.rows() if row.request_id not in before and row.stream])
    for row in rows:
        assert (row.outcome, row.format, row.provider, row.estimated) == ("served", "anthropic", "openai", False)


def test_what_it_makes_of_the_counts(
    claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path
) -> None:
    gpt.says(Says("Hello."))
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "say hello", "--output-format", "json")
    told = json.loads(done.stdout)
    assert (told["result"], told["is_error"]) == ("Hello.", False), done
    usage = told["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (500, 400, 200)


def test_two_tools_at_once(
    claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path, project: Path
) -> None:
    for name in ("first.txt", "second.txt"):
        (project / name).write_text(f"the text of {name}\n")
    reads = tuple(
        Call(f"call_{index}", "Read", {"file_path": str(project / name)})
        for index, name in enumerate(("first.txt", "second.txt"))
    )
    gpt.replies(until_results(Says("I read both.", reads, cut=PIECE), Says("Both read: ✓")))
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "read both files")
    assert (done.returncode, done.stdout.strip()) == (0, "Both read: ✓"), done
    said = results(gpt.last)
    assert set(said) == {"call_0", "call_1"}
    assert "the text of first.txt" in said["call_0"]
    assert "the text of second.txt" in said["call_1"]
    turn = next(turn for turn in gpt.last["messages"] if turn.get("tool_calls"))
    assert turn["content"] == "I read both."


def test_several_rounds_of_tools(
    claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path, project: Path
) -> None:
    text = 'naïve "quotes" \\ and\nlines 日本\n'
    write = Call("call_w", "Write", {"file_path": str(project / "new.txt"), "content": text})
    bash = Call("call_b", "Bash", {"command": "wc -l new.txt", "description": "Count lines"})
    wrong = Call("call_x", "Read", {"file_path": str(project / "missing.txt")})
    gpt.replies(until_results(Says("", (write,)), Says("", (bash,)), Says("Now this.", (wrong,)), Says("Done.")))
    options = ("--allowedTools", "Write,Bash,Read")
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "write a file and count its lines", *options)
    assert (done.returncode, done.stdout.strip()) == (0, "Done."), done
    assert (project / "new.txt").read_text() == text
    said = results(gpt.last)
    assert "2 new.txt" in said["call_b"]
    assert "error" in said["call_x"].lower()  # is_error has no place in a chat: its text must say so


def test_streamed_thinking(
    claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path, project: Path
) -> None:
    (project / "first.txt").write_text("one\n")
    read = Call("call_r", "Read", {"file_path": str(project / "first.txt")})
    thinks = Says("I look.", (read,), thinking="The user wants 日本, so I look first.", reasoning=20, cut=PIECE)
    gpt.replies(until_results(thinks, Says("One.", thinking="Now I know.")))
    options = ("--output-format", "stream-json", "--verbose", "--include-partial-messages", "--model", "gpt-5.4")
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "think, then read", *options)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["result"] == "One.", done
    deltas = [
        event["event"]["delta"] for event in events if event["type"] == "stream_event" and "delta" in event["event"]
    ]
    thought = "".join(delta.get("thinking", "") for delta in deltas)
    assert thought == "The user wants 日本, so I look first.Now I know."
    assert "one" in results(gpt.last)["call_r"]


def test_a_json_schema(claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path) -> None:
    person = {"name": "Zoë", "age": 41}
    properties = {"name": {"type": "string"}, "age": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["name", "age"], "additionalProperties": False}
    gpt.replies(until_results(Says("", (Call("call_s", STRUCTURED, person),)), Says("Done.")))
    options = ("--output-format", "json", "--json-schema", json.dumps(schema))
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "who is it?", *options)
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["structured_output"] == person
    tool = next(tool["function"] for tool in gpt.bodies[-1]["tools"] if tool["function"]["name"] == STRUCTURED)
    assert tool["parameters"]["properties"] == properties


def test_an_error_is_shown(claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path) -> None:
    error = {"message": "Your account is not for this.", "type": "invalid_request_error", "param": None, "code": None}
    gpt.says(Answer(status=400, chunks=[json.dumps({"error": error}).encode()]))
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "say hello")
    assert done.returncode != 0
    assert "Your account is not for this." in done.stdout + done.stderr


def test_a_conversation_goes_on(claude_cli: list[str], gpt_gateway: Gateway, gpt: Scripted, tmp_path: Path) -> None:
    gpt.says(Says("The first answer."))
    assert ask(claude_cli, gpt_gateway.url, tmp_path, "the first question").returncode == 0
    gpt.says(Says("The second answer."))
    done = ask(claude_cli, gpt_gateway.url, tmp_path, "the second question", "--continue")
    assert (done.returncode, done.stdout.strip()) == (0, "The second answer."), done
    text = json.dumps(gpt.last["messages"])
    assert text.index("the first question") < text.index("The first answer.") < text.index("the second question")
