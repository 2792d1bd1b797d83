"""The configuration as types: what `aion.yaml` may say, with defaults. Its manual is docs/configuration.md.

Unknown keys are refused and nothing can be changed after loading. Secrets are `SecretStr`: they do not show
in `repr`, dumps or logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aion_extproc.catalog.catalog import VIRTUAL_MODELS
from aion_extproc.catalog.model import Mode
from aion_extproc.config.access import (
    Auth,
    LimitSettings,
    ServiceSettings,
    State,
    TenantSettings,
    refuse_repeats,
)
from aion_extproc.config.energy import EnergySettings, Size
from aion_extproc.config.prices import OPTIONAL, LongContext, ServiceTier, Tariff
from aion_extproc.config.routing import Routing, check_baseline, check_chains
from aion_extproc.config.values import (
    Address,
    Age,
    Duration,
    HeaderText,
    HostLabel,
    Name,
    Port,
    Price,
    Project,
    Secret,
    Section,
    check_password,
    fault,
)
from aion_extproc.config.webhooks import Webhooks
from aion_extproc.providers import ALIASES, KINDS, Kind, Place, configure


class Gateway(Section):
    """The ports and processes of `aion up`."""

    listen: Address = "127.0.0.1"
    port: Port = 8080
    admin_port: Port = 9464
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    envoy_concurrency: Annotated[int, Field(ge=1, le=256)] | None = 1  # None: as many as Envoy sees cores
    usage: Literal["envoy", "ext_proc"] = "envoy"
    json_cost: Literal["exact", "estimate"] = "exact"
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    idle_timeout: Duration = 600.0  # as long as the SDKs wait: a model may think in silence
    connect_timeout: Duration = 5.0
    first_byte_timeout: Duration = 60.0
    answer_timeout: Duration = 240.0
    worker_open_requests: Annotated[int, Field(ge=1)] = 2000
    worker_open_bytes: Annotated[int, Field(ge=1024)] = 256 << 20
    drain_delay: Duration = 5.0
    drain_timeout: Duration = 25.0  # with all that follows below the 30 s that Kubernetes waits
    worker_drain_timeout: Duration = 600.0
    worker_memory_bytes: Annotated[int, Field(ge=128 << 20)] = 1 << 30
    envoy_memory_bytes: Annotated[int, Field(ge=128 << 20)] = 2 << 30

    @model_validator(mode="after")
    def _ports_differ(self) -> Gateway:
        if self.port == self.admin_port:
            raise fault("must differ from port", "admin_port")
        return self

    @model_validator(mode="after")
    def _room_for_a_body(self) -> Gateway:
        if self.worker_open_bytes < self.max_body_bytes:
            raise fault("must not be less than max_body_bytes: no such request could be taken", "worker_open_bytes")
        return self


class ModelSettings(Section):
    """A model of a provider. Prices are USD per million tokens; without them genai-prices is asked."""

    id: HeaderText
    mode: Mode = "chat"
    tier: Annotated[int, Field(ge=1, le=3)] | None = None  # None: not a chat model, only reached by name
    input_price_per_1m: Price | None = None
    output_price_per_1m: Price | None = None
    cache_read_price_per_1m: Price | None = None
    cache_write_price_per_1m: Price | None = None
    cache_write_1h_price_per_1m: Price | None = None
    reasoning_price_per_1m: Price | None = None
    long_context: LongContext | None = None
    service_tiers: dict[ServiceTier, Tariff] = Field(default_factory=dict)
    parameters_b: Size | None = None  # billions that are active; None: not known
    context_window: Annotated[int, Field(ge=1)] | None = None
    limits: LimitSettings | None = None  # of all callers together

    @field_validator("id", mode="after")
    @classmethod
    def _not_virtual(cls, value: str) -> str:
        if value in VIRTUAL_MODELS:
            raise fault(f'"{value}" is a name of the gateway\'s own; a model cannot have it')
        return value

    @model_validator(mode="after")
    def _tier_for_chat(self) -> ModelSettings:
        if self.mode == "chat" and self.tier is None:
            raise fault("tier is missing: 1 for simple, 2 for moderate, 3 for hard requests")
        if self.mode != "chat" and self.tier is not None:
            raise fault(f"a model of mode {self.mode} has no tier: it is only reached by its name", "tier")
        return self

    @model_validator(mode="after")
    def _both_prices(self) -> ModelSettings:
        if (self.input_price_per_1m is None) != (self.output_price_per_1m is None):
            missing = "input" if self.input_price_per_1m is None else "output"
            raise fault(f"{missing}_price_per_1m is missing: give both prices or neither")
        given = [key for key in (*OPTIONAL, "long_context") if getattr(self, key) is not None]
        if given and not self.priced:
            raise fault("needs input_price_per_1m and output_price_per_1m next to it", given[0])
        return self

    @property
    def priced(self) -> bool:
        return self.input_price_per_1m is not None


class Managed(Section):
    """A llama-server that the gateway starts and stops itself."""

    model_path: Annotated[str, Field(min_length=1)]
    binary_path: Annotated[str, Field(min_length=1)] = "llama-server"
    port: Port = 8081
    threads: Annotated[int, Field(ge=1)] | None = None  # None: llama-server's own choice
    ctx_size: Annotated[int, Field(ge=1)] = 4096
    ready_timeout: Duration = 120.0


class ProviderSettings(Section):
    """A provider; its name is the key it stands under."""

    kind: str
    enabled: bool = True
    api_key: Secret | None = None
    tenant_keys_only: bool = False  # only tenants with a key of their own may use it
    base_url: str | None = None
    region: HostLabel | None = None
    project: Project | None = None
    resource: HostLabel | None = None
    models: tuple[ModelSettings, ...] = ()
    max_requests: Annotated[int, Field(ge=1)] | None = None
    managed: Managed | None = None

    @property
    def known_kind(self) -> Kind:
        return KINDS[self.kind]

    @property
    def place(self) -> Place:
        return Place(region=self.region or "", project=self.project or "", resource=self.resource or "")

    @field_validator("kind", mode="after")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in KINDS:
            raise fault(f'"{value}" is no kind of provider we know; {_KIND_HELP}')
        return ALIASES.get(value, value)

    @field_validator("models", mode="after")
    @classmethod
    def _ids_unique(cls, value: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        refuse_repeats([model.id for model in value], "id", "this model is listed twice; drop one")
        return value

    @model_validator(mode="after")
    def _usable(self) -> ProviderSettings:
        kind = self.known_kind
        if self.managed is not None and kind.name != "llama.cpp":
            raise fault('only a provider of kind "llama.cpp" (or "local") can be managed', "managed")
        if self.managed is not None and self.base_url is not None:
            raise fault("a managed server has no base_url: its address follows from managed.port", "base_url")
        if self.base_url is not None:
            try:
                configure("", kind, self.base_url, place=self.place)
            except ValueError as error:
                raise fault(str(error), "base_url") from None
        for key in ("region", "project", "resource"):
            if getattr(self, key) is not None and key not in kind.place:
                raise fault(f"a provider of kind {kind.name} has no {key}; remove it", key)
        if not self.enabled:
            return self
        self._check_place(kind)
        if not kind.origin and self.base_url is None:
            raise fault("base_url is missing")
        if not self.models:
            raise fault("needs at least one model: - {id: …, tier: 1}", "models")
        # Somebody else's server may want no key; the vendor's own always does.
        if self.tenant_keys_only and self.api_key is not None:
            raise fault("has no use where tenant_keys_only is set: nobody would use it; remove one of them", "api_key")
        if kind.needs_key and self.api_key is None and self.base_url is None and not self.tenant_keys_only:
            raise fault(f'api_key is missing; for example api_key: "${{{kind.api_key_env[0]}}}"')
        return self


    def _check_place(self, kind: Kind) -> None:
        for key in kind.place:
            in_path = any(f"{{{key}}}" in base for base in kind.bases.values())
            signs = kind.signing == "aws" and self.api_key is None
            if getattr(self, key) is None and (self.base_url is None or in_path or signs):
                raise fault(f"{key} is missing; for example {key}: {_PLACE_EXAMPLES[key]}")


_PLACE_EXAMPLES = {"region": "us-east-1", "project": "my-project", "resource": "my-resource"}

_KIND_HELP = (
    "say kind: openai (or kind: anthropic) and a base_url for a server that speaks that API, or one of "
    + ", ".join(kind for kind in KINDS if kind not in ALIASES)
)


class Telemetry(Section):
    """The ledger: its database, and where rows wait while that is away."""

    db_path: Annotated[str, Field(min_length=1)] = "./data/aion.db"
    db_url: Secret | None = None  # PostgreSQL, in the place of db_path
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 100
    flush_interval: Duration = 1.0
    spool_dir: Annotated[str, Field(min_length=1)] | None = None  # None: beside db_path
    spool_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    retention: Age | None = None  # of single requests; None: for ever. Sums by the hour stay

    @field_validator("db_url", mode="after")
    @classmethod
    def _postgres(cls, value: Any) -> Any:
        url = "" if value is None else value.get_secret_value()
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise fault("must be postgresql://user:password@host:port/database")
        check_password(url)
        return value

    @field_validator("db_path", mode="after")
    @classmethod
    def _no_url(cls, value: str) -> str:
        if "://" in value:  # with a password, which a path is shown with
            raise fault("is a URL; that of a database is db_url")
        return value

    @model_validator(mode="after")
    def _one_database(self) -> Telemetry:
        if self.db_url is not None and "db_path" in self.model_fields_set:
            raise fault("give db_path or db_url, not both", "db_url")
        return self

    @property
    def target(self) -> str:
        """The database, its password included."""
        return self.db_path if self.db_url is None else self.db_url.get_secret_value()

    @property
    def spool(self) -> str:
        return self.spool_dir or f"{self.db_path}.spool"


class Settings(Section):
    """The whole configuration."""

    gateway: Gateway = Gateway()
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict)
    auth: Auth = Auth()
    tenants: dict[Name, TenantSettings] = Field(default_factory=dict)
    services: dict[Name, ServiceSettings] = Field(default_factory=dict)
    state: State = State()
    routing: Routing = Routing()
    energy: EnergySettings = EnergySettings()
    webhooks: Webhooks = ()
    telemetry: Telemetry = Telemetry()

    @field_validator("providers", mode="before")
    @classmethod
    def _kind_from_name(cls, value: Any) -> Any:
        """A provider named like a kind is of that kind."""
        if not isinstance(value, Mapping):
            return value
        return {
            name: {**entry, "kind": name} if isinstance(entry, Mapping) and "kind" not in entry else entry
            for name, entry in value.items()
        }

    @model_validator(mode="after")
    def _chains_known(self) -> Settings:
        known = {name: {model.id: model.mode for model in entry.models} for name, entry in self.providers.items()}
        check_chains(self.routing.chains, known)
        check_baseline(self.routing.baseline, {name: known[name] for name in self.enabled_providers})
        return self

    @property
    def enabled_providers(self) -> Mapping[str, ProviderSettings]:
        return {name: entry for name, entry in self.providers.items() if entry.enabled}
