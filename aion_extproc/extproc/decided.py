"""What Envoy fills the answer's headers from, and what the access-log entry brings back: the metadata of an attempt."""

from __future__ import annotations

from aion_extproc.accounting.cost import usd
from aion_extproc.accounting.facts import Facts, encode
from aion_extproc.extproc.asked import encode_asked
from aion_extproc.extproc.chain import Step
from aion_extproc.extproc.outgoing import Outgoing
from aion_extproc.wire.request import Request
from aion_extproc.wire.translate.target import Asked


def decided_metadata(facts: Facts, step: Step) -> dict[str, str]:
    """Of a request that is sent nowhere, or not yet."""
    return {
        "facts": encode(facts),
        "format": facts.format,
        "model": facts.model,
        "provider": facts.provider,
        "tier": str(facts.tier),
        "reason": facts.reason,
        "cost_usd": _usd(step.cost_nano),
        "savings_usd": _usd(step.savings_nano),
    } | ({} if facts.score is None else {"score": f"{facts.score:.6g}", "task": facts.task})


def sent_metadata(request: Request, sent: Outgoing, facts: Facts, request_id: str) -> dict[str, str]:
    """Of what is sent. All keys are always there: they overwrite those of the attempt before."""
    asked = ""
    if sent.translated:
        asked = encode_asked(
            Asked(facts.model, request.wants_usage, sent.tool_names, facts.input_tokens, request_id)
        )
    return {
        "content_length": str(len(sent.body)),
        "dropped": ",".join(sent.dropped),
        "asked": asked,
    }


def _usd(nano: int | None) -> str:
    return "unknown" if nano is None else usd(nano)
