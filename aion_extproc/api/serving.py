"""Runs an ASGI application until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from aion_extproc.leaving import leave


def serve(
    app: Any, *, socket: Path | None = None, host: str = "127.0.0.1", port: int = 0, lifespan: bool = False
) -> None:
    """Serve on the Unix socket if given, else on host:port. Never returns.

    Requests still open at SIGTERM get one second. `lifespan`: the application is told of its start and end.
    """
    # uvicorn raises the signal again when it is done; its default action would end us with a signal's status.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    uvicorn.run(
        app,
        uds=str(socket) if socket else None,
        host=host,
        port=port,
        lifespan="on" if lifespan else "off",
        access_log=False,
        log_config=None,  # as all the others
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def _exit(_number: int, _frame: FrameType | None) -> None:
    leave(0)
