"""What Envoy says of how an exchange with a provider ended, in our own codes."""

from __future__ import annotations

# Envoy's flag, as the access log and as %RESPONSE_FLAGS% name it → our code. A flag is set by Envoy itself, never for a
# status that the provider sent.
FLAGS = (
    ("upstream_connection_failure", "UF", "connect_failed"),
    ("dns_resolution_failure", "DF", "dns_failed"),
    ("no_healthy_upstream", "UH", "no_healthy_upstream"),
    ("upstream_connection_termination", "UC", "upstream_closed"),
    ("upstream_remote_reset", "UR", "upstream_reset"),
    ("upstream_protocol_error", "UPE", "upstream_protocol_error"),
    ("upstream_request_timeout", "UT", "upstream_timeout"),
    ("stream_idle_timeout", "SI", "idle_timeout"),
    ("upstream_overflow", "UO", "overflow"),
)
WORKER_LOST = "worker_lost"
DETAILS_PREFIX = "aion_"  # of our own refusals
_BY_FLAG = {flag: code for _, flag, code in FLAGS}


def how_it_ended(told: str) -> tuple[str, bool]:
    """Of `%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%`: our code, "" where a provider answered, and whether it is no
    provider's doing but ours."""
    flags, _, details = told.partition(" ")
    if details.startswith(DETAILS_PREFIX):
        return details.removeprefix(DETAILS_PREFIX), True
    if details.startswith("ext_proc"):
        return WORKER_LOST, True
    return next((_BY_FLAG[flag] for flag in flags.split(",") if flag in _BY_FLAG), ""), False
