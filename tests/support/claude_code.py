"""The real Claude Code, from npm, pointed at a gateway."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.cache import installed

PACKAGE = "@anthropic-ai/claude-code@2.1.197"
INSTALL_SECONDS = 600
RUN_SECONDS = 60

# All that a user has to set, besides a key. The README says the same. Without the second line, /model haiku and what
# Claude Code does in the background would ask for a concrete model of Anthropic's.
MINIMAL = {
    "ANTHROPIC_MODEL": "aion-auto",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "aion-auto",
}


def claude_code() -> list[str]:
    """The command, installed on first use. Skips where there is no node to run it."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"NOT TESTED WITH THE REAL CLAUDE CODE: {' and '.join(missing)} is not here")
    place = installed(f"claude-code/{PACKAGE.rsplit('@', 1)[1]}", _install)
    # Its launcher finds the native binary, which is an npm package of its own; no install script has to run for it.
    return ["node", str(place / "node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs")]


def _install(target: Path) -> None:
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(target), PACKAGE]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, f"npm could not install {PACKAGE}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def ask(
    command: list[str], url: str, home: Path, prompt: str, *options: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """`claude -p PROMPT` as somebody with an empty home directory runs it, in `home`/project.

    Nothing of this environment goes along, for it may hold the keys and settings of who runs the tests.
    """
    project = home / "project"
    project.mkdir(parents=True, exist_ok=True)
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "a-key-of-the-client",
        # Not for the gateway: the test must not call home.
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        **MINIMAL,
        **env,
    }
    arguments = [*command, "-p", prompt, *options]
    with subprocess.Popen(
        arguments,
        cwd=project,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # the launcher alone would leave the program behind
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
