"""Who may call, and how much: the sections `auth`, `tenants`, `services` and `state` of aion.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from aion_extproc.config.values import Amount, Duration, HeaderText, Name, Secret, Section, check_password, fault


def _moment(value: object) -> datetime:
    """A point in time with its zone; a date is its first moment in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise fault("must be a date or a time, such as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if not isinstance(value, datetime):
        raise fault("must be a date or a time, such as 2027-01-31 or 2027-01-31T12:00:00Z")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # the first or last hours of the calendar, elsewhere
        raise fault("is outside of the calendar") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]
Percent = Annotated[int, Field(ge=1, le=100)]


class BudgetSettings(Section):
    """What may be spent in a day and in a month, both of UTC."""

    daily_limit_usd: Amount | None = None
    monthly_limit_usd: Amount | None = None
    on_limit: Literal["reject", "downgrade"] = "reject"
    warn_at: tuple[Percent, ...] = (80, 100)  # percent of a limit at which the webhook is told

    @model_validator(mode="after")
    def _some_limit(self) -> BudgetSettings:
        if self.daily_limit_usd is None and self.monthly_limit_usd is None:
            raise fault("needs daily_limit_usd, monthly_limit_usd or both")
        return self


class LimitSettings(Section):
    """How much at a time. Minutes slide: what was used comes back bit by bit."""

    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    concurrent_requests: Annotated[int, Field(ge=1, le=10**6)] | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> LimitSettings:
        if self.requests_per_minute is self.tokens_per_minute is self.concurrent_requests is None:
            raise fault("needs requests_per_minute, tokens_per_minute or concurrent_requests")
        return self


class KeyRules(Section):
    """Everything of a key but the key itself. Keys of the store have the same."""

    name: Name
    tenant: Annotated[str, Field(max_length=0)] | Name = ""
    service: Annotated[str, Field(max_length=0)] | Name = ""
    trusted: bool = False  # its X-Tenant-ID, X-AION-Service and X-AION-Tags count
    models: Annotated[tuple[HeaderText, ...], Field(min_length=1)] | None = None  # None: all; "provider/id", "gpt-4*"
    tiers: Annotated[tuple[Annotated[int, Field(ge=1, le=3)], ...], Field(min_length=1)] | None = None
    expires_at: Moment | None = None
    tags: Annotated[tuple[Name, ...], Field(max_length=8)] = ()
    budget: BudgetSettings | None = None
    limits: LimitSettings | None = None


class KeySettings(KeyRules):
    """A key that callers of the gateway present."""

    key: Secret

    @property
    def rules(self) -> KeyRules:
        return KeyRules.model_validate(self.model_dump(exclude={"key"}, exclude_defaults=True))


class Auth(Section):
    """Who may call. With keys and no `enabled`, it is on; then keys of the store count too."""

    enabled: bool = False
    admin_secret: Secret | None = None  # None: the admin API is off
    keys: tuple[KeySettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _on_with_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("keys") and "enabled" not in value:
            return {**value, "enabled": True}
        return value

    @field_validator("keys", mode="after")
    @classmethod
    def _unique(cls, value: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        refuse_repeats([entry.name for entry in value], "name", "another key has this name; names must differ")
        keys = [entry.key.get_secret_value() for entry in value]
        refuse_repeats(keys, "key", "another entry has the same key; keys must differ")
        return value


class TenantSettings(Section):
    """A tenant's own limits, and its own keys at providers."""

    budget: BudgetSettings | None = None
    limits: LimitSettings | None = None
    provider_keys: dict[Name, Secret] = Field(default_factory=dict)  # by the name of the provider


class ServiceSettings(Section):
    """What all callers that name this service may spend together."""

    budget: BudgetSettings


class State(Section):
    """What all workers must agree on: what is spent, reserved and used."""

    redis_url: Secret | None = None  # None: a file that the processes of one machine share
    timeout: Duration = 0.05  # of one check
    budgets_fail: Literal["open", "closed"] = "closed"  # when it does not answer
    limits_fail: Literal["open", "closed"] = "open"
    reservation_timeout: Duration = 3600.0  # of a request whose end nobody hears of
    # What an answer may have where the request sets no max_tokens, for what is reserved of a budget.
    assumed_output_tokens: Annotated[int, Field(ge=1, le=10**7)] = 4096

    @field_validator("redis_url", mode="after")
    @classmethod
    def _known_scheme(cls, value: Any) -> Any:
        url = "" if value is None else value.get_secret_value()
        if url and not url.startswith(("redis://", "rediss://", "unix://")):
            raise fault("must begin with redis://, rediss:// (TLS) or unix://")
        check_password(url)
        return value


def refuse_repeats(values: Iterable[str], field: str, message: str) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise fault(message, index, field)
        seen.add(value)
