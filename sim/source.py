"""Alice's source: a repeating pattern of polarization states and intensities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.stokes import STATES, Floats
from sim.timeline import Timeline

PATTERN: Final = "PATTERN"


@dataclass(frozen=True)
class SourceSettings:
    """What Alice sends.

    Slot ``k`` carries ``states[k % len(states)]`` at ``intensities[k % len(intensities)]``; the
    pattern repeats after the least common multiple of both lengths.

    Attributes:
        clock_hz: Slots per second.
        states: Sequence of polarization states, letters of HVDA.
        intensities: Sequence of intensity names.
        mean_photon_numbers: Mean photon number per slot of each intensity, as it leaves Alice
            with the attenuator at its nominal setting.
    """

    clock_hz: float = 1e8
    states: str = STATES
    intensities: tuple[str, ...] = ("signal", "signal", "signal", "decoy", "vacuum")
    mean_photon_numbers: Mapping[str, float] = field(
        default_factory=lambda: {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
    )

    def __post_init__(self) -> None:
        if not self.clock_hz > 0:
            raise ValueError("clock_hz must be positive")
        if not self.states or set(self.states) - set(STATES):
            raise ValueError(f"states {self.states!r} must be a sequence of {STATES}")
        if not self.intensities or set(self.intensities) - set(self.mean_photon_numbers):
            raise ValueError("every intensity needs a mean photon number")
        if min(self.mean_photon_numbers.values()) < 0:
            raise ValueError("mean photon numbers must not be negative")


class Source:
    """Sends the pattern, or the same polarization in every slot; intensities and START go on."""

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self._state = Timeline[str](PATTERN)

    @property
    def slot_ps(self) -> float:
        """Length of a slot, ps."""
        return 1e12 / self.settings.clock_hz

    @property
    def period_slots(self) -> int:
        """Slots after which the pattern repeats."""
        return lcm(len(self.settings.states), len(self.settings.intensities))

    @property
    def period_ps(self) -> float:
        """Time between two START pulses, ps."""
        return self.period_slots * self.slot_ps

    @property
    def signal_mean_photons(self) -> float:
        """Mean photon number of the brightest intensity in the pattern: the signal."""
        return max(self.settings.mean_photon_numbers[name] for name in self.settings.intensities)

    def state(self, now_s: float | None = None) -> str:
        """Return ``PATTERN`` or the state that every slot carries, by default the latest."""
        return self._state.latest if now_s is None else self._state.at(now_s)

    def set_state(self, state: str, now_s: float) -> None:
        """Send the pattern, or one state in every slot.

        Raises:
            ValueError: The state is neither PATTERN nor one of HVDA.
        """
        if state != PATTERN and state not in tuple(STATES):
            raise ValueError(f"state {state!r} is neither {PATTERN} nor one of {STATES}")
        self._state.set(state, now_s)

    def sent_states(self, now_s: float) -> NDArray[np.int64]:
        """Return which of HVDA each slot of the period carries, shape ``(period_slots,)``."""
        return self._indices(self.state(now_s))

    def pattern_states(self) -> NDArray[np.int64]:
        """Return what each slot of the pattern carries, shape ``(period_slots,)``."""
        return self._indices(PATTERN)

    def mean_photons(self) -> Floats:
        """Return the mean photon number of each slot of the period, shape ``(period_slots,)``."""
        means = [self.settings.mean_photon_numbers[name] for name in self.settings.intensities]
        return np.resize(np.array(means, dtype=float), self.period_slots)

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which the state was set."""
        return self._state.changes(start_s, end_s)

    def _indices(self, state: str) -> NDArray[np.int64]:
        sequence = self.settings.states if state == PATTERN else state
        return np.resize([STATES.index(letter) for letter in sequence], self.period_slots)
