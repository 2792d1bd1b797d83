"""`aion bench`: tier shares and costs on prompts and a session that are generated from a seed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from aion_extproc.cli_eval import print_json, settings_of, stop, wide
from aion_extproc.config.errors import ConfigError

if TYPE_CHECKING:
    from aion_extproc.bench.costs import Report
    from aion_extproc.catalog.catalog import Catalog
    from aion_extproc.classify.classifier import Classifier
    from aion_extproc.config.schema import Settings

bench = typer.Typer(no_args_is_help=True, help="Tier shares and costs on generated requests; nobody is asked anything.")

_USUAL_PROVIDER: Final = "anthropic"

SeedOption = Annotated[int, typer.Option(help="of what is generated", min=0)]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="aion.yaml, whose models are compared")]
ProviderOption = Annotated[
    str | None, typer.Option(help="compare the default models of that provider; anthropic where there is no aion.yaml")
]
JsonOption = Annotated[bool, typer.Option("--json", help="all figures, unrounded")]


@bench.command()
def mix(
    seed: SeedOption = 0, config: ConfigOption = None, provider: ProviderOption = None, as_json: JsonOption = False
) -> None:
    """1,000 prompts of ten categories."""
    from aion_extproc.bench.costs import run_mix

    _report(run_mix, seed, _models(config, provider), as_json)


@bench.command()
def session(
    seed: SeedOption = 0, config: ConfigOption = None, provider: ProviderOption = None, as_json: JsonOption = False
) -> None:
    """A coding agent's session of 200 steps, with and without prompt caches and session affinity."""
    from aion_extproc.bench.costs import run_session

    _report(run_session, seed, _models(config, provider), as_json)


def _report(
    run: Callable[[Settings, Catalog, Classifier, int], Report], seed: int, settings: Settings, as_json: bool
) -> None:
    from aion_extproc.bench import tables
    from aion_extproc.bench.play import BenchError
    from aion_extproc.catalog.build import build
    from aion_extproc.classify.classifier import Classifier

    at = datetime.now(UTC)
    try:
        catalog = build(settings, at)
        report = run(settings, catalog, Classifier.load(), seed)
    except (BenchError, ConfigError) as error:
        stop(str(error))
    if as_json:
        print_json(tables.as_json(report, catalog, at))
        return
    out = wide()
    out.print(tables.heading(report, catalog, at) + "\n", markup=False)
    out.print(tables.costs(report), "", tables.groups(report))


def _models(config: Path | None, provider: str | None) -> Settings:
    """The configuration, or one with the default models of a provider."""
    from aion_extproc.config.schema import Settings
    from aion_extproc.providers import KINDS

    if config is not None and provider is not None:
        raise typer.BadParameter("give a configuration or a provider, not both", param_hint="--provider")
    found = settings_of(config) if provider is None else None
    if found is not None:
        return found
    name = provider or _USUAL_PROVIDER
    known = {kind.name: kind.default_models for kind in KINDS.values() if kind.default_models and not kind.place}
    if name not in known:
        raise typer.BadParameter(f"must be one of {', '.join(sorted(known))}", param_hint="--provider")
    models = [{"id": model.id, "tier": model.tier} for model in known[name]]
    # A key, because a provider must have one; nothing is sent.
    return Settings.model_validate({"providers": {name: {"kind": name, "api_key": "unused", "models": models}}})
