"""How reports on time tags are written for people."""

from collections.abc import Mapping
from typing import Any

from qkdctl.cli import text

MOST_BINS_SHOWN = 20


def info_text(found: Mapping[str, Any]) -> str:
    """What is in one file."""
    duration_s, order = found["duration_s"], "" if found["is_in_order"] else ", NOT in order"
    pairs = [
        ("file", f"{found['file']} ({text.count(found['bytes'])} bytes)"),
        ("format", f"{found['format']}: {found['title']}"),
        ("tags", text.count(found["tags"])),
    ]
    if found["tags"]:
        span = f"{found['first_ps']} ps to {found['last_ps']} ps"
        pairs.append(("time", f"{span} ({text.value(duration_s, 's')}{order})"))
    has_rate = duration_s and found["is_in_order"]
    for channel, tags_ in found["channels"].items():
        rate = f", {text.value(tags_ / duration_s, 'Hz')}" if has_rate else ""
        pairs.append((f"channel {channel}", f"{text.count(tags_)}{rate}"))
    pairs += [(name, str(value)) for name, value in found["metadata"].items() if value != ""]
    for place in found["damage"]:
        lost = f" ({text.count(place['count'])} lost)" if place["count"] else ""
        pairs.append(("DAMAGE", f"at byte {place['offset']}: {place['problem']}{lost}"))
    return text.fields(pairs)


def rates_text(report: Mapping[str, Any]) -> str:
    """Rates of each channel, and the first bins."""
    rows = [
        (str(each["channel"]), text.count(each["tags"]), text.value(each["rate_hz"]))
        for each in report["channels"]
    ]
    whole = text.table(("CHANNEL", "TAGS", "RATE, HZ"), rows)
    channels = report["channels"]
    bins = len(channels[0]["rates_hz"]) if channels else 0
    shown = [
        (f"{at * report['bin_s']:g}", *(text.value(each["rates_hz"][at]) for each in channels))
        for at in range(min(bins, MOST_BINS_SHOWN))
    ]
    header = ("FROM, S", *(f"{each['channel']}, HZ" for each in channels))
    more = f"\n... and {bins - MOST_BINS_SHOWN} more bins: --json" * (bins > MOST_BINS_SHOWN)
    return f"{whole}\n\n{text.table(header, shown)}{more}"


def histogram_text(report: Mapping[str, Any]) -> str:
    """A histogram in short, with the dead time."""
    counts = report["counts"]
    highest = max(range(len(counts)), key=counts.__getitem__)
    pairs = [
        ("differences", text.count(report["total"])),
        ("beyond", text.count(report["longer"])),
        ("highest bin", f"{highest * report['bin_ps']} ps: {text.count(counts[highest])}"),
    ]
    dead_time = report.get("dead_time")
    if dead_time:
        dead_ns, error_ns = dead_time["dead_time_ps"] / 1e3, dead_time["dead_time_error_ps"] / 1e3
        pairs += [
            ("dead time", f"{dead_ns:.4g} ns +- {error_ns:.2g} ns"),
            ("afterpulsing", text.percent(max(dead_time["afterpulse"], 0.0))),
            ("rate if ready", text.value(dead_time["rate_hz"], "Hz")),
        ]
    elif report.get("why_not"):
        pairs.append(("dead time", f"unknown: {report['why_not']}"))
    return text.fields([*pairs, ("bins", "--json or --plot")])


def g2_text(report: Mapping[str, Any]) -> str:
    """A second-order correlation in short."""
    at_zero = len(report["lags_ps"]) // 2
    g2, error = report["g2"][at_zero], report["g2_error"][at_zero]
    shown = text.UNKNOWN if g2 is None else f"{g2:.4g} +- {error:.2g}"
    pairs = [
        ("g2 at zero", shown),
        ("bin", f"{report['bin_ps']} ps"),
        ("singles", ", ".join(text.count(each) for each in report["singles"])),
        ("time", text.value(report["duration_s"], "s")),
        ("bins", "--json or --plot"),
    ]
    return text.fields(pairs)


def pairs_text(report: Mapping[str, Any]) -> str:
    """Coincidences, and how the clocks were brought together."""
    clock = report["clock"]
    pairs = []
    if clock:
        offset = f"{clock['offset_ps'] / 1e3:.3f} ns +- {clock['offset_error_ps'] / 1e3:.2g} ns"
        pairs = [
            ("offset", f"{offset} at {clock['reference_ps']} ps"),
            ("drift", f"{clock['drift_ppm']:.6g} ppm +- {clock['drift_error_ppm']:.2g} ppm"),
            ("jitter", f"{clock['spread_ps']:.3g} ps (standard deviation of the pairs)"),
        ]
    else:
        pairs.append(("delay", f"{report['delay_ps']} ps"))
    true = f"{report['true_pairs']:.6g} +- {report['true_pairs_error']:.3g}"
    visibility = (
        text.UNKNOWN
        if report["visibility"] is None
        else f"{report['visibility']:.4f} +- {report['visibility_error']:.2g}"
    )
    pairs += [
        ("window", f"{report['window_ps']} ps"),
        ("pairs", text.count(report["pairs"])),
        ("accidental", f"{report['accidentals']:.4g} +- {report['accidentals_error']:.2g}"),
        ("true pairs", true),
        ("visibility", visibility),
        ("CAR", text.value(report["coincidence_to_accidental"])),
        ("singles", ", ".join(text.count(each) for each in report["singles"])),
        ("heralding", ", ".join(text.percent(share) for share in report["efficiencies"])),
        ("time", text.value(report["duration_s"], "s")),
    ]
    return text.fields(pairs)


def fold_text(report: Mapping[str, Any]) -> str:
    """Counts per slot, or by the state sent."""
    header = [f"CH {channel}" for channel in report["channels"]]
    if "table" in report:
        rows = [
            (state, *map(text.count, row))
            for state, row in zip(report["states"], report["table"], strict=True)
        ]
        table = text.table(("SENT", *header), rows)
    else:
        shown = report["counts"][:MOST_BINS_SHOWN]
        table = text.table(
            ("SLOT", *header), [(str(at), *map(text.count, row)) for at, row in enumerate(shown)]
        )
        more = len(report["counts"]) - len(shown)
        table += f"\n... and {more} more slots: --json" if more else ""
    outside = ", ".join(text.count(each) for each in report["outside"])
    return f"{table}\n\noutside the gates: {outside}; other channels: {text.count(report['other'])}"


def record_text(report: Mapping[str, Any]) -> str:
    """What was recorded."""
    ended = f", ended early: {report['ended_by']}" if report["ended_by"] else ""
    return f"{report['file']}: {text.count(report['tags'])} tags{ended}"
