"""What a provider is: where it lives, which APIs it speaks, how it wants its key, what its models take.

A `Kind` is what we know of a vendor or server; a `Provider` is one that the user has configured. The gateway
turns providers into Envoy clusters, the exchange into headers and a path.

How `base_url` is read (docs/configuration.md says it too). Each API has an SDK base and its endpoints below it:

    OpenAI format      <base>/chat/completions     the base ends in /v1 as the OpenAI SDK's does
    Anthropic format   <base>/v1/messages          the base has no /v1, as the Anthropic SDK's has none

- no path: the kind's own paths are used;
- a path that ends in one of the kind's bases: what stands before it is a prefix for all of the kind's paths;
- any other path is used as written, as the SDKs do.

Trailing slashes do not matter, nor does a whole endpoint pasted as the base.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.envelope import Envelope
from aion_extproc.wire.format import Format
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

Auth = Literal["bearer", "x-api-key", "api-key"]
# Who puts the credentials on a request that carries no key of ours: Envoy, with what it finds where it runs.
Signing = Literal["aws", "gcp"]

SUFFIXES: Mapping[Endpoint, str] = {
    Endpoint.CHAT: "/chat/completions",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
    Endpoint.EMBEDDINGS: "/embeddings",
    Endpoint.COMPLETIONS: "/completions",
    Endpoint.RESPONSES: "/responses",
}
# Anthropic refuses a request without it; SDKs and Claude Code always send it, a hand-written curl may not.
ANTHROPIC_VERSION = ("anthropic-version", "2023-06-01")


def below_base(endpoint: Endpoint, model: str, stream: bool) -> str:
    """The path below the SDK base, as OpenAI and Anthropic have it: the same for all models."""
    return SUFFIXES[endpoint]


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """A model offered when there is no config file. Prices come from genai-prices."""

    id: str
    tier: int


@dataclass(frozen=True, slots=True)
class Place:
    """Which part of a cloud, where the address depends on it; "" where it does not."""

    region: str = ""
    project: str = ""  # Google's project
    resource: str = ""  # Azure's name of the OpenAI resource


@dataclass(frozen=True, slots=True)
class Kind:
    """A vendor or server we know. `{region}`, `{project}` and `{resource}` in `origin` and `bases` stand for the
    provider's own."""

    name: str
    origin: str  # scheme://host[:port] of the default base_url; "" where there is none
    bases: Mapping[Format, str]  # SDK base path of every format it speaks natively
    auth: Mapping[Format, Auth]
    endpoints: frozenset[Endpoint]  # what it serves natively; one that is not known for sure is not here
    chat: Callable[[str], ChatTarget] = lambda _: ChatTarget()  # by the model's id, if it speaks chat
    messages: Callable[[str], MessagesTarget] = lambda _: MessagesTarget()  # by the model's id, if it speaks messages
    envelope: Envelope = field(default_factory=Envelope)  # of Messages bodies
    suffix: Callable[[Endpoint, str, bool], str] = below_base  # (endpoint, model, stream) → path below the base
    api_key_env: tuple[str, ...] = ()  # first one set wins
    signing: Signing | None = None  # what takes the place of a key
    place: tuple[str, ...] = ()  # fields of Place that the address or the signature needs
    place_env: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # where they are found without a file
    other_origins: Mapping[str, str] = field(default_factory=dict)  # of the regions that `origin` does not fit
    local: bool = False  # runs on the user's own machine: no key needed, always $0
    health_path: str = ""  # beside the bases: answers 200 when the server is ready; "" where nobody may ask for it
    reasoning_apart: bool = False  # its chat completions count reasoning beside completion_tokens, not as part of them
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
        return bool(self.api_key_env) and self.signing is None


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured provider. `repr` never shows the key."""

    name: str
    kind: Kind
    tls: bool
    host: str  # no brackets around IPv6
    port: int
    authority: str  # as the Host header wants it: the port only where it is not the scheme's own
    bases: Mapping[Format, str]
    region: str  # "" where the kind has none
    signing: Signing | None  # who authenticates; None: `auth_headers` do, or nobody
    _auth: Mapping[Format, tuple[tuple[str, str], ...]] = field(repr=False)

    @property
    def formats(self) -> frozenset[Format]:
        return self.kind.formats

    def path(self, endpoint: Endpoint, model: str = "", stream: bool = False) -> str:
        """The complete path of an endpoint for a model. KeyError: the provider does not serve it."""
        if endpoint not in self.kind.endpoints:
            raise KeyError(endpoint)
        return self.bases[endpoint.format] + self.kind.suffix(endpoint, model, stream)

    @property
    def health_path(self) -> str:
        """Where to ask whether the server is up; "" where it is not to be asked."""
        if not self.kind.health_path:
            return ""
        format, own = next(iter(self.kind.bases.items()))
        return self.bases[format].removesuffix(own) + self.kind.health_path

    def auth_headers(self, format: Format) -> tuple[tuple[str, str], ...]:
        """Headers that carry the key, names in lower case; empty where there is no key."""
        return self._auth[format]

    def with_key(self, api_key: str) -> Provider:
        """The same with another key. ValueError: Envoy signs for it with credentials of its own."""
        if self.signing is not None:
            raise ValueError(f"{self.name} takes no key")
        auth = {format: _auth_headers(self.kind.auth[format], api_key) for format in self.kind.bases}
        return replace(self, _auth=auth)

    def default_headers(self, format: Format) -> tuple[tuple[str, str], ...]:
        """Headers to add where the client sent none of that name."""
        return (ANTHROPIC_VERSION,) if format is Format.ANTHROPIC and not self.kind.envelope.version else ()


def configure(
    name: str, kind: Kind, base_url: str | None = None, api_key: str | None = None, place: Place | None = None
) -> Provider:
    """A provider of that kind at `base_url` (default: the kind's own).

    ValueError: the URL is not one a provider can have; the text says why and never repeats the URL.
    """
    place = place or Place()
    url = urlsplit(base_url or _located(kind.other_origins.get(place.region, kind.origin), place))
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
    own = {format: _located(base, place) for format, base in kind.bases.items()}
    return Provider(
        name=name,
        kind=kind,
        tls=tls,
        host=host,
        port=port,
        authority=bracketed if port == default_port else f"{bracketed}:{port}",
        bases=_bases(own, url.path),
        region=place.region,
        signing=None if api_key else kind.signing,
        _auth={f: _auth_headers(kind.auth[f], api_key) for f in kind.bases},
    )


def _located(template: str, place: Place) -> str:
    """The template with the place filled in."""
    return template.format(region=place.region, project=place.project, resource=place.resource)


def _auth_headers(auth: Auth, api_key: str | None) -> tuple[tuple[str, str], ...]:
    if not api_key:
        return ()
    return (("authorization", f"Bearer {api_key}"),) if auth == "bearer" else ((auth, api_key),)


def _bases(own: Mapping[Format, str], path: str) -> Mapping[Format, str]:
    """The base of each format below the URL's path, given the kind's own; the module's text says the rule."""
    path = re.sub(r"/{2,}", "/", path).rstrip("/")
    # The longest that fits: /chat/completions is not /completions below a base of /chat.
    endpoint = max((suffix for suffix in SUFFIXES.values() if path.endswith(suffix)), key=len, default="")
    path = path.removesuffix(endpoint)
    known = set(own.values())
    # A base written with a /v1 that it does not have: OpenAI's way for Anthropic's, and DeepSeek's of old.
    known |= {base + "/v1" for base in own.values()}
    for base in sorted(known - {""}, key=len, reverse=True):
        if path.endswith(base):
            return {format: path.removesuffix(base) + base_path for format, base_path in own.items()}
    if not path or any(base.startswith(path + "/") for base in known):
        return own
    return dict.fromkeys(own, path)
