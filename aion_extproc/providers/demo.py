"""The built-in demo upstream: answers that say they are a demo, for a laptop with no key and no network"""

from __future__ import annotations

from aion_extproc.providers.base import DefaultModel, Kind
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

KIND = Kind(
    name="demo",
    origin="",  # wherever `aion up` started it
    bases={Format.OPENAI: "/v1", Format.ANTHROPIC: ""},
    auth={Format.OPENAI: "bearer", Format.ANTHROPIC: "bearer"},
    endpoints=frozenset({Endpoint.CHAT, Endpoint.MESSAGES}),
    default_models=(
        DefaultModel("demo-small", tier=1),
        DefaultModel("demo-medium", tier=2),
        DefaultModel("demo-large", tier=3),
    ),
)
