"""The question that routing answers and the two answers it can give."""

from __future__ import annotations

from dataclasses import dataclass

from aion_extproc.accounting.cost import upper_nano
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model
from aion_extproc.wire.endpoint import Endpoint

MAX_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Warm:
    """The model that served the conversation's last turn, and what its provider still holds of it."""

    provider: str
    model: str
    tokens: int  # in its prompt cache, more than none


@dataclass(frozen=True, slots=True)
class MostTokens:
    """As many as a request may use, as far as anybody can say before."""

    input_tokens: int
    output_tokens: int
    service_tier: str = ""  # that is asked for; who is short of room serves it at the usual one

    def nano(self, model: Model) -> int | None:
        """What that costs at the model, in nano-dollars; None: its price is unknown."""
        if model.prices is None:
            return None
        input_tokens = self.input_tokens
        if model.context_window is not None:
            input_tokens = min(input_tokens, model.context_window)
        usual = upper_nano(model.prices, input_tokens, self.output_tokens)
        if not self.service_tier or (prices := model.prices_at(self.service_tier)) is None:
            return usual
        return max(usual, upper_nano(prices, input_tokens, self.output_tokens))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known of a request when a model is chosen."""

    asked: str  # the client's `model`, as sent
    endpoint: Endpoint  # that it came by
    tier: int = 1  # the classifier's or the conversation's; not looked at where the client named a concrete model
    input_tokens: int = 0  # an estimate
    max_tokens: int | None = None  # the client's limit on the answer
    # (provider, model id) of those that turned out to be unable to take this request.
    excluded: frozenset[tuple[str, str]] = frozenset()
    why: str = ""  # the tier is not the classifier's: "asked again"; ASCII
    warm: Warm | None = None
    most: MostTokens | None = None  # that it can take; None: nobody asked
    most_nano: int | None = None  # only models at which that costs no more


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model to try. None: a price is unknown."""

    model: Model
    expected_cost_nano: int | None
    expected_savings_nano: int | None  # against the dearest configured model


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the request goes. The first attempt is the choice, the others stand by in order of preference."""

    attempts: tuple[Attempt, ...]  # never empty; a model is there once
    tier: int  # of the chosen model
    wanted_tier: int | None  # None where a concrete model or aion-local was asked for
    reason: str  # ASCII, for X-AION-Reason and the ledger
    expected: Usage  # of the first attempt
    baseline_nano: int | None  # what that would cost at the dearest configured model; None: no price is known
    baseline_model: str  # its id; "" where there is none
    first_byte_timeout: float | None = None  # seconds to wait for an attempt's answer to begin; None: nothing is said

    @property
    def model(self) -> Model:
        return self.attempts[0].model

    @property
    def expected_cost_nano(self) -> int | None:
        return self.attempts[0].expected_cost_nano

    @property
    def expected_savings_nano(self) -> int | None:
        return self.attempts[0].expected_savings_nano


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
