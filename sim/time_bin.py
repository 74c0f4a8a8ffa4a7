"""The optical twin of a link whose states are pulses and phases: time-bin and four-phase BB84.

Every qubit is a pair of pulses, early and late, one bin apart. Alice's unbalanced interferometer
makes the pair, Bob's brings it together again; both delays are one bin, and the phase between the
two drifts. The states keep the names H, V, D, A:

- ``time-bin``: early, late, and both pulses with phase 0 and pi. A passive splitter sends a share
  of the light straight to one detector (input 1), whose arrival bin tells early from late, and the
  rest through Bob's interferometer to two detectors (inputs 2 and 3: D and A). Input 4 is free.
- ``four-phase``: both pulses with phase 0, pi, pi/2 and 3 pi/2, and at Bob's side a splitter to two
  interferometers a quarter of a period apart, four detectors in all (inputs 1 to 4).

Behind an interferometer a quarter of the light of each pulse pair comes a bin too early and a
quarter a bin too late (the side peaks, without interference), the rest in the middle bin, where
``P(output) = (1 +- V cos(phase + Alice's phase - Bob's))/2``. They are there for the tagger's gate
to cut off. Bob's middle bin is the middle of a slot.

Idealised: splitters of exactly one half, arms of equal loss, no chromatic dispersion, polarization
kept, one shifter that moves both of Bob's interferometers alike. Early and late pulses leak into
each other's bin without phase.

Source: W. Tittel et al., Phys. Rev. Lett. 84, 4737 (2000) (time-bin); C. Marand and P. D. Townsend,
Opt. Lett. 20, 1695 (1995) (phase encoding).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import pi
from typing import Literal

import numpy as np

from sim.levels import IDEAL_RAD
from sim.phase_drift import PhaseDrift, PhaseDriftSettings
from sim.phase_shifter import PhaseShifter, PhaseShifterSettings
from sim.receiver import DETECTORS, Receiver
from sim.stokes import STATES, Floats
from sim.twin import Moving, Twin, TwinSettings, error_share

Encoding = Literal["time-bin", "four-phase"]


@dataclass(frozen=True)
class TimeBinTwinSettings(TwinSettings):
    """A link with interferometers; the receiver's visibility is that of the interference.

    Attributes:
        encoding: ``time-bin`` or ``four-phase``.
        drift: How the phase between the interferometers drifts.
        shifter: What moves it.
        bins_per_slot: Length of a slot in delays of the interferometers: odd, so that the bins lie
            about the middle of the slot.
        leakage: Share of an early or late pulse that is in the other bin.
    """

    encoding: Encoding = "time-bin"
    drift: PhaseDriftSettings = field(default_factory=PhaseDriftSettings)
    shifter: PhaseShifterSettings = field(default_factory=PhaseShifterSettings)
    bins_per_slot: int = 5
    leakage: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins_per_slot < 3 or self.bins_per_slot % 2 == 0:
            raise ValueError("bins_per_slot must be odd, three or more")
        if not 0 <= self.leakage < 0.5:
            raise ValueError("leakage lies between 0 and 0.5")

    def build(self, *, start_s: float | None = None) -> "TimeBinTwin":
        """Build the link."""
        return TimeBinTwin(self, start_s=start_s)


class TimeBinTwin(Twin):
    """Source, attenuator, two interferometers with a drifting phase, shifter and detectors.

    Args:
        settings: The link.
        start_s: Start of the drift, s; None takes the first time that is asked for.
    """

    def __init__(self, settings: TimeBinTwinSettings, *, start_s: float | None = None) -> None:
        self.settings = settings = _without_free_input(settings)
        unknowns, path, noise = np.random.SeedSequence(settings.seed).spawn(3)
        self.shifter = PhaseShifter(settings.shifter, np.random.default_rng(unknowns))
        self.drift = PhaseDrift(settings.drift, np.random.default_rng(path), start_s=start_s)
        bin_ps = 1e12 / settings.source.clock_hz / settings.bins_per_slot
        super().__init__(settings, bin_ps, np.random.default_rng(noise))

    @property
    def phase_shifter(self) -> PhaseShifter:
        """What moves the phase."""
        return self.shifter

    def phase(self, now_s: float) -> float:
        """Return the phase between the interferometers at a time, rad; the best is 0."""
        return self.drift.phase(now_s) + self.shifter.phase(now_s)

    def qber(self, now_s: float) -> float:
        """Return the QBER to expect: mean of Z and X at signal intensity, without noise."""
        receiver = self._receiver_at(now_s)
        alice_rad = self.levels.state_rad(now_s)
        return self._expected_qber(self.phase(now_s), self.transmission(now_s), receiver, alice_rad)

    def qber_floor(self) -> float:
        """Return the best QBER within reach: no phase, nominal attenuation."""
        transmission = 10 ** (-self.settings.loss_db / 10)
        return self._expected_qber(0.0, transmission, self.receiver, IDEAL_RAD)

    def best_drives(self, now_s: float) -> Floats:
        """Return the voltage nearest to the middle of its range that undoes the phase, V."""
        return np.array([self.shifter.voltage_for(-self.drift.phase(now_s))])

    def disturb(self, vector_rad: Floats, now_s: float) -> None:
        """Add the first component to the phase, rad: somebody knocked at an interferometer."""
        self.drift.jump(float(vector_rad[0]), now_s)

    def _drives(self) -> Sequence[Moving]:
        return (self.shifter,)

    def _is_driven(self, now_s: float) -> bool:
        return self.shifter.is_moving(now_s)

    def _light(self, now_s: float) -> Floats:
        mean_photons = self.mean_photons(now_s) * self.transmission(now_s)
        alice_rad = self.levels.state_rad(now_s)
        of_state = self._of_state(self.phase(now_s), self._receiver_at(now_s), alice_rad)
        light = of_state[self.source.sent_states(now_s)] * mean_photons[:, None, None]
        return np.asarray(light.reshape(-1, DETECTORS))

    def _expected_qber(
        self, phase: float, transmission: float, receiver: Receiver, alice_rad: Floats
    ) -> float:
        of_state = self._of_state(phase, receiver, alice_rad)
        mean_photons = self.source.mean_photons() * transmission
        pattern = of_state[self.source.pattern_states()] * mean_photons[:, None, None]
        signal = of_state * self.source.signal_mean_photons * transmission
        clicks = receiver.clicks_per_slot(
            signal.reshape(-1, DETECTORS), pattern.reshape(-1, DETECTORS)
        ).reshape(signal.shape)
        places = zip(*self._places(), strict=True)
        table = np.stack([clicks[:, at, detector] for detector, at in places], axis=-1)
        return (error_share(table[:2, :2]) + error_share(table[2:, 2:])) / 2

    def _places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return detector and bin of the outcomes H, V, D, A."""
        middle = self.settings.bins_per_slot // 2
        if self.settings.encoding == "time-bin":
            return (0, 0, 1, 2), (middle - 1, middle, middle, middle)
        return (0, 1, 2, 3), (middle,) * 4

    def _of_state(self, phase: float, receiver: Receiver, alice_rad: Floats) -> Floats:
        """Return the mean photoelectrons per photon at the receiver.

        Returns:
            Shape ``(4, bins, 4)``: sent state, bin of the slot, detector.
        """
        settings = receiver.settings
        z, x = settings.z_share, 1 - settings.z_share
        shares = {"time-bin": (z, x, x, 0.0), "four-phase": (z, z, x, x)}[self.settings.encoding]
        own_rad = alice_rad if self.settings.encoding == "four-phase" else np.zeros(len(STATES))
        sent = zip(STATES, own_rad, strict=True)
        seen = np.array([self._pair(s, phase + rad, settings.visibility) for s, rad in sent])
        return np.asarray(seen * np.array(settings.efficiencies) * np.array(shares))

    def _pair(self, state: str, phase: float, visibility: float) -> Floats:
        """Return where a photon of a state goes, shape ``(bins, 4)``; splitting left aside.

        Args:
            state: One of HVDA.
            phase: Between the pulses, Alice's own included, rad.
            visibility: Of the interference.
        """
        middle = self.settings.bins_per_slot // 2
        early = 0.5
        where = np.zeros((self.settings.bins_per_slot, DETECTORS))
        if self.settings.encoding == "four-phase":
            bob_rad, outputs = np.array([0.0, pi, pi / 2, 3 * pi / 2]), slice(0, 4)
            fringe = np.cos(phase - bob_rad)
        else:
            early = {"H": 1 - self.settings.leakage, "V": self.settings.leakage}.get(state, 0.5)
            where[middle - 1, 0], where[middle, 0] = early, 1 - early
            outputs, sign = slice(1, 3), {"D": 1.0, "A": -1.0}.get(state, 0.0)
            fringe = sign * np.cos(phase) * np.array([1.0, -1.0])
        where[middle - 1, outputs] = early / 4
        where[middle, outputs] = (1 + visibility * fringe) / 4
        where[middle + 1, outputs] = (1 - early) / 4
        return where


def _without_free_input(settings: TimeBinTwinSettings) -> TimeBinTwinSettings:
    """Leave the fourth input of a time-bin receiver unconnected: no dark counts."""
    if settings.encoding == "four-phase":
        return settings
    first, second, third, _ = settings.receiver.dark_hz
    receiver = replace(settings.receiver, dark_hz=(first, second, third, 0.0))
    return replace(settings, receiver=receiver)
