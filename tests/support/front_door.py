"""`make run` in a fresh clone, as on a new machine."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import clean_env, free_ports, wait_for

INSTALL_SECONDS = 600.0


def front_door(root: Path, directory: Path) -> None:
    """Clones the committed state, runs `make run`, sends a request, stops it with Ctrl-C."""
    if not (root / ".git").exists():
        pytest.skip("LOUD: this is no git checkout, so there is nothing to clone; make run was NOT tried")
    clone = directory / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(root), str(clone)], check=True, timeout=60)
    port, admin_port = free_ports(2)
    log = directory / "make.log"
    env = {name: value for name, value in clean_env().items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "run", f"ARGS=--port {port} --admin-port {admin_port}"],
            cwd=clone,
            env=env,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that the signal below goes to make and to aion, as a terminal's does
        )
    try:
        wait_for(lambda: process.poll() is not None or "ready on" in log.read_text(), INSTALL_SECONDS)
        assert process.poll() is None, log.read_text()
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json={"model": "aion-auto", "messages": [{"role": "user", "content": "hello"}]},
        )
        assert answer.status_code == 200
        assert (clone / "data" / "aion.db").exists()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(15)
