"""What an exchange can answer to Envoy, free of gRPC's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aion_extproc.accounting.holds import Hold

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Proceed:
    """Send the request on: to these clusters in order (none: where it is going), with these headers and this body."""

    set_headers: Headers = field(repr=False)  # a provider's key among them
    remove_headers: tuple[str, ...]
    body: bytes = field(repr=False)
    clusters: tuple[str, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the client ourselves."""

    status: int
    body: bytes
    headers: Headers
    metadata: Mapping[str, str]
    details: str  # for Envoy's log


@dataclass(frozen=True, slots=True)
class Reserve:
    """Nothing yet: ask the shared state for this first, and tell the exchange what it says."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class _Told:
    """Headers to set and to remove (only while none has been sent), and metadata."""

    set_headers: Headers = ()
    remove_headers: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LetPass(_Told):
    """The answer flows on without us."""


@dataclass(frozen=True, slots=True)
class WantWhole(_Told):
    """Hold the answer until all of it is here."""


@dataclass(frozen=True, slots=True)
class Watch(_Told):
    """Show us the answer chunk by chunk."""


@dataclass(frozen=True, slots=True)
class Amend(_Told):
    """Let what was shown go on, or `body` in its place. As the reply to an answer that has headers only: with this
    body."""

    body: bytes | None = None  # None: as it is; b"": nothing of it
