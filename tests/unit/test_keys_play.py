"""Keys and tenants played against a simple model: whoever asks for the changes, whenever, knows what is true."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aion_extproc.api.callers import Callers
from aion_extproc.api.state import AuthState
from aion_extproc.config.access import KeyRules, LimitSettings
from aion_extproc.extproc.callers import Keyring
from aion_extproc.stores.database import connect
from aion_extproc.stores.keys import KeyStore
from aion_extproc.stores.keys_changes import changes
from aion_extproc.stores.keys_tables import AccessError
from aion_extproc.stores.secrets import Vault, digest
from aion_extproc.stores.tenants import TenantRules, TenantStore

START_MS = 1_795_000_000_000
VAULT = Vault.from_env({"AION_MASTER_KEY": "".join(f"{n:02x}" for n in range(32))})
names = st.sampled_from(["a", "b"])
tenant_names = st.sampled_from(["acme", "other"])
providers = st.sampled_from(["openai", "local"])
NEVER = 2**62


@dataclass
class Key:
    name: str
    tenant: str
    expires_ms: int
    ends_ms: int = NEVER  # by revocation or rotation
    current: bool = True

    def accepted(self, now: int) -> bool:
        return now < min(self.expires_ms, self.ends_ms)


class Play(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="aion-keys-"))
        self.engine = connect(str(self.directory / "aion.db"))
        self.now = START_MS
        self.keys, self.tenants = KeyStore(self.engine, self.clock), TenantStore(self.engine, VAULT, self.clock)
        self.model: dict[str, Key] = {}  # by the secret
        self.model_tenants: dict[str, tuple[int, dict[str, str]]] = {}  # requests a minute, provider keys
        # One asks after each step, the others when it occurs to them.
        self.eager, self.lazy, self.api = Keyring(), Keyring(), Callers(AuthState())

    def clock(self) -> int:
        return self.now

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()
            shutil.rmtree(self.directory)

    def current(self, name: str) -> Key | None:
        return next((key for key in self.model.values() if key.name == name and key.current), None)

    @rule(name=names, tenant=st.sampled_from(["", "acme", "other"]), seconds=st.sampled_from([None, 0, 5, 60]))
    def create(self, name: str, tenant: str, seconds: int | None) -> None:
        until = None if seconds is None else datetime.fromtimestamp(self.now / 1000 + seconds, UTC)
        held = self.current(name)
        taken = held is not None and self.now < held.expires_ms
        try:
            secret = self.keys.create(KeyRules(name=name, tenant=tenant, expires_at=until))
        except AccessError:
            assert taken or seconds == 0
            return
        assert not taken
        assert seconds != 0
        if held is not None:
            held.current = False
        self.model[secret] = Key(name, tenant, NEVER if seconds is None else self.now + seconds * 1000)
        if tenant:
            self.model_tenants.setdefault(tenant, (0, {}))

    @rule(name=names)
    def revoke(self, name: str) -> None:
        held = [key for key in self.model.values() if key.name == name and self.now < key.ends_ms]
        try:
            self.keys.revoke(name)
        except AccessError:
            assert not any(key.current for key in held)
            return
        for key in held:
            key.ends_ms, key.current = self.now, False

    @rule(name=names, overlap=st.sampled_from([0, 5, 60]))
    def rotate(self, name: str, overlap: int) -> None:
        held = self.current(name)
        possible = held is not None and self.now < held.expires_ms
        try:
            secret = self.keys.rotate(name, overlap)
        except AccessError:
            assert not possible
            return
        assert possible
        assert held is not None
        for key in self.model.values():
            if key.name == name:
                key.ends_ms, key.current = min(key.ends_ms, self.now + overlap * 1000), False
        self.model[secret] = Key(name, held.tenant, held.expires_ms)

    @rule(tenant=tenant_names, limit=st.integers(1, 3))
    def put_tenant(self, tenant: str, limit: int) -> None:
        self.tenants.put(tenant, TenantRules(limits=LimitSettings(requests_per_minute=limit)))
        self.model_tenants[tenant] = (limit, self.model_tenants.get(tenant, (0, {}))[1])

    @rule(tenant=tenant_names, provider=providers, secret=st.text("abc", min_size=1, max_size=5))
    def put_provider_key(self, tenant: str, provider: str, secret: str) -> None:
        self.tenants.put_provider_key(tenant, provider, secret)
        self.model_tenants.setdefault(tenant, (0, {}))[1][provider] = secret

    @rule(tenant=tenant_names, provider=providers)
    def delete_provider_key(self, tenant: str, provider: str) -> None:
        held = self.model_tenants.get(tenant, (0, {}))[1]
        try:
            self.tenants.delete_provider_key(tenant, provider)
        except AccessError:
            assert provider not in held
            return
        del held[provider]

    @rule(tenant=tenant_names)
    def delete_tenant(self, tenant: str) -> None:
        try:
            self.tenants.delete(tenant)
        except AccessError:
            assert tenant not in self.model_tenants
            return
        del self.model_tenants[tenant]
        for key in self.model.values():
            if key.tenant == tenant and self.now < key.ends_ms:
                key.ends_ms, key.current = self.now, False

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule()
    def the_lazy_one_asks(self) -> None:
        self.lazy.apply(changes(self.engine, VAULT, self.lazy.version, self.clock))
        self.api.apply(changes(self.engine, None, self.api.version, self.clock))
        self.check(self.lazy)
        for secret, key in self.model.items():
            assert (self.api.find(secret, self.now) is not None) == key.accepted(self.now)

    @invariant()
    def the_eager_one_knows(self) -> None:
        if hasattr(self, "eager"):
            self.eager.apply(changes(self.engine, VAULT, self.eager.version, self.clock))
            self.check(self.eager)

    def check(self, ring: Keyring) -> None:
        accepted = {
            digest
            for digest, key in ring.keys.items()
            if key.valid_until_ms is None or self.now < key.valid_until_ms
        }
        assert accepted == {digest(secret) for secret, key in self.model.items() if key.accepted(self.now)}
        known = {
            name: (
                entry.settings.limits.requests_per_minute if entry.settings.limits else 0,
                {provider: key.get_secret_value() for provider, key in entry.settings.provider_keys.items()},
            )
            for name, entry in ring.tenants.items()
        }
        assert known == self.model_tenants


TestPlay = Play.TestCase
TestPlay.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
