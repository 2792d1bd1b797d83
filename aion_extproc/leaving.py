"""How our processes end."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End at once, for a process whose work is written and closed.

    Taking a hundred thousand objects apart is half a second that Ctrl-C would wait for, several times over.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
