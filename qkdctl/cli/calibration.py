"""A calibration as the operator sees it: live progress on stderr, then a summary."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from qkdctl.cli import text
from qkdctl.client import DaemonClient, Stream

Show = Callable[[Mapping[str, Any]], None]

CANCELLING = "cancelling: waiting until the old setting is back in force"


def follow_calibration(
    daemon: DaemonClient, stages: Sequence[str], *, is_continued: bool = False
) -> dict[str, Any]:
    """Run stages, show their progress, return the report."""
    stream = daemon.stream("calibrate", stages=list(stages), is_continued=is_continued)
    with _cancel_on_interrupt(stream), _display() as show:
        for message in stream:
            if message["method"] == "progress":
                show(message["params"])
    report: dict[str, Any] = stream.result
    return report


@contextmanager
def _cancel_on_interrupt(stream: Stream) -> Iterator[None]:
    """Turn the first Ctrl-C into a cancellation; a second one interrupts as usual."""

    def cancel(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stream.cancel()
        click.echo(CANCELLING, err=True)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _display() -> Iterator[Show]:
    """Show progress in place on a terminal, line by line elsewhere."""
    if not sys.stderr.isatty():
        yield lambda progress: click.echo(progress_line(progress), err=True)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), transient=True) as live:
        yield lambda progress: live.update(Text(progress_text(progress)), refresh=True)


def progress_line(progress: Mapping[str, Any]) -> str:
    """Write progress on one line."""
    parts = [f"{progress['stage']}: {progress['phase']}"]
    if progress.get("qber"):
        parts.append(f"QBER {text.interval(progress['qber'])}")
    parts += [
        f"{text.count(progress.get('photons'))} photons",
        f"{text.count(progress.get('settings'))} settings",
    ]
    if progress.get("expected_excess") is not None:
        parts.append(f"excess {text.excess(progress)}")
    if progress.get("note"):
        parts.append(progress["note"])
    return ", ".join(parts)


def progress_text(progress: Mapping[str, Any]) -> str:
    """Write progress as a small table."""
    spent = f"{text.count(progress.get('photons'))} photons, {progress.get('settings')} settings"
    return text.fields(
        [
            (progress["stage"], f"{progress['phase']} {progress.get('note') or ''}"),
            ("QBER", text.interval(progress.get("qber"))),
            ("excess", text.excess(progress)),
            ("spent", f"{spent}, {text.duration(progress.get('elapsed_s', 0))}"),
            ("setting", text.setting(progress.get("setting") or {})),
        ]
    )


def report_text(report: Mapping[str, Any]) -> str:
    """Write what a calibration came to, stage by stage."""
    return "\n\n".join(map(_result_text, report["results"]))


def _result_text(result: Mapping[str, Any]) -> str:
    outcome = str(result["outcome"])
    has_figure = bool(result.get("figure"))
    if result.get("reason") and (has_figure or outcome != "accepted"):  # else what follows says it
        outcome = f"{outcome}: {result['reason']}"
    pairs = [(result.get("stage") or "calibration", outcome)]
    if has_figure:
        pairs.append(("spent", _cost_text(result)))
    elif result.get("photons") and "qber_after" in result:
        pairs += [
            ("QBER before", text.interval(result.get("qber_before"))),
            ("QBER after", text.interval(result.get("qber_after")) + _predicted_text(result)),
            ("excess", text.excess(result)),
            ("bound", _bound_text(result)),
            ("spent", _cost_text(result)),
        ]
    if result.get("setting"):
        pairs.append(("setting", text.setting(result["setting"])))
    if result.get("inverted"):
        pairs.append(("inverted", text.inverted(result["inverted"])))
    return text.fields(pairs)


def _predicted_text(result: Mapping[str, Any]) -> str:
    predicted = result.get("predicted_qber")
    return "" if predicted is None else f", {text.percent(predicted)} predicted"


def _bound_text(result: Mapping[str, Any]) -> str:
    """Say how far the result is from what the best design could reach."""
    excess, bound = result.get("expected_excess"), result.get("excess_bound")
    if not bound:
        return text.UNKNOWN
    shown = f"{text.percentage_points(bound)} with as many photons"
    return shown if excess is None else f"{shown}; this is {excess / bound:.1f} times that"


def _cost_text(result: Mapping[str, Any]) -> str:
    photons, settings = text.count(result.get("photons")), text.count(result.get("settings"))
    return f"{photons} photons, {settings} settings, {text.duration(result.get('duration_s', 0))}"
