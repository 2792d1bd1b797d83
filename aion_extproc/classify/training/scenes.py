"""Labelled agentic turns (`turns.jsonl`), and the request in which a client would send each of them.

A turn's words alone are not what the classifier sees: around them are system prompts, tools, reminders and a
session's tool calls. `body` puts them there, so that training and measuring read what the service reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from aion_extproc.classify.tasks import TASKS
from aion_extproc.classify.training import scene_texts as texts
from aion_extproc.wire.format import Format

Body = dict[str, Any]
Messages = list[dict[str, Any]]
ToolRow = tuple[str, str, str]

KINDS: Final = (
    *("file_read", "search", "test_run", "shell", "git", "lint_fix", "typo", "rename", "one_line_edit"),
    *("logic_edit", "new_function", "unit_test", "explain_code", "debug_trace", "review", "docs", "refactor"),
    *("migration", "design", "feature", "root_cause", "confirmation", "small_talk", "status", "knowledge"),
)
SCENES: Final = ("bare", "chat", "claude_code", "codex", "cursor", "long_session")
TIERS: Final = (1, 2, 3)
MODEL: Final = "aion-auto"


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's turn and its labels. `proposal` is the assistant's text just before it, or "". Raises ValueError for
    an unknown kind, tier, task or scene, and for empty words."""

    id: str
    kind: str
    tier: int
    task: str
    lang: str  # ISO 639-1
    scene: str
    said: str
    proposal: str = ""

    def __post_init__(self) -> None:
        allowed: tuple[tuple[str, object, Sequence[object]], ...] = (
            ("kind", self.kind, KINDS),
            ("tier", self.tier, TIERS),
            ("task", self.task, TASKS),
            ("scene", self.scene, SCENES),
        )
        for name, value, known in allowed:
            if value not in known or isinstance(value, bool):
                raise ValueError(f"unknown {name} {value!r}")
        if not self.said.strip():
            raise ValueError("nothing said")


def load(path: Path) -> list[Turn]:
    """The turns of a JSON Lines file, in its order. Raises ValueError that names the file and the line at fault."""
    turns = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line:
            try:
                turns.append(Turn(**json.loads(line)))
            except (TypeError, ValueError) as error:  # a JSONDecodeError is a ValueError
                raise ValueError(f"{path.name}, line {number}: {error}") from error
    return turns


def body(turn: Turn, seed: int) -> tuple[Format, Body]:
    """The turn as its client sends it. The same turn and seed give the same body."""
    return scene_body(turn.scene, turn.said, turn.proposal, at_work=turn.task == "agentic", key=f"{turn.id}/{seed}")


def scene_body(scene: str, said: str, proposal: str = "", *, at_work: bool, key: str) -> tuple[Format, Body]:
    """Any words in a scene; `said` is the last user turn that has text. `at_work`: the agent may have begun on it,
    then tool calls and their results follow the words, as in every request of a turn but the first. `key` decides
    what is chance. Raises KeyError for an unknown scene."""
    return _SCENES[scene](said, proposal, at_work, Random(key))


def _bare(said: str, proposal: str, at_work: bool, rng: Random) -> tuple[Format, Body]:
    before: Messages = []
    if proposal:
        before = [_message("user", rng.choice(texts.EARLIER)), _message("assistant", proposal)]
    return Format.OPENAI, {"model": MODEL, "messages": [*before, _message("user", said)]}


def _chat(said: str, proposal: str, at_work: bool, rng: Random) -> tuple[Format, Body]:
    messages = [_message("system", rng.choice(texts.CHAT_SYSTEMS))]
    for asked, answered in rng.sample(texts.CHAT_OPENINGS, rng.randint(1, 2)):
        messages += [_message("user", asked), _message("assistant", answered)]
    if proposal:
        messages += [_message("user", rng.choice(texts.EARLIER)), _message("assistant", proposal)]
    return Format.OPENAI, {
        "model": MODEL,
        "messages": [*messages, _message("user", said)],
        "stream": rng.random() < 0.5,
    }


