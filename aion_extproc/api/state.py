"""What the supervisor tells the API process, in a JSON file of mode 0600. No secret is in it, only digests."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aion_extproc.config.access import KeyRules
from aion_extproc.stores.tenants import TenantRules
from aion_extproc.wire.format import Format


class StateError(Exception):
    """The state file cannot be used; the message names the file and says why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelState(_Part):
    """A model as /v1/models shows it."""

    id: str
    provider: str
    tier: int = Field(ge=0, le=3)  # 0: only reached by name
    formats: tuple[Format, ...]
    local: bool = False
    demo: bool = False
    context_window: int | None = None  # tokens; None: unknown
    priced: bool = False


class KeyState(_Part):
    """A key of the configuration. `digest` is its SHA-256 in hex; the key itself stays in the supervisor."""

    digest: str
    rules: KeyRules


class AuthState(_Part):
    """`admin_digest`: SHA-256 of the admin secret in hex; None: the admin API is off."""

    enabled: bool = False
    keys: tuple[KeyState, ...] = ()
    admin_digest: str | None = None


class TenantState(_Part):
    """A tenant of the configuration. `providers`: where it has a key of its own."""

    rules: TenantRules = TenantRules()
    providers: tuple[str, ...] = ()


class ApiState(_Part):
    db_path: Path | None  # None: a database whose URL, which may have a password, comes on standard input
    models: tuple[ModelState, ...] = ()
    providers: tuple[str, ...] = ()
    auth: AuthState = AuthState()
    tenants: dict[str, TenantState] = Field(default_factory=dict)
    version: str
    draining: bool = False  # the gateway is about to stop


def read_state(path: Path) -> ApiState:
    """Raises StateError when the file cannot be read or is not a state."""
    try:
        return ApiState.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StateError(f"cannot read the state file {path}: {error.strerror}") from None
    except ValidationError as error:
        # Without the input: it holds hashes of keys.
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise StateError(f"the state file {path} is not valid: {'; '.join(wrong)}") from None
