"""Runs the commands of docs/benchmarks.md again and writes what they print into it: `python -m benchmarks.documented`.

A block of code there that begins with "$ aion bench" holds a command and what it printed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_BLOCK = re.compile(r"^```\n\$ aion (bench [^\n]*)\n.*?^```$", re.MULTILINE | re.DOTALL)


def _again(found: re.Match[str]) -> str:
    command = found[1]
    print(f"aion {command}", file=sys.stderr)
    run = [sys.executable, "-m", "aion_extproc.cli", *shlex.split(command)]
    with tempfile.TemporaryDirectory() as empty:  # no aion.yaml is there
        printed = subprocess.run(run, cwd=empty, capture_output=True, text=True, check=True).stdout
    lines = "\n".join(line.rstrip() for line in printed.rstrip().splitlines())
    return f"```\n$ aion {command}\n{lines}\n```"


if __name__ == "__main__":
    PAGE.write_text(_BLOCK.sub(_again, PAGE.read_text("utf-8")), "utf-8")
