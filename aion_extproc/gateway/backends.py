"""The model servers that the gateway starts itself: the demo, and llama-servers."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from aion_extproc.config.schema import Managed, Settings
from aion_extproc.gateway.child import Child
from aion_extproc.gateway.environment import without_secrets
from aion_extproc.gateway.starting import StartError, check_free


@dataclass(frozen=True, slots=True)
class Backend:
    """`ready_url` answers 200 when it can serve, which may take `ready_seconds`; "": nobody waits for it."""

    child: Child
    ready_url: str = ""
    ready_seconds: float = 0.0


def backends(settings: Settings, demo_port: int | None) -> list[Backend]:
    """Those that the settings ask for, not started yet. StartError: one cannot be."""
    found, env = [], without_secrets(settings)
    if demo_port is not None:
        command = [sys.executable, "-m", "aion_extproc.demo.upstream", "--port", str(demo_port)]
        found.append(Backend(Child("demo", command, env=env)))
    for name, provider in settings.enabled_providers.items():
        managed = provider.managed
        if managed is not None:
            command = _llama_command(name, managed, provider.models[0].id)
            child = Child(f"llama-server of {name}", command, env=env)
            found.append(Backend(child, f"http://127.0.0.1:{managed.port}/health", managed.ready_timeout))
    return found


def _llama_command(name: str, managed: Managed, alias: str) -> list[str]:
    where = f"providers.{name}.managed"
    binary = shutil.which(managed.binary_path)
    if binary is None:
        raise StartError(f"{where}.binary_path: there is no program {managed.binary_path}")
    if not Path(managed.model_path).is_file():
        raise StartError(f"{where}.model_path: there is no file {managed.model_path}")
    check_free("127.0.0.1", managed.port, f"{where}.port")
    command = [binary, "-m", managed.model_path, "--host", "127.0.0.1", "--port", str(managed.port)]
    command += ["-c", str(managed.ctx_size), "--alias", alias]
    return command if managed.threads is None else [*command, "-t", str(managed.threads)]
