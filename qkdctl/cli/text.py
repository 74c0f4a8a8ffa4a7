"""How values are written for people; nothing here is meant to be parsed."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

UNKNOWN = "-"


def percent(share: float | None) -> str:
    """Write a share of 1 in per cent, with as many digits as its size deserves."""
    if share is None or math.isnan(share):
        return UNKNOWN
    value = 100 * share
    return (
        f"{value:.3f} %"
        if abs(value) < 0.1
        else f"{value:.2f} %"
        if value < 10
        else f"{value:.1f} %"
    )


def interval(estimate: Mapping[str, Any] | None) -> str:
    """Write a share with its 90 % interval, in per cent."""
    if estimate is None or estimate["value"] is None:
        return UNKNOWN
    low, high = percent(estimate["low"]), percent(estimate["high"])
    return f"{percent(estimate['value'])} ({low} to {high})"


def percentage_points(excess: float | None) -> str:
    """Write a difference of two shares in percentage points."""
    return UNKNOWN if excess is None else f"{100 * excess:.3f} pp"


def excess(found: Mapping[str, Any]) -> str:
    """Write the expected excess QBER, with the bound that holds with 90 % probability."""
    expected, quantile = found.get("expected_excess"), found.get("excess_q90")
    if expected is None:
        return UNKNOWN
    shown = f"{percentage_points(expected)} expected"
    return shown if quantile is None else f"{shown}, 90 % below {percentage_points(quantile)}"


def limit_excess(found: Mapping[str, Any]) -> str:
    """Write the least excess QBER that any tracker could reach; nothing where it is not known."""
    expected, limit = found.get("expected_excess"), found.get("limit_excess")
    if expected is None or not limit:
        return ""
    return f"{percentage_points(limit)}, {expected / limit:.1f} times"


def held_excess(found: Mapping[str, Any]) -> str:
    """Write the expected excess QBER beside the least that any tracker could reach."""
    shown, limit = percentage_points(found.get("expected_excess")), limit_excess(found)
    return f"{shown}, limit {limit}" if limit else shown


def key_rate(found: Mapping[str, Any]) -> str:
    """Write the live secret key rate with its 90 % interval; nothing where there is none."""
    rate = found.get("key_rate")
    if rate is None:
        return ""
    value, low, high = (f"{rate['bits_per_s'][each]:.3g}" for each in ("value", "low", "high"))
    return f"{value} bit/s ({low} to {high})"


def trackers(tracking: Mapping[str, Any] | None) -> str:
    """Say what is held, how each fares, and what disturbs them; nothing where nothing is held."""
    if tracking is None:
        return ""
    shown = ", ".join(f"{name} {each['state']}" for name, each in tracking["trackers"].items())
    disturbance = tracking["disturbance"]
    return shown if disturbance is None else f"{shown} ({disturbance})"


def key_cost(tracking: Mapping[str, Any] | None) -> str:
    """Say what tracking costs in key, and what it may cost; nothing where nothing is held."""
    if tracking is None:
        return ""
    allowed = tracking["max_key_cost"]
    limit = "" if allowed is None else f" of {percent(allowed)} allowed"
    return (
        f"{percent(tracking['key_cost'])} of the key{limit}: "
        f"{percent(tracking['looked_at_share'])} looked at, "
        f"dither {percentage_points(tracking['dither_qber'])}"
    )


def count(number: float | None) -> str:
    """Write a count with its thousands apart."""
    return UNKNOWN if number is None else f"{round(number):,}".replace(",", " ")


def duration(seconds: float) -> str:
    """Write a duration in its two largest units."""
    whole = max(0, round(seconds))
    for size_s, unit, smaller_s, smaller in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size_s:
            return f"{whole // size_s} {unit} {whole % size_s // smaller_s} {smaller}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def clock_time(time_s: float) -> str:
    """Write a time stamp as local date and time."""
    return datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def value(number: float | None, unit: str = "") -> str:
    """Write a setting with its unit."""
    return UNKNOWN if number is None else f"{number:.4g} {unit}".rstrip()


def setting(values: Mapping[Any, float | None]) -> str:
    """Write several settings on one line."""
    return ", ".join(f"{name} {value(number)}" for name, number in values.items()) or UNKNOWN


def feed(found: Mapping[str, Any] | None) -> str:
    """Say what has become of the windows that the QKD stack posted."""
    if found is None:
        return ""
    shown = [f"{found['accepted']} windows"]
    refused = sum(found["refused"].values())
    wrong = (refused, "refused"), (found["missing"], "missing"), (found["dropped"], "dropped")
    shown += [f"{number} {what}" for number, what in wrong if number]
    if found["delay_s"] is not None:
        shown.append(f"{found['delay_s']:.1f} s late")
    return ", ".join(shown)


def inverted(bases: Sequence[str]) -> str:
    """Say which bases are inverted; nothing where none is."""
    return f"bits of {' and '.join(bases)}" if bases else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns as wide as their widest cell; the last one is left ragged."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """Lay out names and values, one pair a line."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name.ljust(width)}  {text}".rstrip() for name, text in pairs)


def event(row: Mapping[str, Any]) -> str:
    """Say in one line what an event was."""
    return f"{clock_time(row['time_s'])}  {row['kind']:<11}  {event_details(row)}"


def event_details(row: Mapping[str, Any]) -> str:
    """Say what an event was, without its time and kind."""
    match row:
        case {"kind": "state", "state": state, "reason": reason}:
            return f"{state}: {reason}" if reason else str(state)
        case {"kind": "alarm", "name": name, "text": text, "is_active": False}:
            return f"{name} is over: {text}"
        case {"kind": "alarm", "name": name, "text": text}:
            return f"{name}: {text}"
        case {"kind": "tracking", "state": state}:
            return f"{state}; excess {held_excess(row)}"
        case {"kind": "key-cost"}:
            return f"tracking costs {key_cost(row)}"
        case {"kind": "note", "text": text}:
            return str(text)
        case {"kind": "setting", "setting": Mapping() as values, "by": origin}:
            return f"{setting(values)} (by {origin})"
        case {"kind": "inverted", "inverted": [*bases]}:
            return f"{inverted(bases) or 'no bits'} are inverted from now on"
        case {"kind": "window", "qber": qber, "photons": photons}:
            return f"QBER {interval(qber)}, {count(photons)} photons"
        case {"kind": "calibration", "stage": stage, "figure": Mapping(), "reason": reason}:
            return f"{stage} {row['outcome']}: {reason}"
        case {"kind": "calibration", "stage": stage, "outcome": outcome}:
            return f"{stage} {outcome}; QBER now {interval(row.get('qber_after'))}"
        case {"kind": "progress", "stage": stage, "note": str(note), "qber": None}:
            return f"{stage}: {note}"
        case {"kind": "progress", "stage": stage, "phase": phase}:
            return f"{stage}: {phase}; QBER {interval(row.get('qber'))}"
        case _:
            return ", ".join(
                f"{name} {item}" for name, item in row.items() if name not in {"time_s", "kind"}
            )
