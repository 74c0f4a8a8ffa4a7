"""The detector stage: the bias of each detector at which the link makes most key.

At a few biases all detectors are counted with light and without; a plateau curve is fitted to each
detector's counts, and the biases are chosen that maximise the secret key rate of the link: more
efficiency is worth dark counts and afterpulses up to a point. Afterpulses come from clicks outside
of the gates, where light brings more of them than darkness does.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from calibration.account import Account, StageBudget
from calibration.bench import Bench
from calibration.clicks import STATES, Window
from calibration.link_model import Counted, LinkModel, afterpulse_share
from calibration.plateau import BiasLook, PlateauCurve, fit_plateau
from calibration.signal_run import Figure, PreconditionError

STAGE = "detector"

GRID = 201
ROUNDS = 3
"""Biases compared for each detector, and how often all detectors are gone through."""

BLIND_SHARE = 0.05
"""A detector that counts less than this share of its best is blind: it latched, or it died."""

MOST_OUTSIDE = 0.3
"""Share of the clicks outside of the gates above which the delays are wrong."""

DRAWS = 400
"""Poisson draws from which the interval of the key rate is taken."""

Floats = NDArray[np.float64]


class DetectorSettings(StageBudget):
    """What the stage needs to know, and what it may spend."""

    biases: int = Field(6, ge=3, le=50, description="Biases looked at, over the knobs' ranges.")
    photons: int = Field(20_000, ge=1000, description="Detections with light at each bias.")
    dark_s: float = Field(1.0, gt=0, description="Time without light at each bias, s.")
    optical_error: float = Field(
        0.01, ge=0, lt=0.5, description="Error rate of an aligned link without background."
    )
    tolerance: float = Field(
        0.05, gt=0, lt=1, description="Loss of key rate since last time that is left alone."
    )


class DarkeningBench(Bench, Protocol):
    """A bench whose light can be shut for a while."""

    async def let_light(self, *, is_on: bool) -> None:
        """Let light through, or shut it."""
        ...

    async def measure_for(self, duration_s: float) -> Window:
        """Integrate for about so long."""
        ...


class DetectorProcedure:
    """Chooses the biases of all detectors for the key rate.

    Args:
        settings: What the stage needs to know.
        bench: Knobs, light and receiver.
        knobs: Knob of each detector's bias, by detector letter.
        start: Biases in force, by knob.
        link: What makes a key rate of click rates.
        gate_share: Share of a slot within the gate.
        last: Key rate when the stage was run last, or None.
    """

    name = STAGE
    figure_name = "key rate"
    unit = "bit/pulse"
    target = None

    def __init__(
        self,
        settings: DetectorSettings,
        bench: DarkeningBench,
        knobs: Mapping[str, str],
        start: Mapping[str, float],
        link: LinkModel,
        gate_share: float,
        *,
        last: float | None = None,
    ) -> None:
        self._settings = settings
        self._bench = bench
        self._knobs = [knobs[detector] for detector in STATES]
        self._start = {knob: start[knob] for knob in self._knobs}
        self._in_force = dict(self._start)
        self._link = link
        self._gate_share = gate_share
        self._last = last

    async def measure(self, account: Account) -> Figure:
        """Measure the key rate at the biases in force, light shut in between.

        Raises:
            PreconditionError: A detector does not see the light.
        """
        counted = await self._count(account, self._in_force)
        lit_hz, dark_hz = counted.lit / counted.lit_s, counted.dark / counted.dark_s
        for number, detector in enumerate(STATES):
            if lit_hz[number] <= 2 * dark_hz[number] + 5 / counted.lit_s:
                raise PreconditionError(
                    f"detector {detector} sees no light: {lit_hz[number]:.3g} counts/s with it, "
                    f"{dark_hz[number]:.3g} without (unplugged, latched, or dead?)"
                )
        outside = counted.outside.sum() / counted.lit.sum()
        if outside > MOST_OUTSIDE:
            raise PreconditionError(
                f"{100 * outside:.0f} % of the clicks fall outside of the gates: run the delay "
                "stage first, or see to receiver.delays_ps and receiver.gate_ps"
            )
        return self._figure(counted)

    def is_good(self, figure: Figure) -> bool:
        """Whether the key rate is that of the last time."""
        return self._last is not None and figure.high >= (1 - self._settings.tolerance) * self._last

    async def search(self, account: Account) -> str:
        """Look at all biases from below, fit, choose, set.

        A detector that goes blind on the way up is not biased as high again.

        Raises:
            PreconditionError: A detector shows no plateau, or stays blind.
        """
        seen, usable = await self._look_at_all(account)
        afterpulses = afterpulse_share([counted for _, counted in seen], self._gate_share)
        curves, ranges = [], []
        for number, detector in enumerate(STATES):
            looks = [
                _look(setting[self._knobs[number]], counted, number)
                for setting, counted in seen[: usable[number]]
            ]
            try:
                curves.append(await asyncio.to_thread(fit_plateau, looks))
            except ValueError as exc:
                raise PreconditionError(f"detector {detector}: {exc}") from None
            ranges.append((looks[0].bias, looks[-1].bias))
        best = await asyncio.to_thread(self._choose, curves, ranges, afterpulses)
        await self._take_down(account, [each < len(seen) for each in usable])
        setting = dict(zip(self._knobs, best, strict=True))
        self._in_force = await account.patiently(lambda: self._bench.apply(setting))
        if self._gate_share == 1:
            return ""
        return f"afterpulses {100 * afterpulses.mean():.2f} % of clicks"

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether there is less key than before."""
        return after.high < before.low

    async def restore(self) -> None:
        """Put the biases of the start back, from below."""
        await self._bench.apply({knob: self._bench.limits(knob)[0] for knob in self._knobs})
        await self._bench.apply(self._start)
        await self._bench.let_light(is_on=True)
        self._in_force = dict(self._start)

    def in_force(self) -> dict[str, float]:
        """Return the biases by knob."""
        return dict(self._in_force)

    async def _look_at_all(
        self, account: Account
    ) -> tuple[list[tuple[dict[str, float], Counted]], list[int]]:
        """Count at biases from low to high.

        Returns:
            Settings with what was counted, and for each detector the number of them before it went
            blind.
        """
        usable = [self._settings.biases] * len(STATES)
        best_hz = np.zeros(len(STATES))
        seen: list[tuple[dict[str, float], Counted]] = []
        for step in range(self._settings.biases):
            wanted = {}
            for number, knob in enumerate(self._knobs):
                low, high = self._bench.limits(knob)
                rise = step / (self._settings.biases - 1) if usable[number] > step else 0.0
                wanted[knob] = low + rise * (high - low)
            setting = await account.patiently(partial(self._bench.apply, wanted))
            counted = await self._count(account, setting)
            lit_hz = counted.lit / counted.lit_s
            for number, detector in enumerate(STATES):
                if usable[number] > step and lit_hz[number] < BLIND_SHARE * best_hz[number]:
                    usable[number] = step
                    account.tell(f"detector {detector} goes blind", setting)
            best_hz = np.maximum(best_hz, lit_hz)
            seen.append((setting, counted))
            account.tell(f"{lit_hz.sum():.3g} counts/s with light", setting)
            if max(usable) <= step:
                break
        return seen, usable

    async def _take_down(self, account: Account, is_blind: Sequence[bool]) -> None:
        """Take detectors that went blind down, so that a latched wire recovers."""
        down = {
            knob: self._bench.limits(knob)[0]
            for knob, blind in zip(self._knobs, is_blind, strict=True)
            if blind
        }
        if down:
            await account.patiently(lambda: self._bench.apply(down))

    async def _count(self, account: Account, setting: Mapping[str, float]) -> Counted:
        """Count with light, then without; the light is on again at the end."""
        await account.patiently(lambda: self._bench.let_light(is_on=True))
        windows = await account.windows(self._bench, self._settings.photons, setting)
        await account.patiently(lambda: self._bench.let_light(is_on=False))
        dark = await account.look(setting, lambda: self._bench.measure_for(self._settings.dark_s))
        account.spend(dark.photons)
        await account.patiently(lambda: self._bench.let_light(is_on=True))
        lit = np.sum([window.singles for window in windows], axis=0)
        gated = np.sum([window.clicks.sum(axis=(0, 1)) for window in windows], axis=0)
        lit_s = sum(window.duration_s for window in windows)
        return Counted(lit, lit - gated, lit_s, dark.singles, dark.duration_s)

    def _figure(self, counted: Counted) -> Figure:
        """Return the key rate that counts tell, with the spread of their Poisson noise.

        Draws about counts err as the counts do about the truth, by their mean as well (afterpulses
        are never told as fewer than none), so their interval is mirrored at the value: the basic
        bootstrap (A. C. Davison and D. V. Hinkley, Bootstrap Methods, ch. 5).
        """
        noise = np.random.default_rng(0)
        rates = []
        for _ in range(DRAWS):
            drawn = replace(
                counted,
                lit=noise.poisson(counted.lit),
                outside=noise.poisson(counted.outside),
                dark=noise.poisson(counted.dark),
            )
            rates.append(self._key_rate(drawn))
        low, high = np.quantile(rates, [0.05, 0.95])
        value = self._key_rate(counted)
        return Figure(value, max(2 * value - float(high), 0.0), 2 * value - float(low))

    def _key_rate(self, counted: Counted) -> float:
        dark_hz = counted.dark / counted.dark_s
        lit_hz = counted.lit / counted.lit_s
        afterpulses_hz = afterpulse_share([counted], self._gate_share) * lit_hz
        light_hz = np.maximum(lit_hz - dark_hz - afterpulses_hz, 0.0)
        return self._link.key_rate(light_hz, dark_hz + afterpulses_hz)

    def _choose(
        self,
        curves: Sequence[PlateauCurve],
        ranges: Sequence[tuple[float, float]],
        afterpulses: Floats,
    ) -> list[float]:
        """Go through the detectors one by one, each time to the bias of most key.

        Each begins at what would be best if it were alone: among others that are too noisy for any
        key all of its biases look the same.
        """
        biases = np.array([np.linspace(*limits, GRID) for limits in ranges])
        light_hz = np.array([c.light_hz(b) for c, b in zip(curves, biases, strict=True)])
        dark_hz = np.array([c.darkness_hz(b) for c, b in zip(curves, biases, strict=True)])
        noise_hz = dark_hz + afterpulses[:, None] * (light_hz + dark_hz)
        detectors = np.arange(len(curves))
        alone = [
            [
                self._link.key_rate(light_hz[[n], [place]], noise_hz[[n], [place]])
                for place in range(GRID)
            ]
            for n in detectors
        ]
        chosen = np.argmax(alone, axis=1)
        for _ in range(ROUNDS):
            for number in detectors:
                rates = []
                for place in range(GRID):
                    chosen[number] = place
                    now = detectors, chosen
                    rates.append(self._link.key_rate(light_hz[now], noise_hz[now]))
                chosen[number] = int(np.argmax(rates))
        return [float(bias) for bias in biases[detectors, chosen]]


def _look(bias: float, counted: Counted, number: int) -> BiasLook:
    return BiasLook(
        bias,
        int(counted.lit[number]),
        counted.lit_s,
        int(counted.dark[number]),
        counted.dark_s,
    )
