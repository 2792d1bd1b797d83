"""The `aion` command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from aion_extproc import cli_bench, cli_calibrate, cli_eval, cli_keys, cli_report, cli_train, logs
from aion_extproc.config.errors import ConfigError
from aion_extproc.config.schema import Settings
from aion_extproc.leaving import leave

if TYPE_CHECKING:
    from aion_extproc.gateway.config_file import ConfigFile

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cli_keys.keys, name="keys")
app.add_typer(cli_keys.tenants, name="tenants")
app.add_typer(cli_bench.bench, name="bench")
app.command()(cli_report.report)
app.command()(cli_train.train)
app.command("eval")(cli_eval.evaluate)
app.command()(cli_calibrate.calibrate)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

T = TypeVar("T")

DEFAULT_CONFIG = Path("aion.yaml")
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="aion.yaml; without it, what is there")]


@app.callback()
def _main() -> None:
    """Routes each LLM request to the cheapest model that can do it."""
    logs.configure()


@app.command()
def up(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(help="of the gateway; 8080")] = None,
    workers: Annotated[int | None, typer.Option(help="ext_proc processes; 1")] = None,
    admin_port: Annotated[int | None, typer.Option(help="serves /metrics; 9464")] = None,
) -> None:
    """Start everything: Envoy, workers, API. Ctrl-C stops it."""
    from aion_extproc.gateway.config_file import ConfigFile
    from aion_extproc.gateway.starting import free_port

    def overridden(settings: Settings) -> Settings:
        return _override(settings, port=port, workers=workers, admin_port=admin_port)

    path, file = _path(config), None
    demo_port = free_port()
    if path is None:
        settings, found, demo = _discovered(f"http://127.0.0.1:{demo_port}/v1")
        settings = overridden(settings)
    else:
        file = ConfigFile(path, lambda path: overridden(_load(path)))
        settings, found, demo = _or_exit(file.read), (), False
    _require_models(settings)
    leave(asyncio.run(_run(settings, found, demo_port if demo else None, file)))


async def _run(
    settings: Settings, found: tuple[tuple[str, str], ...], demo_port: int | None, file: ConfigFile | None
) -> int:
    from aion_extproc.catalog.build import build
    from aion_extproc.gateway.envoy import EnvoyError
    from aion_extproc.gateway.starting import StartError
    from aion_extproc.gateway.supervisor import Supervisor

    catalog = _or_exit(lambda: build(settings))
    supervisor = Supervisor(settings, catalog, demo_port, file)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.told, number)
    starting = asyncio.create_task(supervisor.start())
    told = asyncio.create_task(supervisor.stopping.wait())
    try:
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            starting.result()
            _banner(settings, catalog.models, found, demo_port is not None)
            for warning in catalog.warnings:
                err.print(f"[yellow]note:[/] {warning}")
            await told
        return 0
    except (StartError, EnvoyError) as error:
        err.print(f"[red]aion:[/] {error}")
        return 1
    finally:
        starting.cancel()
        await supervisor.stop()


def _banner(settings: Settings, models: object, found: tuple[tuple[str, str], ...], demo: bool) -> None:
    from aion_extproc.catalog.model import Model

    assert isinstance(models, tuple)
    gateway = settings.gateway
    base = f"http://localhost:{gateway.port}" if gateway.listen in ("127.0.0.1", "0.0.0.0") else (
        f"http://{gateway.listen}:{gateway.port}"
    )
    if demo:
        err.print("[bold yellow]DEMO[/]: no provider key and no local server was found, so a built-in demo upstream")
        err.print("answers with canned text. Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or write aion.yaml.\n")
    for where, what in found:
        err.print(f"found {where}: {what}")
    table = Table("tier", "models", "formats", box=None, pad_edge=False)
    for tier in (1, 2, 3):
        of_tier = [model for model in models if isinstance(model, Model) and model.tier == tier]
        names = ", ".join(f"{model.provider}/{model.id}" for model in of_tier) or "-"
        formats = ", ".join(sorted({format.value for model in of_tier for format in model.formats}))
        table.add_row(str(tier), names, formats)
    err.print(table)
    err.print(f"\nready on [bold]{base}[/] (metrics: http://127.0.0.1:{gateway.admin_port}/metrics). Try:\n")
    key = ' -H "Authorization: Bearer YOUR_KEY"' if settings.auth.enabled else ""
    hello = '\'{"model":"aion-auto","messages":[{"role":"user","content":"hello"}]}\''
    message = '\'{"model":"aion-auto","max_tokens":256,"messages":[{"role":"user","content":"hello"}]}\''
    err.print(f"curl {base}/v1/chat/completions{key} -d {hello}", markup=False)
    err.print(f"curl {base}/v1/messages{key} -H 'anthropic-version: 2023-06-01' -d {message}", markup=False)
    err.print(f"curl {base}/aion/v1/metrics/savings{key}", markup=False)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check a configuration, and have Envoy check what is rendered from it."""
    from aion_extproc.catalog.build import build
    from aion_extproc.gateway.envoy import EnvoyError, validate

    settings = _settings(config, "http://127.0.0.1:9/v1")
    _require_models(settings)
    catalog = _or_exit(lambda: build(settings))
    for warning in catalog.warnings:
        err.print(f"[yellow]note:[/] {warning}")
    try:
        validate(_rendered(settings, Path("/run/aion")))
    except EnvoyError as error:
        err.print(f"[red]Envoy refuses the configuration:[/] {error}")
        raise typer.Exit(1) from None
    providers = len(settings.enabled_providers)
    out.print(f"ok: {providers} provider{'s' * (providers != 1)}, {len(catalog.models)} models; Envoy accepts it")


