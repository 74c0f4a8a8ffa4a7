"""The modulation stage: drives of the four states and of the intensities.

States that are not a quarter of a turn apart make errors that no alignment removes, and tell an
eavesdropper more than the proof allows for; intensities that are not in the ratios that the
analysis takes them to be make its bounds wrong. Both are drives of a modulator whose half-wave
voltage is known to some per cent. From the same counts the states' angles and the levels of the
intensities are told, and one fit of each over all looks says where the drives belong.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, pi
from typing import Protocol

import numpy as np

from calibration.account import Account
from calibration.bench import Bench
from calibration.clicks import STATES
from calibration.intensity_levels import LevelLook, fit_level, ratio_error_percent
from calibration.modulation_settings import ModulationSettings
from calibration.pulses import PulseCounts, PulseReader
from calibration.signal_run import Figure, PreconditionError
from calibration.state_spacing import (
    WANTED_RAD,
    Knowledge,
    StateFit,
    StateLook,
    fit_states,
)

STAGE = "modulation"

MOVES = 2
"""How often the drives are set: after the first fit, and once more for what is left."""

OWN_SCALE_SIGMA = 0.02
PLACE_SIGMA_RAD = 0.01
"""How far a single drive may deviate from the common half-wave voltage, and from the origin."""

LEAST_VISIBILITY = 0.8
"""Below this the states are not told apart well enough for their angles to be believed."""

MOST_MISFIT = 0.1
"""Relative deviation of counts from four states on a circle above which they are something else."""

Setting = Mapping[str, float]


@dataclass(frozen=True)
class Look:
    """What was counted at one setting of all drives."""

    setting: Setting
    counts: PulseCounts


class Part(Protocol):
    """One kind of drives: tells what is wrong with them, and where they belong."""

    @property
    def knobs(self) -> Sequence[str]:
        """What it sets."""
        ...

    @property
    def figure_name(self) -> str:
        """What its figure is."""
        ...

    @property
    def unit(self) -> str:
        """Unit of the figure."""
        ...

    @property
    def target(self) -> float:
        """Largest figure that is good."""
        ...

    def figure(self, look: Look) -> Figure:
        """Tell how far the drives are off, from one look.

        Raises:
            PreconditionError: It cannot be told.
        """
        ...

    def propose(self, looks: Sequence[Look]) -> dict[str, float]:
        """Return better drives.

        Raises:
            PreconditionError: They lie beyond the limits of a knob.
        """
        ...

    def remark(self, look: Look) -> str:
        """Return what else the operator should know, or nothing."""
        ...


class StatesPart:
    """Spaces the states by quarters of a turn; H is the reference and stays where it is.

    Args:
        settings: What the stage needs to know.
        bench: Knobs.
        knobs: Knob of each state's drive, by letter of V, D and A; others stay where they are.
    """

    figure_name = "state spacing error"
    unit = "deg"

    def __init__(
        self, settings: ModulationSettings, bench: Bench, knobs: Mapping[str, str]
    ) -> None:
        if settings.half_wave_v is None:
            raise ValueError("half_wave_v is missing")
        self._settings = settings
        self._bench = bench
        self._half_wave_v = settings.half_wave_v
        self._by_state = {STATES.index(state): knob for state, knob in knobs.items()}
        self.knobs = tuple(knobs.values())
        self.target = settings.target_deg
        place = np.where([n in self._by_state for n in range(len(STATES))], PLACE_SIGMA_RAD, 1.0)
        self._knowledge = Knowledge(settings.half_wave_sigma, OWN_SCALE_SIGMA, place)

    def figure(self, look: Look) -> Figure:
        """Return the largest deviation of two neighbours from 90 degrees."""
        return self._fit([look], self._knowledge.of_nothing()).spacing_error_deg()

    def propose(self, looks: Sequence[Look]) -> dict[str, float]:
        """Return drives by the half-wave voltage that fits all looks."""
        fit = self._fit(looks, self._knowledge)
        return {
            knob: self._drive_v(fit, state, knob, looks[-1].setting[knob])
            for state, knob in self._by_state.items()
        }

    def remark(self, look: Look) -> str:
        """Compare the brightness of the states: a phase's drive does not change it."""
        fit = self._fit([look], self._knowledge.of_nothing())
        spread = 100 * (fit.brightness.max() - fit.brightness.min())
        if spread < self._settings.brightness_percent + 300 * fit.brightness_sigma:
            return ""
        brightest = STATES[int(fit.brightness.argmax())]
        return (
            f"states differ in brightness by {spread:.1f} %, {brightest} is the brightest: a side "
            "channel that no drive of the phase removes (loss or bias of the modulator?)"
        )

    def _fit(self, looks: Sequence[Look], knowledge: Knowledge) -> StateFit:
        try:
            fit = fit_states([self._state_look(look) for look in looks], knowledge)
        except ValueError as exc:
            raise PreconditionError(f"{exc}: see to Alice's pattern and the delays") from None
        visibility = min(fit.visibility)
        if visibility < LEAST_VISIBILITY:
            raise PreconditionError(
                f"a visibility of {visibility:.2f} does not tell the states apart: see to the "
                "alignment, the delays and the interferometers first"
            )
        if fit.misfit > MOST_MISFIT:
            raise PreconditionError(
                f"the counts are off those of four states on a circle by {100 * fit.misfit:.0f} %: "
                "align first, and see to the delays"
            )
        return fit

    def _state_look(self, look: Look) -> StateLook:
        drives = WANTED_RAD.copy()
        for state, knob in self._by_state.items():
            drives[state] = pi * look.setting[knob] / self._half_wave_v
        exposure = look.counts.exposure[0]
        background = exposure * look.counts.background
        return StateLook(drives, look.counts.counts[0], exposure, background)

    def _drive_v(self, fit: StateFit, state: int, knob: str, now_v: float) -> float:
        """Return the drive for a state's place, up to turns, nearest to the one in force."""
        low, high = self._bench.limits(knob)
        volts_per_rad = self._half_wave_v / pi
        first_v = volts_per_rad * fit.drive_rad(state, WANTED_RAD[state])
        turn_v = abs(volts_per_rad * 2 * pi / fit.gain[state])
        turns = range(ceil((low - first_v) / turn_v), floor((high - first_v) / turn_v) + 1)
        if not turns:
            raise PreconditionError(
                f"state {STATES[state]} wants {first_v:.3f} V, or a multiple of {turn_v:.3f} V "
                f"beside that, outside the {low:g} to {high:g} V of knob {knob!r}: widen its limits"
            )
        return min((first_v + k * turn_v for k in turns), key=lambda v: abs(v - now_v))


