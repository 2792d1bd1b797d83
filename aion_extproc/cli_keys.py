"""`aion keys` and `aion tenants`: what the admin API does, at the database itself. Gateways that run take it up within
about a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from aion_extproc.config.access import KeyRules
from aion_extproc.config.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from aion_extproc.config.schema import Settings
    from aion_extproc.stores.tenants import TenantStore

keys = typer.Typer(no_args_is_help=True, help="Keys that callers present: create, list, revoke, rotate.")
tenants = typer.Typer(no_args_is_help=True, help="Tenants and their own keys at providers.")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="aion.yaml, which names the database; without it, ./aion.yaml")
]
JsonOption = Annotated[bool, typer.Option("--json", help="as JSON")]
_OPTIONS = {
    "name": "--name",
    "tenant": "--tenant",
    "service": "--service",
    "models": "--models",
    "tiers": "--tiers",
    "expires_at": "--expires",
    "tags": "--tag",
    "daily_limit_usd": "--daily-usd",
    "monthly_limit_usd": "--monthly-usd",
    "on_limit": "--on-limit",
    "budget": "--on-limit",
    "requests_per_minute": "--rpm",
    "tokens_per_minute": "--tpm",
    "concurrent_requests": "--concurrent",
}


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="what the ledger and reports call it")],
    tenant: Annotated[str | None, typer.Option(help="whose it is")] = None,
    service: Annotated[str | None, typer.Option(help="that its requests count for")] = None,
    models: Annotated[str | None, typer.Option(help='that it may use: "gpt-5.4-mini,anthropic/*"; all')] = None,
    tiers: Annotated[str | None, typer.Option(help='that it may use: "1,2"; all')] = None,
    expires: Annotated[str | None, typer.Option(help="2027-01-31 or 2027-01-31T12:00:00Z; never")] = None,
    daily_usd: Annotated[str | None, typer.Option(help="what it may spend in a day of UTC")] = None,
    monthly_usd: Annotated[str | None, typer.Option(help="what it may spend in a month of UTC")] = None,
    on_limit: Annotated[str | None, typer.Option(help="reject, or downgrade to what fits; reject")] = None,
    rpm: Annotated[int | None, typer.Option(help="requests per minute")] = None,
    tpm: Annotated[int | None, typer.Option(help="tokens per minute")] = None,
    concurrent: Annotated[int | None, typer.Option(help="open requests at a time")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="for reports; may be given again")] = None,
    trusted: Annotated[bool, typer.Option("--trusted", help="its X-Tenant-ID and X-AION-* headers count")] = False,
    config: ConfigOption = None,
) -> None:
    """Make a key, and print it: this is the only time that it is shown."""
    from aion_extproc.stores.keys import KeyStore

    settings = _settings(config)
    budget = {"daily_limit_usd": daily_usd, "monthly_limit_usd": monthly_usd, "on_limit": on_limit}
    limits = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrent_requests": concurrent}
    rules = _rules(
        name=name,
        tenant=tenant,
        service=service,
        models=_listed(models),
        tiers=_listed(tiers),
        expires_at=expires,
        tags=tag or None,
        trusted=trusted or None,
        budget=_given(budget),
        limits=_given(limits),
    )
    _not_configured(settings, name)
    with _database(settings) as engine:
        _show(KeyStore(engine).create(rules), f"created {name}")
    if not settings.auth.enabled:
        err.print("[yellow]note:[/] auth.enabled is not true in the configuration, so anybody may call without a key")


@keys.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all keys, those of the configuration and revoked ones too, without their secrets."""
    from aion_extproc.api.admin_answers import configured_key_info, stored_key_info
    from aion_extproc.stores.keys import KeyStore
    from aion_extproc.stores.keys_tables import now_ms

    settings, at_ms = _settings(config), now_ms()
    infos = [configured_key_info(entry.rules, at_ms) for entry in settings.auth.keys]
    with _database(settings) as engine:
        infos += [stored_key_info(key, at_ms) for key in KeyStore(engine).list()]
    if as_json:
        _dump([info.model_dump(mode="json") for info in infos])
        return
    table = Table("name", "key", "state", "tenant", "created", "ends", "from", box=None, pad_edge=False)
    for info in infos:
        ends = min((end for end in (info.revoked_at, info.expires_at) if end), default=None)
        made = info.created_at
        table.add_row(
            info.name,
            f"…{info.hint}" if info.hint else "",
            info.state,
            info.tenant,
            f"{made:%Y-%m-%d %H:%M}" if made else "",
            f"{ends:%Y-%m-%d %H:%M}" if ends else "",
            info.source,
        )
    out.print(table)


@keys.command("revoke")
def revoke_key(name: str, config: ConfigOption = None) -> None:
    """Have a key be refused from now on."""
    from aion_extproc.stores.keys import KeyStore

    settings = _settings(config)
    _not_configured(settings, name)
    with _database(settings) as engine:
        KeyStore(engine).revoke(name)
    err.print(f"revoked {name}")


@keys.command("rotate")
def rotate_key(
    name: str,
    overlap: Annotated[str, typer.Option(help='the old key is accepted for so long: "1h"; 0 is not at all')] = "0",
    config: ConfigOption = None,
) -> None:
    """Make another key with the name and rules of one, and print it: this is the only time that it is shown."""
    from pydantic import TypeAdapter

    from aion_extproc.config.values import DurationOrZero
    from aion_extproc.stores.keys import KeyStore

    try:
        seconds = TypeAdapter(DurationOrZero).validate_python(overlap)
    except ValidationError as error:
        _fail(f"--overlap: {error.errors()[0]['msg']}", 2)
    settings = _settings(config)
    _not_configured(settings, name)
    with _database(settings) as engine:
        _show(KeyStore(engine).rotate(name, int(seconds)), f"rotated {name}")


