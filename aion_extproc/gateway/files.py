"""The files through which Envoy and the API process are told of changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Files:
    """What Envoy reads as it runs, and again whenever a file is replaced."""

    directory: Path

    @property
    def listeners(self) -> Path:
        return self.directory / "listeners.json"

    @property
    def routes(self) -> Path:
        return self.directory / "routes.json"

    @property
    def clusters(self) -> Path:
        return self.directory / "clusters.json"

    @property
    def workers(self) -> Path:
        return self.directory / "workers.json"

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger.json"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, for it is read as soon as the name changes hands; readable for nobody else."""
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(content))
    temporary.rename(path)