class IntensitiesPart:
    """Brings intensities to their ratios to the signal, whose own drive stays as it is.

    Args:
        settings: What the stage needs to know.
        bench: Knobs.
        knobs: Knob of each intensity's drive.
        names: Names of the intensities, in the order of the counts.
        mean_photons: Mean photon number that each should have.
    """

    figure_name = "intensity error"
    unit = "%"

    def __init__(
        self,
        settings: ModulationSettings,
        bench: Bench,
        knobs: Mapping[str, str],
        names: Sequence[str],
        mean_photons: Mapping[str, float],
    ) -> None:
        if settings.intensity_half_wave_v is None:
            raise ValueError("intensity_half_wave_v is missing")
        self._bench = bench
        self._half_wave_v = settings.intensity_half_wave_v
        self._half_wave_sigma = settings.half_wave_sigma
        self._by_name = dict(knobs)
        self._numbers = {name: list(names).index(name) for name in knobs}
        self._wanted = {name: mean_photons[name] / mean_photons[names[0]] for name in knobs}
        self.knobs = tuple(knobs.values())
        self.target = settings.target_ratio_percent

    def figure(self, look: Look) -> Figure:
        """Return the relative error of the ratio that is worst off."""
        try:
            errors = [
                ratio_error_percent(self._level_look(look, name), wanted)
                for name, wanted in self._wanted.items()
            ]
        except ValueError as exc:
            raise PreconditionError(f"{exc}: see to the delays") from None
        return max(errors, key=lambda error: error.value)

    def propose(self, looks: Sequence[Look]) -> dict[str, float]:
        """Return drives by the curve that fits all looks."""
        return {knob: self._drive_v(looks, name, knob) for name, knob in self._by_name.items()}

    def remark(self, look: Look) -> str:
        """Have nothing to add."""
        return ""

    def _level_look(self, look: Look, name: str) -> LevelLook:
        drive_v = look.setting[self._by_name[name]]
        return LevelLook.of(look.counts, self._numbers[name], drive_v)

    def _drive_v(self, looks: Sequence[Look], name: str, knob: str) -> float:
        of_level = [self._level_look(look, name) for look in looks]
        curve = fit_level(of_level, self._half_wave_v, self._half_wave_sigma)
        drive_v, (low, high) = curve.drive_v(self._wanted[name]), self._bench.limits(knob)
        if not low <= drive_v <= high:
            raise PreconditionError(
                f"intensity {name!r} wants {drive_v:.3f} V, outside the {low:g} to {high:g} V of "
                f"knob {knob!r}: widen its limits"
            )
        return drive_v


