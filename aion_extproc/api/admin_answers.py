"""What the admin API takes and answers. No answer holds a secret but that of a key which has just been made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aion_extproc.api.answers import CostsAnswer, OutcomeShare, Range, SavingsAnswer
from aion_extproc.api.state import ApiState
from aion_extproc.config.access import KeyRules
from aion_extproc.config.values import Name, Secret, Section
from aion_extproc.stores.keys import LONGEST_OVERLAP_SECONDS, KeyStatus, StoredKey, is_over
from aion_extproc.stores.tenants import StoredTenant, TenantRules

Source = Literal["config", "store"]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """OpenAI's shape."""

    error: ErrorDetail


class KeyInfo(KeyRules):
    """A key without its secret. Those of the configuration have neither `hint` nor times. A `revoked_at` that lies
    ahead is that of a key which was rotated: it is accepted until then."""

    source: Source
    state: KeyStatus
    hint: str | None
    created_at: datetime | None
    revoked_at: datetime | None


class KeyCreated(KeyInfo):
    """`key` is the secret. It is shown this once."""

    key: str


class KeysAnswer(BaseModel):
    keys: list[KeyInfo]


class Rotation(Section):
    """For how long the old key is accepted beside the new one."""

    overlap_seconds: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_SECONDS)] = 0


class NewProviderKey(Section):
    """A tenant's own key at a provider."""

    provider: Name
    api_key: Secret


class ProviderKeyInfo(BaseModel):
    """`hint` are the last characters of a long key; null for keys of the configuration."""

    provider: str
    source: Source
    hint: str | None
    created_at: datetime | None


class ProviderKeysAnswer(BaseModel):
    provider_keys: list[ProviderKeyInfo]


class TenantInfo(TenantRules):
    """`source` is "config" if the configuration has it, whatever else is stored of it."""

    id: str
    source: Source
    created_at: datetime | None
    provider_keys: list[ProviderKeyInfo]


class TenantsAnswer(BaseModel):
    tenants: list[TenantInfo]


class TenantStats(BaseModel):
    """Of the tenant's requests only."""

    tenant: str
    range: Range
    savings: SavingsAnswer
    costs: CostsAnswer
    by_outcome: list[OutcomeShare]


def stored_key_info(key: StoredKey, at_ms: int) -> KeyInfo:
    return KeyInfo(
        **dict(key.rules),
        source="store",
        state=key.status(at_ms),
        hint=key.hint,
        created_at=_moment(key.created_at_ms),
        revoked_at=None if key.revoked_at_ms is None else _moment(key.revoked_at_ms),
    )


def configured_key_info(rules: KeyRules, at_ms: int) -> KeyInfo:
    state: KeyStatus = "expired" if is_over(rules, at_ms) else "active"
    return KeyInfo(**dict(rules), source="config", state=state, hint=None, created_at=None, revoked_at=None)


def created(info: KeyInfo, secret: str) -> KeyCreated:
    return KeyCreated(**dict(info), key=secret)


def tenant_infos(state: ApiState, stored: Iterable[StoredTenant]) -> Mapping[str, TenantInfo]:
    """By their ids. What is stored goes over what the configuration says, as extproc.callers has it."""
    of_store = {one.id: one for one in stored}
    of_keys = {key.rules.tenant for key in state.auth.keys if key.rules.tenant}
    return {id_: _tenant_info(id_, state, of_store.get(id_)) for id_ in sorted({*state.tenants, *of_keys, *of_store})}


def _tenant_info(id_: str, state: ApiState, stored: StoredTenant | None) -> TenantInfo:
    configured = state.tenants.get(id_)
    rules = configured.rules if configured else TenantRules()
    held = {
        provider: ProviderKeyInfo(provider=provider, source="config", hint=None, created_at=None)
        for provider in (configured.providers if configured else ())
    }
    if stored:
        rules = TenantRules(budget=stored.rules.budget or rules.budget, limits=stored.rules.limits or rules.limits)
        for key in stored.provider_keys:
            made = _moment(key.created_at_ms)
            held[key.provider] = ProviderKeyInfo(
                provider=key.provider, source="store", hint=key.hint or None, created_at=made
            )
    return TenantInfo(
        **dict(rules),
        id=id_,
        source="store" if stored and not configured else "config",
        created_at=_moment(stored.created_at_ms) if stored else None,
        provider_keys=[held[provider] for provider in sorted(held)],
    )


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
