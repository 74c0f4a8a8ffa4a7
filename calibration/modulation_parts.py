"""What the modulation stage sets: the drives of the states, and those of the intensities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, pi
from typing import Protocol

import numpy as np

from calibration.bench import Bench
from calibration.clicks import STATES
from calibration.intensity_levels import LevelLook, fit_level, ratio_error_percent
from calibration.modulation_settings import ModulationSettings
from calibration.pulses import PulseCounts
from calibration.signal_run import Figure, PreconditionError
from calibration.state_spacing import (
    WANTED_RAD,
    Knowledge,
    StateFit,
    StateLook,
    fit_states,
)

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

    def remark(self, looks: Sequence[Look]) -> str:
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

    def remark(self, looks: Sequence[Look]) -> str:
        """Name the half-wave voltage, and compare the states' brightness: no drive changes that."""
        fit = self._fit(looks, self._knowledge)
        said = f"half-wave voltage {self._half_wave_v / float(fit.gain[0]):.3f} V"
        spread = 100 * (fit.brightness.max() - fit.brightness.min())
        if spread < self._settings.brightness_percent + 300 * fit.brightness_sigma:
            return said
        brightest = STATES[int(fit.brightness.argmax())]
        return (
            f"{said}; states differ in brightness by {spread:.1f} %, {brightest} is the brightest: "
            "a side channel that no drive of theirs removes (loss in the modulator?)"
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
        turn_v = abs(volts_per_rad * 2 * pi / float(fit.gain[state]))
        turns = range(ceil((low - first_v) / turn_v), floor((high - first_v) / turn_v) + 1)
        if not turns:
            raise PreconditionError(
                f"state {STATES[state]} wants {first_v:.3f} V, or a multiple of {turn_v:.3f} V "
                f"beside that, outside the {low:g} to {high:g} V of knob {knob!r}: widen its limits"
            )
        places_v = [first_v + k * turn_v for k in turns]
        return min(places_v, key=lambda place_v: abs(place_v - now_v))


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

    def remark(self, looks: Sequence[Look]) -> str:
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
