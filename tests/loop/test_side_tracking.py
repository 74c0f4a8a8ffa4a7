"""The null and the delays of a simulated bench held through the real drivers, in virtual time."""

import asyncio
import tomllib
from dataclasses import dataclass, field
from math import asin, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.clicks import STATES
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from qkdctl.config import parse_testbed
from qkdctl.receiver import PatternReceiver
from qkdctl.side_tracking import SideTracking
from qkdctl.simulate import build_bench, with_resources
from qkdctl.testbed import OpenTestbed
from sim import virtual_time
from sim.bench import SimulatedBench

FULL = Path(__file__).parents[2] / "examples" / "full-bench.toml"
BIAS, HALF_WAVE_V = "modulator-bias", 5.3
WINDOW_S = 0.5


def document() -> dict[str, Any]:
    """Less light, so that photons are soon drawn, and drifts that take a minute, not a day."""
    read = tomllib.loads(FULL.read_text())
    read["receiver"] |= {"delays_ps": read["simulation"]["delays_ps"], "expected_rate_hz": 2e4}
    read["simulation"] |= {
        "loss_db": 27.0,
        "modulator_drift_v_per_sqrt_s": 0.05,
        "delay_drift_ps_per_sqrt_s": 10.0,
    }
    return read


@dataclass
class Held:
    """What became of a bench; one entry per window.

    Attributes:
        off_v: Bias from the null, V.
        left_alone_v: What it would be had the bias stayed where it was, V.
        late_ps: Distance of each detector's light from its gate's centre, ps.
        left_alone_ps: What it would be had the gates stayed.
        settled_v: Bias at the end, dither taken away, from the one that is held, V.
        lost: Why a stage had to be run anew.
    """

    off_v: list[float] = field(default_factory=list)
    left_alone_v: list[float] = field(default_factory=list)
    late_ps: list[Any] = field(default_factory=list)
    left_alone_ps: list[Any] = field(default_factory=list)
    settled_v: float = 0.0
    lost: set[str] = field(default_factory=set)


async def hold(config: dict[str, Any], duration_s: float) -> Held:
    simulated = build_bench(parse_testbed(config, "file"), "file", 1000)
    served = simulated.in_memory(error=ChannelError)
    testbed = parse_testbed(with_resources(config, served.resources), "file")
    now = asyncio.get_running_loop().time
    bench = OpenTestbed(testbed, Connector(memory=served.channels), now)
    await bench.open()
    held = Held()
    try:
        await bench.apply({BIAS: null_v(simulated, now())})
        await bench.light.turn_on()
        side = SideTracking(bench, now)
        while now() < duration_s:
            window = await bench.measure_for(WINDOW_S)
            note(held, simulated, bench, now())
            held.lost |= {each.lost for each in await side.follow(window) if each.lost}
        await side.settle()
        held.settled_v = bench.confirmed[BIAS] - side.held()["bias"][BIAS]
    finally:
        await bench.make_safe()
        await bench.close()
    return held


def null_v(simulated: SimulatedBench, now_s: float) -> float:
    """Return the bias at which the empty pulses, which are driven a little, are emptiest."""
    modulator, nominal = simulated.twin.modulator, simulated.twin.source.mean_photons()
    floor = 10 ** (-modulator.settings.extinction_db / 10)
    drive_rad = asin(sqrt((nominal.min() / nominal.max() - floor) / (1 - floor)))
    return modulator.null_v(now_s) - 2 * HALF_WAVE_V / pi * drive_rad


def note(held: Held, simulated: SimulatedBench, bench: OpenTestbed, now_s: float) -> None:
    twin, receiver = simulated.twin, bench.receiver
    assert isinstance(receiver, PatternReceiver)
    held.off_v.append(bench.confirmed[BIAS] - null_v(simulated, now_s))
    held.left_alone_v.append(null_v(simulated, 0.0) - null_v(simulated, now_s))
    true_ps = np.array(twin.receiver.settings.delay_ps) + twin.late_ps(now_s)
    held.late_ps.append(true_ps - [receiver.delays_ps[detector] for detector in STATES])
    held.left_alone_ps.append(twin.late_ps(now_s))


def leak(off_v: list[float]) -> float:
    """Return the mean light of the empty pulses above the least, over that of the peak."""
    return float(np.mean(np.sin(pi * np.array(off_v) / (2 * HALF_WAVE_V)) ** 2))


def spread(late_ps: list[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(late_ps))))


def test_null_and_delays_are_held_while_they_drift() -> None:
    held = virtual_time.run(hold(document(), 60.0))

    assert held.lost == set()
    assert leak(held.off_v) < 0.002 < 0.005 < leak(held.left_alone_v)
    assert spread(held.late_ps[10:]) < 20 < 40 < spread(held.left_alone_ps)
    assert held.settled_v == pytest.approx(0.0, abs=1e-3)
