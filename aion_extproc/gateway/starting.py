"""What a start can fail at, and how to see that something is up."""

from __future__ import annotations

import http.client
import socket
from urllib.request import urlopen


class StartError(Exception):
    """The gateway could not start; the text says why and what to do."""


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_free(host: str, port: int, key: str) -> None:
    """StartError if somebody listens there: Envoy shares a port that it finds taken (SO_REUSEPORT), and half of the
    requests would go astray."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"{key}: cannot listen on {host}:{port}: {error.strerror}") from None


def http_ok(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False
