"""What a provider is: where it lives, which chat APIs it speaks and how it wants its key.

A `Kind` is what we know of a vendor or server; a `Provider` is one that the user has configured. Both are
data: the gateway turns them into Envoy clusters, the exchange into headers and a path.

How `base_url` is read (docs/configuration.md says it too). Each API has an SDK base and an endpoint below it:

    OpenAI format      <base>/chat/completions     the base ends in /v1 as the OpenAI SDK's does
    Anthropic format   <base>/v1/messages          the base has no /v1, as the Anthropic SDK's has none

- no path: the kind's own paths are used;
- a path that ends in one of the kind's bases: what stands before it is a prefix for all of the kind's paths;
- any other path is used as written, as the SDKs do.

Trailing slashes do not matter, nor does a whole endpoint pasted as the base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from aion_extproc.wire.format import Format

Auth = Literal["bearer", "x-api-key"]

ENDPOINTS: Mapping[Format, str] = {
    Format.OPENAI: "/chat/completions",
    Format.ANTHROPIC: "/v1/messages",
}
# Anthropic refuses a request without it; SDKs and Claude Code always send it, a hand-written curl may not.
ANTHROPIC_VERSION = ("anthropic-version", "2023-06-01")


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """A model offered when there is no config file. Prices come from genai-prices."""

    id: str
    tier: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A vendor or server we know."""

    name: str
    origin: str  # scheme://host[:port] of the default base_url; "" where there is none
    bases: Mapping[Format, str]  # SDK base path of every format it speaks natively
    auth: Mapping[Format, Auth]
    api_key_env: tuple[str, ...] = ()  # first one set wins
    local: bool = False  # runs on the user's own machine: no key needed, always $0
    price_provider: str | None = None  # id in genai-prices; None: nobody publishes a price
    default_models: tuple[DefaultModel, ...] = ()

    @property
    def base_url(self) -> str:
        """The default base_url, as the SDK of its first format wants it."""
        return self.origin + next(iter(self.bases.values()))

    @property
    def formats(self) -> frozenset[Format]:
        return frozenset(self.bases)

    @property
    def needs_key(self) -> bool:
        return bool(self.api_key_env)


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured provider. `repr` never shows the key."""

    name: str
    kind: Kind
    tls: bool
    host: str  # no brackets around IPv6
    port: int
    authority: str  # as the Host header wants it: the port only where it is not the scheme's own
    paths: Mapping[Format, str]
    _auth: Mapping[Format, tuple[tuple[str, str], ...]] = field(repr=False)

    @property
    def formats(self) -> frozenset[Format]:
        return self.kind.formats

    def path(self, format: Format) -> str:
        """The complete path of the chat endpoint. KeyError: the provider does not speak the format."""
        return self.paths[format]

    def auth_headers(self, format: Format) -> tuple[tuple[str, str], ...]:
        """Headers that carry the key, names in lower case; empty where there is no key."""
        return self._auth[format]

    def default_headers(self, format: Format) -> tuple[tuple[str, str], ...]:
        """Headers to add where the client sent none of that name."""
        return (ANTHROPIC_VERSION,) if format is Format.ANTHROPIC else ()


def configure(name: str, kind: Kind, base_url: str | None = None, api_key: str | None = None) -> Provider:
    """A provider of that kind at `base_url` (default: the kind's own).

    ValueError: the URL is not one a provider can have; the text says why and never repeats the URL.
    """
    url = urlsplit(base_url or kind.base_url)
    if url.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if url.username is not None or url.password is not None:
        raise ValueError("must not carry a user or password; use api_key")
    if url.query or url.fragment:
        raise ValueError("must not have a query or a fragment")
    if not url.hostname:
        raise ValueError("has no host")
    if not re.fullmatch(r"[!-~]*", url.netloc + url.path):
        raise ValueError("must be plain ASCII without spaces")
    tls = url.scheme == "https"
    default_port = 443 if tls else 80
    try:
        port = url.port or default_port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None
    host = url.hostname
    bracketed = f"[{host}]" if ":" in host else host
    return Provider(
        name=name,
        kind=kind,
        tls=tls,
        host=host,
        port=port,
        authority=bracketed if port == default_port else f"{bracketed}:{port}",
        paths=_paths(kind, url.path),
        _auth={f: _auth_headers(kind.auth[f], api_key) for f in kind.bases},
    )


def _auth_headers(auth: Auth, api_key: str | None) -> tuple[tuple[str, str], ...]:
    if not api_key:
        return ()
    return (("authorization", f"Bearer {api_key}"),) if auth == "bearer" else (("x-api-key", api_key),)


def _paths(kind: Kind, path: str) -> Mapping[Format, str]:
    """Complete paths by format; the module's text says the rule."""
    path = re.sub(r"/{2,}", "/", path).rstrip("/")
    for endpoint in ENDPOINTS.values():
        path = path.removesuffix(endpoint) if path.endswith(endpoint) else path
    known = set(kind.bases.values())
    # An Anthropic base written the OpenAI way, with its /v1.
    known |= {base + "/v1" for format, base in kind.bases.items() if format is Format.ANTHROPIC}
    for base in sorted(known - {""}, key=len, reverse=True):
        if path.endswith(base):
            return _below(kind, path.removesuffix(base))
    if not path or any(base.startswith(path + "/") for base in known):
        return _below(kind, "")
    return {format: path + ENDPOINTS[format] for format in kind.bases}


def _below(kind: Kind, prefix: str) -> Mapping[Format, str]:
    return {format: prefix + base + ENDPOINTS[format] for format, base in kind.bases.items()}
