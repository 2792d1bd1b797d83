"""Which of the two stores of shared state a configuration wants."""

from __future__ import annotations

from pathlib import Path

from aion_extproc.config.access import State as StateSettings
from aion_extproc.stores.state_local import LocalState
from aion_extproc.stores.state_redis import RedisState


def open_state(settings: StateSettings, directory: Path) -> LocalState | RedisState:
    """`directory`: of the file for one machine. StateError: the URL cannot be read."""
    if settings.redis_url is None:
        return LocalState(directory, settings.reservation_timeout)
    url = settings.redis_url.get_secret_value()
    return RedisState(url, settings.timeout, settings.reservation_timeout)
