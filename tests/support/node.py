"""The official SDKs for Node, from npm, and how a test runs a script that uses them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.cache import installed

PACKAGES = ("openai@7.57.0", "@anthropic-ai/sdk@1.12.0", "zod@4.6.7")
INSTALL_SECONDS = 600
RUN_SECONDS = 60


def node_sdks() -> Path:
    """A directory with node_modules, filled on first use. Skips where there is no node."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"NOT TESTED WITH THE SDKS FOR NODE: {' and '.join(missing)} is not here")
    return installed("node-sdks/" + "-".join(package.rsplit("@", 1)[1] for package in PACKAGES), _install)


def _install(target: Path) -> None:
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(target), *PACKAGES]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, f"npm could not install {PACKAGES}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def run(sdks: Path, script: Path, **arguments: Any) -> Any:
    """What the script printed, as JSON. It gets `arguments` as JSON in its first argument.

    A module is looked for beside the script that imports it, so the script runs from a copy beside node_modules.
    Nothing of this environment goes along: it may hold keys.
    """
    copy = sdks / f"{script.stem}-{os.getpid()}.mjs"
    copy.write_bytes(script.read_bytes())
    try:
        done = subprocess.run(
            ["node", str(copy), json.dumps(arguments)],
            env={"PATH": os.environ["PATH"], "HOME": str(sdks)},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
    finally:
        copy.unlink()
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)