@tenants.command("list")
def list_tenants(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show the tenants of the database, and where they have keys of their own."""
    with _tenants(_settings(config)) as store:
        found = store.list()
    if as_json:
        _dump(
            [
                {
                    "id": one.id,
                    **one.rules.model_dump(mode="json"),
                    "provider_keys": [{"provider": key.provider, "hint": key.hint} for key in one.provider_keys],
                }
                for one in found
            ]
        )
        return
    table = Table("tenant", "keys at", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.id, ", ".join(key.provider for key in one.provider_keys))
    out.print(table)


@tenants.command("set-key")
def set_provider_key(tenant: str, provider: str, config: ConfigOption = None) -> None:
    """Store a tenant's own key at a provider. It is read from standard input."""
    from aion_extproc.api.admin_answers import NewProviderKey

    settings = _settings(config)
    if provider not in settings.enabled_providers:
        known = ", ".join(settings.enabled_providers) or "none"
        _fail(f"there is no provider {provider} in the configuration; known are: {known}")
    _rules(name=tenant)
    try:
        given = NewProviderKey.model_validate({"provider": provider, "api_key": sys.stdin.read().strip()})
    except ValidationError as error:
        _fail(f"the key on standard input {error.errors()[0]['msg']}", 2)
    with _tenants(settings) as store:
        store.put_provider_key(tenant, provider, given.api_key.get_secret_value())
    err.print(f"stored the key of {tenant} at {provider}")


@tenants.command("remove-key")
def remove_provider_key(tenant: str, provider: str, config: ConfigOption = None) -> None:
    """Forget a tenant's own key at a provider."""
    with _tenants(_settings(config)) as store:
        store.delete_provider_key(tenant, provider)
    err.print(f"removed the key of {tenant} at {provider}")


@tenants.command("delete")
def delete_tenant(tenant: str, config: ConfigOption = None) -> None:
    """Forget a tenant's keys at providers and its limits, and revoke its keys. The ledger's rows stay."""
    settings = _settings(config)
    if tenant in settings.tenants or any(entry.tenant == tenant for entry in settings.auth.keys):
        _fail(f"the tenant {tenant} is in the configuration; remove it there")
    with _tenants(settings) as store:
        store.delete(tenant)
    err.print(f"deleted {tenant}")


@tenants.command("reencrypt")
def reencrypt(config: ConfigOption = None) -> None:
    """Encrypt all providers' keys with AION_MASTER_KEY that were with one of AION_MASTER_KEY_OLD."""
    with _tenants(_settings(config)) as store:
        done, failed = store.reseal()
    err.print(f"encrypted {done} key{'s' * (done != 1)} anew")
    for line in failed:
        err.print(f"[red]aion:[/] {line}")
    if failed:
        raise typer.Exit(1)


def _rules(**given: Any) -> KeyRules:
    """Of what is given; what is wrong is told by the names of the options."""
    try:
        return KeyRules.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = next((_OPTIONS[str(part)] for part in reversed(first["loc"]) if str(part) in _OPTIONS), "")
        _fail(f"{option}: {first['msg'][:1].lower()}{first['msg'][1:]}", 2)


def _given(values: dict[str, Any]) -> dict[str, Any] | None:
    return {key: value for key, value in values.items() if value is not None} or None


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _show(secret: str, what: str) -> None:
    sys.stdout.write(f"{secret}\n")
    err.print(f"{what}; keep the key, it is not shown again")


def _dump(value: object) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _not_configured(settings: Settings, name: str) -> None:
    if any(entry.name == name for entry in settings.auth.keys):
        _fail(f"the key {name} is in the configuration; change it there, or take another name")


def _settings(config: Path | None) -> Settings:
    """From the named file, from ./aion.yaml, or those of a gateway that has none."""
    from aion_extproc.config.load import load
    from aion_extproc.config.schema import Settings

    path = config or Path("aion.yaml")
    try:
        return Settings() if config is None and not path.is_file() else load(path)
    except ConfigError as error:
        err.print(str(error), markup=False)
        raise typer.Exit(2) from None


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    """What goes wrong with it is told in a line."""
    from sqlalchemy.exc import SQLAlchemyError

    from aion_extproc.stores.database import LedgerError, connect
    from aion_extproc.stores.keys_tables import AccessError
    from aion_extproc.stores.secrets import VaultError

    try:
        engine = connect(settings.telemetry.target)
        try:
            yield engine
        finally:
            engine.dispose()
    except (LedgerError, AccessError, VaultError) as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        _fail(f"the database does not answer ({type(error).__name__}); try again")


@contextmanager
def _tenants(settings: Settings) -> Iterator[TenantStore]:
    from aion_extproc.stores.secrets import Vault
    from aion_extproc.stores.tenants import TenantStore

    with _database(settings) as engine:
        yield TenantStore(engine, Vault.from_env())


def _fail(message: str, code: int = 1) -> NoReturn:
    err.print("[red]aion:[/] ", end="")
    err.print(message, markup=False)
    raise typer.Exit(code)
