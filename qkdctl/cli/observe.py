"""Commands that look and change nothing."""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from qkdctl.cli import text
from qkdctl.cli.connection import as_json, with_daemon
from qkdctl.client import DaemonClient

KINDS = ("windows", "trials", "events", "calibrations")

FREQUENT = ("window", "tracking", "progress")
"""Kinds of event that ``events --follow`` shows only when they are asked for."""

SECONDS_IN = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@as_json
@with_daemon
def status(daemon: DaemonClient, as_json: bool) -> None:
    """Tell state, QBER, light, instruments and setting at a glance."""
    found = daemon.call("status")
    click.echo(json.dumps(found) if as_json else _status_text(found))


def _status_text(found: Mapping[str, Any]) -> str:
    since = text.duration(found["now_s"] - found["since_s"])
    light = {True: "on", False: "shut", None: "UNKNOWN"}[found["light_on"]]
    pairs = [
        ("link", found["link"]),
        ("state", f"{found['state']} for {since}"),
        ("", found["reason"] or ""),
        ("light", light),
        ("QBER", text.interval(found["qber"])),
        ("  Z basis", text.interval(found["qber_z"])),
        ("  X basis", text.interval(found["qber_x"])),
        ("excess", text.excess(found)),
        ("  limit", text.limit_excess(found)),
        ("key rate", text.key_rate(found)),
        ("trackers", text.trackers(found.get("tracking"))),
        ("key cost", text.key_cost(found.get("tracking"))),
        *(("alarm", f"{name}: {said}") for name, said in found.get("alarms", {}).items()),
        ("detections", f"{text.count(found['detection_rate_hz'])} per second"),
        ("setting", text.setting(found["setting"])),
        ("inverted", text.inverted(found.get("inverted", ()))),
        ("feed", text.feed(found.get("feed"))),
        ("instruments", _instruments_text(found["instruments"])),
        ("calibrated", _calibration_text(found["last_calibration"], found["now_s"])),
        ("last run", found["last_run"] or ""),
    ]
    return text.fields([(name, shown) for name, shown in pairs if shown])


def _instruments_text(instruments: Mapping[str, Mapping[str, Any]]) -> str:
    failing = [f"{name} FAILS: {at['error']}" for name, at in instruments.items() if not at["ok"]]
    fine = [name for name, at in instruments.items() if at["ok"]]
    return "; ".join([*failing, f"{', '.join(fine)} ok"] if fine else failing)


def _calibration_text(last: Mapping[str, Any] | None, now_s: float) -> str:
    if last is None:
        return "not since the start"
    ago = f", {text.duration(now_s - last['time_s'])} ago" if "time_s" in last else ""
    return text.event_details({"kind": "calibration", **last}) + ago


@click.command()
@as_json
@with_daemon
def knobs(daemon: DaemonClient, as_json: bool) -> None:
    """List knobs with their last confirmed setting and their limits."""
    found = daemon.call("knobs")
    if as_json:
        click.echo(json.dumps({"knobs": found}))
        return
    rows = [
        (
            knob["name"],
            text.value(knob["value"], knob["unit"]),
            f"{knob['minimum']:g} to {knob['maximum']:g} {knob['unit']}",
            f"{knob['instrument']}, channel {knob['channel']}",
        )
        for knob in found
    ]
    click.echo(text.table(("NAME", "SETTING", "LIMITS", "AT"), rows))


def time_span(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a time span such as ``90s``, ``15min``, ``2h`` or ``3d``, in seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)?", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time span; write 90s, 15min, 2h or 3d")
    return float(match[1]) * SECONDS_IN[match[2] or "s"]


limit_option = click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="Newest rows."
)
since_option = click.option(
    "--since", metavar="SPAN", callback=time_span, help="Only this recent, e.g. 15min."
)


@click.command()
@click.argument("kind", type=click.Choice(KINDS), default="windows")
@limit_option
@since_option
@as_json
@with_daemon
def history(
    daemon: DaemonClient, kind: str, limit: int, since: float | None, as_json: bool
) -> None:
    """Show the record, oldest first: KIND is windows, trials, events or calibrations."""
    found = _read_history(daemon, kind, limit, since)
    if as_json:
        click.echo(json.dumps(found))
    elif not found["rows"]:
        click.echo(f"no {kind} on record", err=True)
    else:
        click.echo(_history_text(kind, found["rows"]))


def _read_history(daemon: DaemonClient, kind: str, limit: int, since: float | None) -> Any:
    since_s = 0.0 if since is None else time.time() - since
    return daemon.call("history", kind=kind, limit=limit, since_s=since_s)


def _history_text(kind: str, rows: list[dict[str, Any]]) -> str:
    match kind:
        case "windows":
            header = ("TIME", "QBER", "Z BASIS", "X BASIS", "PHOTONS", "FLAGS")
            return text.table(header, [_window_row(row) for row in rows])
        case "trials":
            header = ("TIME", "STUDY", "TRIAL", "STATE", "QBER", "SETTING")
            return text.table(header, [_trial_row(row) for row in rows])
        case _:
            return "\n".join(text.event(row) for row in rows)


def _window_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        text.clock_time(row["time_s"]),
        text.interval(row["qber"]),
        text.percent(row["qber_z"]["value"]),
        text.percent(row["qber_x"]["value"]),
        text.count(row["photons"]),
        " ".join(row["flags"]),
    )


def _trial_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    columns = {"time_s", "study", "number", "state", "value", "ended_s"}
    values = {
        name: number
        for name, number in row.items()
        if name not in columns and isinstance(number, int | float)
    }
    return (
        text.clock_time(row["time_s"]),
        row["study"],
        str(row["number"]),
        row["state"],
        text.percent(row["value"]),
        text.setting(values),
    )


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind of event; may be repeated.")
@limit_option
@since_option
@as_json
@with_daemon
def events(
    daemon: DaemonClient,
    follow: bool,
    kinds: tuple[str, ...],
    limit: int,
    since: float | None,
    as_json: bool,
) -> None:
    """Show what happened: states, alarms, settings, calibrations.

    With --follow --json one object is printed per line. Windows, tracking and progress are shown
    only with --follow and --kind window, --kind tracking or --kind progress.
    """
    if follow:
        with suppress(KeyboardInterrupt):
            _follow(daemon, kinds, as_json)
        return
    rows = _read_history(daemon, "events", limit, since)["rows"]
    rows = [row for row in rows if not kinds or row["kind"] in kinds]
    click.echo(json.dumps({"events": rows}) if as_json else "\n".join(map(text.event, rows)))


def _follow(daemon: DaemonClient, kinds: tuple[str, ...], as_json: bool) -> None:
    """Print events until Ctrl-C, which is the usual end."""
    for message in daemon.stream("subscribe"):
        parameters = message["params"]
        if message["method"] == "lost":
            click.echo(f"{parameters['count']} events lost: this reader is too slow", err=True)
            continue
        del parameters["id"]
        if parameters["kind"] in kinds or (not kinds and parameters["kind"] not in FREQUENT):
            click.echo(json.dumps(parameters) if as_json else text.event(parameters))


@click.command()
@with_daemon
def watch(daemon: DaemonClient) -> None:
    """Watch QBER per basis over time, knobs, counts and state; q or Ctrl-C ends.

    Where the output is no terminal, one picture is printed.
    """
    from qkdctl.watch import watch as watch_daemon

    with suppress(KeyboardInterrupt):
        watch_daemon(daemon.path)


@click.command()
def api() -> None:
    """Print the control API as an OpenRPC document."""
    from qkdctl.verbs import openrpc

    click.echo(json.dumps(openrpc(), indent=2))
