"""The question that routing answers and the two answers it can give."""

from __future__ import annotations

from dataclasses import dataclass

from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model
from aion_extproc.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known of a request when a model is chosen."""

    asked: str  # the client's `model`, as sent
    endpoint: Endpoint  # that it came by
    tier: int = 1  # the classifier's; not looked at where the client named a concrete model
    input_tokens: int = 0  # an estimate
    max_tokens: int | None = None  # the client's limit on the answer
    # (provider, model id) of those that turned out to be unable to take this request.
    excluded: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model to try."""

    model: Model


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the request goes. The first attempt is the choice, the others stand by in order of preference."""

    attempts: tuple[Attempt, ...]  # never empty
    tier: int  # of the chosen model
    wanted_tier: int | None  # None where a concrete model or aion-local was asked for
    reason: str  # ASCII, for X-AION-Reason and the ledger
    expected: Usage  # what the costs below are for
    expected_cost_nano: int | None  # None: the chosen model's price is unknown
    baseline_nano: int | None  # the same at the dearest configured model; None: no price is known
    baseline_model: str  # its id; "" where there is none

    @property
    def model(self) -> Model:
        return self.attempts[0].model

    @property
    def expected_savings_nano(self) -> int | None:
        if self.expected_cost_nano is None or self.baseline_nano is None:
            return None
        return max(0, self.baseline_nano - self.expected_cost_nano)


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No model can serve the request. The caller puts it into the error shape of the client's API."""

    # no_models | model_not_found | no_local_model | no_tier3_model | endpoint_not_available | model_required |
    # context_length_exceeded | no_healthy_model
    code: str
    status: int  # 400, 404 or 503
    message: str  # for the client's developer; ASCII but for what the client sent
    near: tuple[str, ...] = ()  # names like the unknown one
    retry_after: int | None = None  # seconds, with 503: when a model will be tried again