def _claude_code(
    said: str, proposal: str, at_work: bool, rng: Random, rounds: tuple[int, int] = (0, 4)
) -> tuple[Format, Body]:
    tools = rng.sample(texts.TOOLS, rng.randint(12, len(texts.TOOLS)))
    reminder = _reminder(texts.REMINDERS[0])
    messages: Messages = []
    before = rng.randint(*rounds) if rng.random() < 0.7 or rounds[0] or proposal else 0
    if before or proposal:
        messages.append(_parts("user", reminder, rng.choice(texts.EARLIER)))
        messages += _anthropic_rounds(before, rng)
        messages.append(_message("assistant", proposal or rng.choice(texts.DONE)))
        final = _parts("user", said)
        if rng.random() < 0.5:
            final["content"].insert(0, _part(_reminder(rng.choice(texts.REMINDERS[1:]))))
    else:
        final = _parts("user", reminder, said)
    messages.append(final)
    if rng.random() < 0.4:  # newer versions send part of their instructions as a message
        messages.insert(1, _message("system", "\n\n".join(rng.sample(texts.AGENT_RULES, 4))))
    if at_work and rng.random() < 0.3:
        messages += _anthropic_rounds(rng.randint(1, 3), rng)
    rules = list(texts.AGENT_RULES)
    rng.shuffle(rules)
    system = [
        _part("You are a coding agent that runs in a terminal."),
        _part("\n\n".join([*rules, _environment(rng)])) | {"cache_control": {"type": "ephemeral"}},
    ]
    return Format.ANTHROPIC, {
        "model": MODEL,
        "max_tokens": 32_000,
        "system": system,
        "messages": messages,
        "tools": [_anthropic_tool(row) for row in tools],
        "stream": True,
    }


def _codex(said: str, proposal: str, at_work: bool, rng: Random) -> tuple[Format, Body]:
    rules = "\n\n".join(rng.sample(texts.AGENT_RULES, 8))
    messages = [
        _message("developer", f"You are a coding agent in a sandboxed shell.\n\n{rules}"),
        _message("user", f"<environment_context>\n{_environment(rng)}\n</environment_context>"),
    ]
    return _openai_agent(messages, texts.CODEX_TOOLS, said, proposal, at_work, rng, (0, 4))


def _cursor(said: str, proposal: str, at_work: bool, rng: Random) -> tuple[Format, Body]:
    rules = "\n\n".join(rng.sample(texts.AGENT_RULES, 7))
    opened = "\n".join(f"- {path}" for path in rng.sample(texts.FILES, 3))
    messages = [
        _message("system", f"You assist a programmer inside an editor. You see what the editor shows.\n\n{rules}"),
        _message("user", f"<additional_data>\nOpen files:\n{opened}\n{rng.choice(texts.RESULTS)}</additional_data>"),
    ]
    return _openai_agent(messages, texts.CURSOR_TOOLS, said, proposal, at_work, rng, (0, 3))


def _long_session(said: str, proposal: str, at_work: bool, rng: Random) -> tuple[Format, Body]:
    """40 to 120 earlier turns, in either format."""
    rounds = (20, 58)
    if rng.random() < 0.5:
        return _claude_code(said, proposal, at_work, rng, rounds)
    start = [_message("system", "\n\n".join(rng.sample(texts.AGENT_RULES, 9)))]
    return _openai_agent(start, texts.CODEX_TOOLS, said, proposal, at_work, rng, rounds)


