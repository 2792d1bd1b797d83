"""What the session's agent works with: its tools, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final, NamedTuple

from aion_extproc.bench.wording import filled, lines, snippets


class Call(NamedTuple):
    """A tool call and its result."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    result: str


_PATH = ("string", "absolute path")
# name → what it does, and its parameters with type and description.
TOOLS: Final[Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]]] = {
    "Read": (
        "Reads a file. Lines are numbered as cat -n does it. At most 2000 lines are returned; give offset and limit "
        "for the rest. Images are shown to you. Directories cannot be read: list them with Glob.",
        {"file_path": _PATH, "offset": ("integer", "first line"), "limit": ("integer", "number of lines")},
    ),
    "Edit": (
        "Replaces old_string by new_string in a file that was read before. old_string must occur exactly once, with "
        "its indentation, unless replace_all is set. The line numbers that Read puts in front are not part of it.",
        {
            "file_path": _PATH,
            "old_string": ("string", "the text to replace"),
            "new_string": ("string", "what takes its place"),
            "replace_all": ("boolean", "every occurrence"),
        },
    ),
    "Write": (
        "Writes a file and overwrites what was there. Use Edit for files that exist. Never write documentation that "
        "nobody asked for.",
        {"file_path": _PATH, "content": ("string", "all of it")},
    ),
    "Bash": (
        "Runs a command in a shell that lives as long as the session. Output above 30000 characters is cut. Do not use "
        "it to read, search or edit files. Say in a few words what the command does.",
        {
            "command": ("string", "the command"),
            "description": ("string", "five to ten words"),
            "timeout": ("integer", "milliseconds, at most 600000"),
            "run_in_background": ("boolean", "do not wait for it"),
        },
    ),
    "Grep": (
        "Searches file contents by regular expression. Modes: the lines, only the files' names, or counts.",
        {
            "pattern": ("string", "regular expression"),
            "path": ("string", "where; the checkout by default"),
            "glob": ("string", "only files like *.py"),
            "output_mode": ("string", "content, files_with_matches or count"),
        },
    ),
    "Glob": (
        "Finds files by a pattern such as src/**/*.ts, the last changed first.",
        {"pattern": ("string", "the pattern"), "path": ("string", "where")},
    ),
    "TodoWrite": (
        "Keeps the list of what is to do. Use it for work of three steps or more, not for a single simple step. "
        "Exactly one item is in progress.",
        {"todos": ("string", "JSON: a list of content and status")},
    ),
    "WebFetch": (
        "Fetches a page and answers a question about it. Pages of hosts that need a login cannot be read.",
        {"url": ("string", "https only"), "prompt": ("string", "what to look for")},
    ),
    "Task": (
        "Starts another agent for work that can be described in full. It cannot ask back; it answers once.",
        {"description": ("string", "three to five words"), "prompt": ("string", "all that it has to know")},
    ),
}


def call(kind: str, place: int, rng: Random) -> Call:
    """The `place`-th call of a task of that kind, from 0 on."""
    name, arguments, result = _MAKERS[_PLANS[kind][place % len(_PLANS[kind])]](rng)
    return Call(f"toolu_{rng.getrandbits(64):016x}", name, arguments, result)


def tree(rng: Random, files: int) -> str:
    """The listing of a checkout."""
    return "\n".join(sorted(filled("src/{package}/{function}_{number}.py", rng) for _ in range(files)))


def _source(rng: Random, count: int) -> str:
    return "\n".join(filled(line, rng) for line in rng.choices(lines("session_files"), k=count))


def _path(rng: Random) -> str:
    return "/home/dev/shop/" + filled(rng.choice(("{file}", "{py_file}")), rng)


Made = tuple[str, dict[str, Any], str]


def _read(rng: Random) -> Made:
    source = _source(rng, rng.randint(60, 420)).splitlines()
    shown = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(source, 1))
    return "Read", {"file_path": _path(rng)}, shown


def _edit(rng: Random) -> Made:
    path, old, new = _path(rng), _source(rng, rng.randint(1, 3)), _source(rng, rng.randint(1, 4))
    shown = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(new.splitlines(), 40))
    result = f"The file {path} has been updated. Here is the part around the edit:\n{shown}"
    return "Edit", {"file_path": path, "old_string": old, "new_string": new}, result


def _large_edit(rng: Random) -> Made:
    path, new = _path(rng), _source(rng, rng.randint(25, 70))
    return "Write", {"file_path": path, "content": new}, f"The file {path} has been written."


def _tests(rng: Random) -> Made:
    passed = rng.randint(20, 400)
    dots = "\n".join(f"tests/test_{filled('{function}', rng)}.py {'.' * rng.randint(3, 40)}" for _ in range(12))
    failure = rng.choice(snippets("trace")) if rng.random() < 0.25 else ""
    result = f"{dots}\n{failure}\n{passed} passed in {rng.randint(1, 40)}.{rng.randint(0, 99):02}s"
    return "Bash", {"command": "pytest -q", "description": "Run the tests"}, result


def _lint(rng: Random) -> Made:
    found, rules = rng.randint(0, 9), ("F401 unused import", "E501 too long", "B006 mutable default")
    shown = "\n".join(
        f"{_path(rng)}:{rng.randint(1, 300)}:{rng.randint(1, 80)}: {rng.choice(rules)}" for _ in range(found)
    )
    result = f"{shown}\nFound {found} errors."
    return "Bash", {"command": "ruff check .", "description": "Run the linter"}, result


def _grep(rng: Random) -> Made:
    pattern = filled("{function}", rng)
    shown = "\n".join(f"{_path(rng)}:{rng.randint(1, 400)}:{_source(rng, 1)}" for _ in range(rng.randint(2, 25)))
    return "Grep", {"pattern": pattern, "output_mode": "content"}, shown


def _git(rng: Random) -> Made:
    command = rng.choice(("git status --short", "git diff", "git log -1 --stat", "git commit -am 'Update'"))
    result = rng.choice(snippets("diff")) if command == "git diff" else " M " + _path(rng)
    return "Bash", {"command": command, "description": "Ask git"}, result


_MAKERS = {
    "read": _read, "edit": _edit, "large edit": _large_edit, "tests": _tests, "lint": _lint, "grep": _grep, "git": _git
}  # fmt: skip
# What is called for each kind of task, in this order and again from the beginning.
_PLANS: Final[Mapping[str, tuple[str, ...]]] = {
    "file_read": ("read",),
    "search": ("grep",),
    "test_run": ("tests",),
    "lint_fix": ("lint", "edit"),
    "one_line_edit": ("edit", "read"),
    "git": ("git",),
    "small_talk": ("git",),
    "bounded_edit": ("read", "edit", "tests"),
    "unit_test": ("read", "edit", "tests"),
    "debug": ("read", "grep", "edit", "tests"),
    "explain": ("read", "grep"),
    "review": ("git", "read"),
    "wide": ("grep", "read", "large edit", "edit", "read", "large edit", "tests", "edit"),
}
