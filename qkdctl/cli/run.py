"""Commands that run something here instead of asking a daemon."""

import sys
from pathlib import Path

import click

from qkdctl.cli.connection import as_json

testbed_argument = click.argument("testbed", type=click.Path(path_type=Path))
file_path = click.Path(path_type=Path, dir_okay=False)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the simulated bench."
)


def seed_range(ctx: click.Context, param: click.Parameter, value: str) -> range:
    """Read ``A:B``: the seeds from A up to, not including, B."""
    first, _, end = value.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise click.BadParameter(f"{value!r} is not a range of seeds; write 0:60")
    return range(int(first), int(end))


def comma_list(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Split at commas; None means all."""
    return None if value is None else tuple(part.strip() for part in value.split(","))


@click.command()
@testbed_argument
@click.option("--connect", is_flag=True, help="Also ask each instrument who it is.")
@as_json
def check(testbed: Path, connect: bool, as_json: bool) -> None:
    """Find every mistake in a testbed file."""
    from qkdctl.check import run_check

    sys.exit(run_check(testbed, connect=connect, as_json=as_json))


@click.command()
@testbed_argument
@seed_option
@click.option("--write", type=file_path, help="Write the file with simulated resources here.")
@click.option("--control", type=file_path, metavar="SOCKET", help="Socket that injects faults.")
def simulate(testbed: Path, seed: int | None, write: Path | None, control: Path | None) -> None:
    """Serve the instruments that a testbed file names, simulated, until stopped."""
    from qkdctl.simulate import run_simulate

    sys.exit(run_simulate(testbed, seed=seed, write=write, control=control))


@click.command()
@testbed_argument
@click.option("--simulate", is_flag=True, help="Serve its instruments, simulated, in here as well.")
@seed_option
@click.option("--socket", type=file_path, help="Control socket instead of the usual one.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path, file_okay=False), help="Where history is kept."
)
@click.option("--trace", type=file_path, help="Write every byte to and from instruments here.")
def daemon(
    testbed: Path,
    simulate: bool,
    seed: int | None,
    socket: Path | None,
    state_dir: Path | None,
    trace: Path | None,
) -> None:
    """Run the daemon of one link in the foreground until stopped."""
    from qkdctl.daemon_main import run_daemon

    sys.exit(
        run_daemon(
            testbed, simulate=simulate, seed=seed, socket=socket, state_dir=state_dir, trace=trace
        )
    )


@click.command()
@seed_option
@as_json
@click.option("--plot", type=file_path, help="Save the picture here.")
@click.option("--testbed", type=file_path, help="Testbed file instead of the built-in one.")
def demo(seed: int | None, as_json: bool, plot: Path | None, testbed: Path | None) -> None:
    """Show the whole story on a simulated bench: align, hold, lose a cable, recover."""
    from qkdctl.demo import run_demo

    sys.exit(run_demo(seed=seed, as_json=as_json, plot=plot, testbed=testbed))


@click.command()
@click.argument("task")
@click.option(
    "--seeds",
    metavar="A:B",
    callback=seed_range,
    default="0:20",
    show_default=True,
    help="Seeds from A up to, not including, B.",
)
@click.option("--methods", callback=comma_list, help="Only these, with commas between.")
@click.option("--cases", callback=comma_list, help="Only these, with commas between.")
@click.option(
    "--budget-photons", type=click.IntRange(min=1), help="Detections that a run may look at."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes to share the runs among.")
@as_json
@click.option("--plot", type=file_path, help="Save the figures as a picture.")
def bench(
    task: str,
    seeds: range,
    methods: tuple[str, ...] | None,
    cases: tuple[str, ...] | None,
    budget_photons: int | None,
    jobs: int | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Run benchmark TASK over a range of seeds and print its figures."""
    from benchmarks.run import run_bench

    options = {"budget_photons": budget_photons, "jobs": jobs}
    given = {name: value for name, value in options.items() if value is not None}
    sys.exit(run_bench(task, seeds, methods, cases, as_json=as_json, plot=plot, **given))
