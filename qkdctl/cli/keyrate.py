"""``qkdctl keyrate``: what secret key a link could make, by formula and without a daemon."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qkdctl.cli import text
from qkdctl.cli.connection import as_json

if TYPE_CHECKING:
    from keyrate.comparison import Hardware

SHARE = click.FloatRange(0, 1)
ERROR = click.FloatRange(0, 0.5, max_open=True)

DESCRIBED = ("loss_db_per_km", "efficiency", "dark_probability", "misalignment", "correction")
"""Options that every command here has."""

PLOTTED = 201
"""Lengths of a curve in the picture."""


def _hardware_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe fibre and detectors; the command gets them as one object."""

    @click.option("--loss-db-per-km", type=click.FloatRange(0, min_open=True), default=0.2)
    @click.option("--efficiency", type=SHARE, default=0.2, help="Of a receiver, optics included.")
    @click.option("--dark-probability", type=SHARE, default=1e-7, help="Per gate and detector.")
    @click.option("--misalignment", type=ERROR, default=0.01, help="Optical error rate.")
    @click.option("--correction", type=click.FloatRange(1), default=1.16, help="f, at least 1.")
    @wraps(command)
    def with_hardware(**given: Any) -> None:
        from keyrate.comparison import Hardware

        described = {name: given.pop(name) for name in DESCRIBED}
        command(Hardware(**described), **given)

    return with_hardware


@click.group(context_settings={"show_default": True})
def keyrate() -> None:
    """Secret key rates of protocols, by formula (docs/key-rates.md)."""


@keyrate.command()
@click.argument("length_km", type=click.FloatRange(0))
@_hardware_options
@as_json
def table(hardware: "Hardware", length_km: float, as_json: bool) -> None:
    """Compare all protocols at LENGTH_KM of fibre, each at its best setting."""
    from keyrate.comparison import compare

    curves = compare(hardware, length_km)
    rows: list[dict[str, Any]] = [
        {
            "protocol": name,
            "bits_per_pulse": float(curve.bits_per_pulse[0]),
            "share_of_ceiling": float(curve.bits_per_pulse[0] / curve.ceiling[0]),
            "security_class": curve.security_class,
        }
        for name, curve in curves.items()
    ]
    if as_json:
        click.echo(json.dumps({"length_km": length_km, "hardware": asdict(hardware), "rows": rows}))
        return
    rows.sort(key=lambda row: (row["security_class"] != "general", -_number(row)))
    click.echo(
        text.table(
            ("protocol", "bit/pulse", "of its ceiling", "holds against"),
            [
                (
                    str(row["protocol"]),
                    f"{_number(row):.3g}" if _number(row) > 0 else "no key",
                    text.percent(row["share_of_ceiling"] if _number(row) > 0 else None),
                    f"{row['security_class']} attacks",
                )
                for row in rows
            ],
        )
    )


@keyrate.command()
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Picture to save."
)
@click.option("--to-km", type=click.FloatRange(0, min_open=True), default=500.0, help="Longest.")
@_hardware_options
def plot(hardware: "Hardware", out: Path, to_km: float) -> None:
    """Draw the rate of every protocol over distance, with the ceilings."""
    import numpy as np

    from keyrate.comparison import compare
    from qkdctl.key_rate_plot import draw_rates

    lengths_km = np.linspace(0.0, to_km, PLOTTED)
    try:
        draw_rates(hardware, lengths_km, compare(hardware, lengths_km), out)
    except (OSError, ValueError) as exc:
        raise click.ClickException(f"cannot save {out}: {exc}") from None
    click.echo(f"saved {out}")


@keyrate.command()
@click.argument("length_km", type=click.FloatRange(0))
@click.option("--pulses", type=click.FloatRange(1), default=1e11, help="Sent per block.")
@click.option("--secrecy", type=SHARE, default=1e-10, help="Chance that the key is not secret.")
@click.option("--correctness", type=SHARE, default=1e-15, help="Chance that both keys differ.")
@click.option("--afterpulses", type=SHARE, default=0.0, help="Per click.")
@_hardware_options
@as_json
def block(
    hardware: "Hardware",
    length_km: float,
    pulses: float,
    secrecy: float,
    correctness: float,
    afterpulses: float,
    as_json: bool,
) -> None:
    """Choose intensities and probabilities of decoy-state BB84 for a finite block."""
    import numpy as np

    from keyrate.finite import Security
    from keyrate.link import WeakCoherentLink
    from keyrate.parameters import best_two_decoys

    if min(secrecy, correctness) <= 0:
        raise click.UsageError("secrecy and correctness must be above 0")
    link = WeakCoherentLink(
        hardware.efficiency * float(hardware.fibre(length_km)),
        2 * hardware.dark_probability,
        hardware.misalignment,
        afterpulses,
    )
    best = best_two_decoys(link, pulses, Security(secrecy, correctness, hardware.correction))
    means, chances = (
        np.asarray(each, dtype=float).tolist()
        for each in (best.source.mean_photons, best.source.probabilities)
    )
    found: dict[str, Any] = {
        "secret_bits": float(best.length.bits),
        "bits_per_pulse": max(best.bits_per_pulse, 0.0),
        "key_basis_probability": best.key_basis_probability,
        "mean_photons": means,
        "probabilities": chances,
        "phase_error": float(best.length.phase_error),
        "leak_bits": float(best.length.leak),
    }
    if as_json:
        click.echo(json.dumps({"length_km": length_km, "pulses": pulses, **found}))
    elif found["secret_bits"] == 0:
        click.echo(
            f"no key from {pulses:.3g} pulses over {length_km:g} km: send more, or go nearer"
        )
    else:
        click.echo(text.fields(_lines(found)))


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            "secret bits",
            f"{text.count(found['secret_bits'])} ({found['bits_per_pulse']:.3g}/pulse)",
        ),
        ("key basis", f"chosen with probability {found['key_basis_probability']:.3f}"),
        ("intensities", ", ".join(f"{each:.4g}" for each in found["mean_photons"])),
        ("sent with", ", ".join(text.percent(each) for each in found["probabilities"])),
        ("phase error", text.percent(found["phase_error"])),
        ("told", f"{text.count(found['leak_bits'])} bits by error correction"),
    ]


def _number(row: dict[str, Any]) -> float:
    return float(row["bits_per_pulse"])