@app.command()
def render(
    config: ConfigOption = None,
    run_dir: Annotated[Path, typer.Option(help="where the sockets are")] = Path("/run/aion"),
) -> None:
    """Write Envoy's bootstrap as JSON to standard output. No secret is in it."""
    settings = _settings(config, "http://127.0.0.1:9/v1")
    _require_models(settings)
    json.dump(_rendered(settings, run_dir), sys.stdout, indent=2)
    sys.stdout.write("\n")


@app.command()
def classify(
    input: Annotated[str, typer.Option("--input", help='JSON lines, "-" is standard input')] = "-",
    output: Annotated[str, typer.Option("--output", help='JSON lines, "-" is standard output')] = "-",
    config: ConfigOption = None,
) -> None:
    """Score requests: {"id", "prompt"} or {"id", "format", "body"} a line."""
    from aion_extproc.classify.batch import classify_lines

    settings = None if config is None else _settings(config, "")
    classifier, thresholds = cli_eval.classifier_of(settings), cli_eval.thresholds_of(settings)
    with ExitStack() as files:
        try:
            source = sys.stdin.buffer if input == "-" else files.enter_context(open(input, "rb"))
            target = sys.stdout.buffer if output == "-" else files.enter_context(open(output, "wb"))
        except OSError as error:
            err.print(f"[red]aion:[/] {error.filename}: {error.strerror}")
            raise typer.Exit(2) from None
        bad = classify_lines(source, target, lambda text: err.print(text, markup=False), classifier, thresholds)
    if bad:
        raise typer.Exit(1)


@app.command()
def translate(
    source: Annotated[str, typer.Option("--from", help="openai, anthropic, bedrock or vertex: what is read")],
    target: Annotated[str, typer.Option("--to", help="the same: what is written")],
    what: Annotated[str, typer.Option(help="request, response, stream or error")] = "request",
    model: Annotated[str | None, typer.Option(help="to send it to; without it the one that the body names")] = None,
    status: Annotated[int, typer.Option(help="of the error", min=300, max=599)] = 400,
) -> None:
    """Translate standard input to standard output, as the gateway would; what is dropped is named on standard error."""
    from typing import cast, get_args

    from aion_extproc import convert
    from aion_extproc.wire.errors import RequestError
    from aion_extproc.wire.translate.answer import AnswerError

    for option, value, known in (("--from", source, convert.Side), ("--to", target, convert.Side)):
        if value not in get_args(known):
            raise typer.BadParameter(f"must be one of {', '.join(get_args(known))}", param_hint=option)
    if what not in get_args(convert.What):
        raise typer.BadParameter(f"must be one of {', '.join(get_args(convert.What))}", param_hint="--what")
    read, written = cast(convert.Side, source), cast(convert.Side, target)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    try:
        if what == "stream":
            chunks = iter(lambda: os.read(stdin.fileno(), 65536), b"")
            for piece in convert.convert_stream(chunks, read, written, model):
                stdout.write(piece)
                stdout.flush()
            return
        if what == "request":
            body, dropped = convert.convert_request(stdin.read(), read, written, model)
            if dropped:
                err.print(f"X-AION-Dropped: {','.join(dropped)}", markup=False)
        elif what == "response":
            body = convert.convert_answer(stdin.read(), read, written, model)
        else:
            body = convert.convert_error(stdin.read(), written, status)
    except (RequestError, AnswerError) as error:
        err.print(f"[red]aion:[/] {error.code}: ", end="")
        err.print(str(error), markup=False)
        raise typer.Exit(1) from None
    stdout.write(body)
    stdout.flush()


def _rendered(settings: Settings, run_dir: Path) -> dict[str, object]:
    from aion_extproc.extproc.policy import make_providers
    from aion_extproc.gateway.bootstrap import render_bootstrap
    from aion_extproc.gateway.spec import make_spec

    return render_bootstrap(make_spec(settings, make_providers(settings).values(), run_dir))


def _settings(config: Path | None, demo_base_url: str) -> Settings:
    """From the named file, from ./aion.yaml, or from what is there."""
    path = _path(config)
    return _discovered(demo_base_url)[0] if path is None else _or_exit(lambda: _load(path))


def _path(config: Path | None) -> Path | None:
    return config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)


def _load(path: Path) -> Settings:
    from aion_extproc.config.load import load

    return load(path)


def _or_exit(read: Callable[[], T]) -> T:
    try:
        return read()
    except ConfigError as error:
        err.print(str(error), markup=False)
        raise typer.Exit(2) from None


def _discovered(demo_base_url: str) -> tuple[Settings, tuple[tuple[str, str], ...], bool]:
    """What there is, where each was found, and whether the demo stands in."""
    from aion_extproc.config.discover import discover

    discovery = discover(os.environ, demo_base_url)
    return discovery.settings, discovery.found, discovery.demo


def _override(settings: Settings, **given: int | None) -> Settings:
    """Options of the command line over the file's, checked the same way."""
    changed = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return settings
    gateway = type(settings.gateway).model_validate({**settings.gateway.model_dump(), **changed})
    return settings.model_copy(update={"gateway": gateway})


def _require_models(settings: Settings) -> None:
    if not settings.enabled_providers:
        err.print("[red]aion:[/] no provider is enabled; add one under providers in aion.yaml")
        raise typer.Exit(2)


if __name__ == "__main__":
    app()
