"""What programs that are not ours find in their environment: all but our secrets, which no dump of theirs may have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from aion_extproc.config.schema import Settings
from aion_extproc.stores.secrets import MASTER_KEY, OLD_MASTER_KEYS

# Credentials with which Envoy itself signs, and where they are found.
_CLOUDS = ("AWS_", "GOOGLE_", "GCE_")
_SHORTEST_PART = 8  # of a secret; what is shorter may be in one by chance


def without_master_keys(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in (MASTER_KEY, OLD_MASTER_KEYS)}


def without_secrets(settings: Settings, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Without the variables, too, that a secret of the settings is made of."""
    secrets = set(_secrets(settings.model_dump()))

    def told(name: str, value: str) -> bool:
        if name.startswith(_CLOUDS):
            return True
        return value not in secrets and not (
            len(value) >= _SHORTEST_PART and any(value in secret for secret in secrets)
        )

    return {name: value for name, value in without_master_keys(env).items() if told(name, value)}


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        yield text
        try:
            password = urlsplit(text).password
        except ValueError:  # no URL
            return
        if password:
            yield from (password, unquote(password))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _secrets(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _secrets(one)
