"""The headers of a request as a provider gets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aion_extproc.extproc.outgoing import Outgoing
from aion_extproc.extproc.replies import Headers
from aion_extproc.providers import Provider
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

# What a client sends for us or for its own account, and what says who it is: none of it is the provider's business.
_PRIVATE_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-admin-secret",
        "cookie",
        "x-tenant-id",
        "openai-organization",
        "openai-project",
        "forwarded",
        "x-forwarded-host",
        "x-real-ip",
    }
)
# The clouds' own: they would be signed together with what a cloud's key signs, or name who pays.
_PRIVATE_PREFIXES: tuple[str, ...] = ("x-aion-", "x-envoy-", "x-amz-", "x-goog-")
ANTHROPIC_PREFIX = "anthropic-"  # -version, -beta, -dangerous-direct-browser-access: nothing to other providers


def upstream_headers(
    sent: Outgoing, model: str, provider: Provider, stream: bool, query: str, client: Mapping[str, str]
) -> Headers:
    """What to set. `query`: of the client's path, with its "?"; `client`: its own headers."""
    headers = [
        (":authority", provider.authority),
        (":path", provider.path(sent.endpoint, model, stream) + query),
        (":scheme", "https" if provider.tls else "http"),
        # curl -d sends another one, and some servers then do not read the body.
        ("content-type", "application/json"),
        # Usage is read from the answer on its way back: it must not come compressed.
        ("accept-encoding", "identity"),
        *provider.auth_headers(sent.endpoint.format),
    ]
    for name, value in provider.default_headers(sent.endpoint.format):
        if name not in client:
            headers.append((name, value))
    return tuple(headers)


def private_headers(names: Iterable[str], provider: Provider, endpoint: Endpoint) -> tuple[str, ...]:
    """Those of these names that the provider must not get from the client, or from an attempt before."""
    envelope = provider.kind.envelope
    private, prefixes = _PRIVATE_HEADERS, _PRIVATE_PREFIXES
    # A cloud wants in the body what Anthropic wants in these headers.
    if endpoint.format is not Format.ANTHROPIC or envelope.beta_in_body:
        prefixes = (*prefixes, ANTHROPIC_PREFIX)
    elif envelope.version:
        private |= {"anthropic-version"}
    return tuple(name for name in names if name in private or name.startswith(prefixes))


def listed(header: str) -> tuple[str, ...]:
    """The values of a header that lists them with commas."""
    return tuple(filter(None, map(str.strip, header.split(","))))
