"""The commands. Each checks its arguments and hands over; heavy imports happen inside."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from detector.cli import offline, results, setup, simulate, verdicts
from detector.cli.evaluate import evaluate
from detector.cli.options import RequiredConfigFile
from detector.cli.tune import tune_app

app = typer.Typer(
    name="keywatch",
    help="Watches API keys in access logs and tells when one looks stolen or abused.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
results.alerts_app.command()(verdicts.confirm)
results.alerts_app.command()(verdicts.expected)
results.alerts_app.command()(verdicts.withdraw)
setup.keys_app.command()(verdicts.reset)
setup.keys_app.command()(verdicts.accept)
app.add_typer(results.alerts_app, name="alerts")
app.add_typer(results.checkpoint_app, name="checkpoint")
app.add_typer(setup.keys_app, name="keys")
app.add_typer(setup.config_app, name="config")
app.add_typer(tune_app, name="tune")
app.command()(offline.replay)
app.command()(simulate.simulate)
app.command()(evaluate)
app.command()(results.explain)
app.command()(setup.validate)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"keywatch {installed('keywatch')}\n")
        raise typer.Exit


@app.command()
def run(config: RequiredConfigFile) -> None:
    """Watch a Kafka topic until stopped by SIGTERM or Ctrl-C (twice: at once)."""
    from detector import assembly
    from detector.config import load

    assembly.run_service(load(config))


@app.command()
def warm() -> None:
    """Compile the kernels into the cache, so that the next start takes a second."""
    from detector import assembly
    from detector.config import Config

    assembly.warm_kernels(assembly.make_engine(Config(), None, bytes(32)))


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another fleet.")] = 1,
) -> None:
    """Show everything at work on simulated traffic, with a broker of its own."""
    from detector.demo import run_demo

    raise typer.Exit(run_demo(seed))
