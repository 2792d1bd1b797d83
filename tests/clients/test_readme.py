"""Every command in the README, run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.claude_code import MINIMAL, ask, claude_code
from tests.support.gateway import Gateway, clean_env, running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("readme"), None) as gateway:
        yield gateway


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.mark.parametrize("text", blocks("bash"), ids=lambda text: str(text).split("\n", 1)[0][:40])
def test_shell(demo: Gateway, text: str) -> None:
    text = text.replace("localhost:8080", f"localhost:{demo.port}").replace("curl ", "curl --fail-with-body -s ")
    env = clean_env() | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("text", blocks("python"), ids=lambda text: str(text).split("\n", 1)[0])
def test_python(demo: Gateway, text: str) -> None:
    text = text.replace("localhost:8080", f"localhost:{demo.port}")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_claude_code(demo: Gateway, tmp_path: Path) -> None:
    (text,) = blocks("sh")
    exports = dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))
    (prompt,) = re.findall(r'^claude -p "(.*)"$', text, re.MULTILINE)
    url = exports.pop("ANTHROPIC_BASE_URL").replace("localhost:8080", f"localhost:{demo.port}")
    assert set(exports) == {"ANTHROPIC_API_KEY", *MINIMAL}
    done = ask(claude_code(), url, tmp_path, prompt, **exports)
    assert done.returncode == 0, done
    assert "demo" in done.stdout


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: str(text).split("\n", 1)[0])
def test_each_config_is_one(tmp_path: Path, text: str) -> None:
    providers = blocks("yaml")[0].partition("auth:")[0]
    path = tmp_path / "aion.yaml"
    path.write_text(text if text.startswith("providers:") else providers + text)
    names = [*re.findall(r"\$\{(\w+)\}", text), "OPENAI_API_KEY"]
    env = clean_env() | {name: f"sk-{name}" for name in names}
    command = [sys.executable, "-m", "aion_extproc.cli", "check", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 0, done.stderr


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        file, _, anchor = target.partition("#")
        assert (ROOT / file).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


def test_the_two_commands_are_the_makefiles() -> None:
    (text,) = [text for name, text in BLOCKS if "make run" in text]
    commands = [line.split("#")[0].split() for line in text.strip().splitlines()]
    assert commands == [["make", "run"], ["make", "test"]]
    for _, target in commands:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_fresh_clone_runs_with_one_command(tmp_path: Path) -> None:
    """make run on a clone without .venv: creates it, installs, serves; SIGINT ends it."""
    from tests.support.front_door import front_door

    front_door(ROOT, tmp_path)
