"""What Envoy says on its standard error, without what it says of the requests that it was working on when it crashed:
their headers have the providers' keys in them, and its buffers what clients wrote."""

from __future__ import annotations

import re

_LOGGED = re.compile(rb"\[[0-9]{4}-[0-9]{2}-[0-9]{2} ")
_CRASH = b"[critical][backtrace]"
_LEFT_OUT = b"(What Envoy was working on is left out: it has keys and prompts in it.)\n"


class EnvoyLog:
    """One life of an Envoy: a line in, what may be shown of it out."""

    def __init__(self) -> None:
        self._crashed = False
        self._said = False

    def line(self, line: bytes) -> bytes:
        if _LOGGED.match(line):
            self._crashed = self._crashed or _CRASH in line
            return line
        if not self._crashed:  # it could not start, and says why
            return line
        if self._said:
            return b""
        self._said = True
        return _LEFT_OUT