def _openai_agent(
    start: Messages,
    tools: Sequence[ToolRow],
    said: str,
    proposal: str,
    at_work: bool,
    rng: Random,
    rounds: tuple[int, int],
) -> tuple[Format, Body]:
    messages = list(start)
    before = rng.randint(*rounds)
    if before or proposal:
        messages.append(_message("user", rng.choice(texts.EARLIER)))
        messages += _openai_rounds(before, tools, rng)
        messages.append(_message("assistant", proposal or rng.choice(texts.DONE)))
    messages.append(_message("user", said))
    if at_work and rng.random() < 0.3:
        messages += _openai_rounds(rng.randint(1, 3), tools, rng)
    body: Body = {"model": MODEL, "messages": messages, "tools": [_openai_tool(row) for row in tools], "stream": True}
    return Format.OPENAI, body


def _anthropic_rounds(count: int, rng: Random) -> Messages:
    """`count` calls and their results: two messages each."""
    messages: Messages = []
    for index in range(count):
        name, arguments, result = _call(rng, ("Read", "Bash", "Grep", "Edit"))
        call_id = f"toolu_{rng.getrandbits(64):016x}"
        said = [_part(rng.choice(texts.NARRATION))] if rng.random() < 0.5 else []
        use = {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        answer: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id, "content": result}
        messages.append({"role": "assistant", "content": [*said, use]})
        reminder = [_part(_reminder(rng.choice(texts.REMINDERS[1:])))] if index % 7 == 6 else []
        messages.append({"role": "user", "content": [answer, *reminder]})
    return messages


def _openai_rounds(count: int, tools: Sequence[ToolRow], rng: Random) -> Messages:
    messages: Messages = []
    for _ in range(count):
        name, arguments, result = _call(rng, [row[0] for row in tools[:4]])
        call_id = f"call_{rng.getrandbits(64):016x}"
        function = {"name": name, "arguments": json.dumps(arguments)}
        said = rng.choice(texts.NARRATION) if rng.random() < 0.4 else None
        call = {"id": call_id, "type": "function", "function": function}
        messages.append({"role": "assistant", "content": said, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call_id, "content": result})
    return messages


def _call(rng: Random, names: Sequence[str]) -> tuple[str, dict[str, str], str]:
    """A tool's name, its arguments and its result, of 0.1 to about 3 kB."""
    name = rng.choice(names)
    shell = name in ("Bash", "shell", "run_terminal_cmd")
    arguments = {"command": rng.choice(texts.COMMANDS)} if shell else {"file_path": rng.choice(texts.FILES)}
    return name, arguments, rng.choice(texts.RESULTS) * rng.randint(1, 8)


def _environment(rng: Random) -> str:
    name = rng.choice(("shop", "billing", "atlas", "ledger", "portal"))
    branch = rng.choice(("main", "feature/export", "fix/rounding", "refactor-mailer"))
    return f"# Environment\nworking directory: /home/dev/{name}\nplatform: linux\nbranch: {branch}"


def _reminder(text: str) -> str:
    return f"<system-reminder>\n{text}\n</system-reminder>"


def _part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _parts(role: str, *said: str) -> dict[str, Any]:
    return {"role": role, "content": [_part(text) for text in said]}


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _schema(parameters: str) -> dict[str, Any]:
    names = parameters.split()
    return {
        "type": "object",
        "properties": {name.rstrip("?"): {"type": "string"} for name in names},
        "required": [name for name in names if not name.endswith("?")],
        "additionalProperties": False,
    }


def _anthropic_tool(row: ToolRow) -> dict[str, Any]:
    name, description, parameters = row
    return {"name": name, "description": description, "input_schema": _schema(parameters)}


def _openai_tool(row: ToolRow) -> dict[str, Any]:
    name, description, parameters = row
    function = {"name": name, "description": description, "parameters": _schema(parameters)}
    return {"type": "function", "function": function}


_SCENES: Final[dict[str, Callable[[str, str, bool, Random], tuple[Format, Body]]]] = {
    "bare": _bare,
    "chat": _chat,
    "claude_code": _claude_code,
    "codex": _codex,
    "cursor": _cursor,
    "long_session": _long_session,
}