class ModulationProcedure:
    """Sets the drives of states and intensities together.

    With one part the figure is that part's. With both it is the larger of the two errors, each
    over what is wanted of it.

    Args:
        settings: What the stage needs to know.
        reader: Counts pulses.
        bench: Knobs.
        start: Drives in force, by knob.
        parts: States, intensities, or both.
    """

    name = STAGE

    def __init__(
        self,
        settings: ModulationSettings,
        reader: PulseReader,
        bench: Bench,
        start: Setting,
        parts: Sequence[Part],
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._bench = bench
        self._parts = parts
        knobs = [knob for part in parts for knob in part.knobs]
        self._start = {knob: start[knob] for knob in knobs}
        self._in_force = dict(self._start)
        self._latest: Look | None = None

    @property
    def figure_name(self) -> str:
        """What the figure is."""
        return self._parts[0].figure_name if len(self._parts) == 1 else "error over the wanted one"

    @property
    def unit(self) -> str:
        """Unit of the figure."""
        return self._parts[0].unit if len(self._parts) == 1 else ""

    @property
    def target(self) -> float:
        """Largest figure that is good."""
        return self._parts[0].target if len(self._parts) == 1 else 1.0

    async def measure(self, account: Account) -> Figure:
        """Count at the drives in force.

        Raises:
            PreconditionError: The states are not to be told apart.
        """
        self._latest = await self._look(account, self._settings.figure_photons)
        figures = await asyncio.to_thread(self._figures, self._latest)
        if len(figures) == 1:
            return figures[0]
        for part, figure in zip(self._parts, figures, strict=True):
            account.tell(f"{part.figure_name} {_shown(figure, part.unit)}", self._in_force)
        return _largest(
            [
                Figure(each.value / part.target, each.low / part.target, each.high / part.target)
                for part, each in zip(self._parts, figures, strict=True)
            ]
        )

    def is_good(self, figure: Figure) -> bool:
        """Whether all is as it is wanted."""
        return figure.value <= self.target

    async def search(self, account: Account) -> str:
        """Fit, set the drives, look, and once more.

        Raises:
            PreconditionError: A drive lies beyond the limits of its knob.
        """
        looks = [self._latest] if self._latest is not None else []
        for move in range(MOVES):
            wanted = await asyncio.to_thread(self._propose, looks)
            self._in_force = await account.patiently(lambda: self._bench.apply(wanted))
            if move < MOVES - 1:
                looks.append(await self._look(account, self._settings.photons_per_setting))
                account.tell(_settings_text(self._in_force), self._in_force)
        remarks = [await asyncio.to_thread(part.remark, looks[-1]) for part in self._parts]
        return "; ".join([_settings_text(self._in_force), *filter(None, remarks)])

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether the error has grown beyond the intervals."""
        return after.low > before.high

    async def restore(self) -> None:
        """Put the drives of the start back."""
        await self._bench.apply(self._start)
        self._in_force = dict(self._start)

    def in_force(self) -> dict[str, float]:
        """Return the drives by knob."""
        return dict(self._in_force)

    async def _look(self, account: Account, photons: int) -> Look:
        counts = await self._reader.read(account, photons, self._in_force)
        return Look(dict(self._in_force), counts)

    def _figures(self, look: Look) -> list[Figure]:
        return [part.figure(look) for part in self._parts]

    def _propose(self, looks: Sequence[Look]) -> dict[str, float]:
        proposed: dict[str, float] = {}
        for part in self._parts:
            proposed |= part.propose(looks)
        return proposed


def _largest(figures: Sequence[Figure]) -> Figure:
    """Return the figure of the largest of several errors."""
    return Figure(
        max(each.value for each in figures),
        max(each.low for each in figures),
        max(each.high for each in figures),
    )


def _settings_text(setting: Setting) -> str:
    return ", ".join(f"{knob} {value:.3f} V" for knob, value in setting.items())


def _shown(figure: Figure, unit: str) -> str:
    return f"{figure.value:.3g} {unit} ({figure.low:.3g} to {figure.high:.3g})"
