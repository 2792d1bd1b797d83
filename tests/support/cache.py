"""Programs that some tests run and the product does not need: installed once, outside the checkout."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def installed(name: str, install: Callable[[Path], None]) -> Path:
    """The cache directory `name`, filled by `install` when it is not there yet.

    Two runs at the same time install it once, and one that is broken off leaves nothing behind that looks whole.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aion-extproc"
    place = root / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=place.parent))
            try:
                install(unfinished)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return place
