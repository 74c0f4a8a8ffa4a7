"""Commands that change something: the operator's hand, through the daemon's own limits."""

import json
import time
from typing import Any

import click

from qkdctl.cli import text
from qkdctl.cli.connection import FAILED, Failure, as_json, with_daemon
from qkdctl.client import DaemonClient

STOP_TIMEOUT_S = 30.0
STOP_PERIOD_S = 0.02


@click.group()
def knob() -> None:
    """Set a knob by hand."""


@knob.command("set", context_settings={"ignore_unknown_options": True})  # -1.5 is no option
@click.argument("name")
@click.argument("value", type=float)
@as_json
@with_daemon
def knob_set(daemon: DaemonClient, name: str, value: float, as_json: bool) -> None:
    """Set knob NAME to VALUE, in its own unit, and print what it settled on."""
    settled = daemon.call("knob_set", name=name, value=value)
    shown = f"{settled['name']}: {text.value(settled['value'], settled['unit'])}"
    click.echo(json.dumps(settled) if as_json else shown)


@click.command()
@as_json
@with_daemon
def safe(daemon: DaemonClient, as_json: bool) -> None:
    """Shut the light, take voltages to rest and stay there."""
    _print_state(daemon.call("safe"), as_json)


@click.command()
@as_json
@with_daemon
def resume(daemon: DaemonClient, as_json: bool) -> None:
    """Leave the safe state and go on from the last good setting, or with a paused calibration."""
    _print_state(daemon.call("resume"), as_json)


@click.command()
@as_json
@with_daemon
def stop(daemon: DaemonClient, as_json: bool) -> None:
    """Make the bench safe and end the daemon; returns once it has ended."""
    state = daemon.call("stop")
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while daemon.path.exists() and daemon.is_daemon_alive():  # its socket is the last to go
        if time.monotonic() > deadline_s:
            raise Failure(f"the bench is safe, but the daemon still holds {daemon.path}")
        time.sleep(STOP_PERIOD_S)
    _print_state(state, as_json)


def _print_state(state: dict[str, Any], as_json: bool) -> None:
    shown = f"{state['state']}: {state['reason']}" if state["reason"] else state["state"]
    click.echo(json.dumps(state) if as_json else shown)


@click.command()
@click.argument("stages", metavar="[STAGE]...", nargs=-1)
@click.option(
    "--continue",
    "is_continued",
    is_flag=True,
    help="Go on with the counts of the latest run of STAGE that did not come to its end.",
)
@click.option(
    "--outer",
    metavar="FIGURE",
    help="Tune the link's knobs together, after STAGEs if any: key-rate.",
)
@as_json
@with_daemon
def calibrate(
    daemon: DaemonClient,
    stages: tuple[str, ...],
    is_continued: bool,
    outer: str | None,
    as_json: bool,
) -> None:
    """Run calibration stages, with live progress on stderr.

    Without STAGE everything that the link needs is run in order; what a quick look shows to be
    still good is skipped, and a stage that fails ends the run.

    Ctrl-C cancels and waits until the old setting is back in force; a second Ctrl-C leaves at
    once, and the daemon goes on restoring by itself.
    """
    from qkdctl.cli.calibration import follow_calibration, report_text

    if outer is not None:
        stages = (*stages, outer)
    report = follow_calibration(daemon, stages, is_continued=is_continued)
    click.echo(json.dumps(report) if as_json else report_text(report))
    if any(result["outcome"] not in {"accepted", "skipped"} for result in report["results"]):
        raise SystemExit(FAILED)


@click.command()
@click.option("--keep-light", "keeps_light", is_flag=True, help="Leave the light on meanwhile.")
@as_json
@with_daemon
def pause(daemon: DaemonClient, keeps_light: bool, as_json: bool) -> None:
    """Pause the calibration before its next window and shut the light; see 'resume'."""
    _print_state(daemon.call("pause", keeps_light=keeps_light), as_json)


@click.command()
@as_json
@with_daemon
def finish(daemon: DaemonClient, as_json: bool) -> None:
    """End the calibration's search now, and keep its best point if fresh windows confirm it."""
    _print_state(daemon.call("finish"), as_json)


@click.command()
@as_json
@with_daemon
def cancel(daemon: DaemonClient, as_json: bool) -> None:
    """Cancel the calibration under way, also one whose client has gone away."""
    found = daemon.call("cancel")
    click.echo(json.dumps(found) if as_json else "cancelled; the old setting is back in force")
