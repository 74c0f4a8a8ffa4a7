"""What every optical twin of a link has in common: source, attenuator, detectors, light and clicks.

A twin is one physical system: what Alice sends, what becomes of it on the way, and what Bob's
detectors make of it. How a state is encoded, and what drifts and what undoes it, is the business of
the twin's own module.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.channel import Channel
from sim.levels import Electrode, Levels, LevelSettings
from sim.liquid_crystals import LiquidCrystalBank
from sim.modulator import IntensityModulator, ModulatorSettings
from sim.nanowires import Nanowires, NanowireSettings
from sim.paddles import PaddleBank
from sim.phase_shifter import PhaseShifter
from sim.random_walk import RandomWalk
from sim.receiver import DETECTORS, Receiver, ReceiverSettings, Recovery
from sim.source import Source, SourceSettings
from sim.squeezers import SqueezerBank
from sim.stokes import Floats
from sim.voa import AttenuatorModel

CHUNK_S: Final = 0.1
"""Longest stretch of time over which the optics count as standing still."""

MOVING_CHUNK_S: Final = 1e-3
"""The same while a drive or the attenuator is on its way."""

LATE_STEP_S: Final = 0.1
"""Time grid on which arrivals drift, s."""

PHOTON_ENERGY_J: Final = 6.62607015e-34 * 299792458 / 1550e-9
"""Energy of a photon of 1550 nm."""


@dataclass(frozen=True)
class TwinSettings(ABC):
    """What the links of every encoding have.

    Attributes:
        source: What Alice sends.
        receiver: Bob's detectors.
        nanowires: What bias currents do to them.
        modulator: Alice's intensity modulator.
        levels: What drives the states and the intensities.
        laser_offset_db: How much brighter the laser is than the mean photon numbers want it, dB.
        loss_db: Loss of the channel, everything but the receiver's own optics, dB.
        nominal_attenuation_db: Setting of Alice's attenuator at which the mean photon numbers
            hold, dB.
        monitor_tap_db: How much brighter the monitor tap is than what leaves Alice, dB: a fixed
            attenuator of this size sits behind the tap, and after it light is at quantum level.
        seed: All that is random follows from it.
    """

    source: SourceSettings = field(default_factory=SourceSettings)
    receiver: ReceiverSettings = field(default_factory=ReceiverSettings)
    nanowires: NanowireSettings = field(default_factory=NanowireSettings)
    modulator: ModulatorSettings = field(default_factory=ModulatorSettings)
    levels: LevelSettings = field(default_factory=LevelSettings)
    laser_offset_db: float = 0.0
    loss_db: float = 15.0
    nominal_attenuation_db: float = 20.0
    monitor_tap_db: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.loss_db >= 0:
            raise ValueError("loss_db must not be negative")

    @abstractmethod
    def build(self, *, start_s: float | None = None) -> "Twin":
        """Build the link; its drift starts at a time, s, or at the first that is asked for."""


class Moving(Protocol):
    """Something that is told to move at times."""

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which it was told to move."""
        ...


class Twin(ABC):
    """One link as a physical system: what instruments act on and look at.

    The attenuator starts at its nominal setting with the shutter shut. The same seed and the same
    calls give the same bytes.

    Args:
        settings: The link.
        bin_ps: Stretch of time that the detectors tell apart: a slot, or a part of one.
        noise: Photon noise.
    """

    def __init__(self, settings: TwinSettings, bin_ps: float, noise: np.random.Generator) -> None:
        self._rested = settings.receiver
        self._nominal_attenuation_db = settings.nominal_attenuation_db
        self._loss_db = settings.loss_db
        self._monitor_tap_db = settings.monitor_tap_db
        self._laser_offset_db = settings.laser_offset_db
        self._noise = noise
        self.source = Source(settings.source)
        self.attenuator = AttenuatorModel(settings.nominal_attenuation_db)
        self.channel = Channel()
        self.receiver = Receiver(settings.receiver, bin_ps)
        self.nanowires = Nanowires(settings.nanowires)
        null, *lates = np.random.SeedSequence(settings.seed, spawn_key=(4,)).spawn(1 + DETECTORS)
        self.modulator = IntensityModulator(settings.modulator, np.random.default_rng(null))
        drift = settings.receiver.delay_drift_ps_per_sqrt_s
        self._late = [
            RandomWalk(drift, np.random.default_rng(each), start_s=0.0, step_s=LATE_STEP_S)
            for each in lates
        ]
        drawn = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(3,)))
        self.levels = Levels(settings.levels, settings.source, drawn)
        self._biased = np.ones((2, DETECTORS)), 0.0, self.receiver

    @property
    def squeezers(self) -> SqueezerBank:
        """The controller of a link that is turned by squeezers.

        Raises:
            ValueError: This link has none.
        """
        raise ValueError("the simulated link has no squeezers")

    @property
    def paddles(self) -> PaddleBank:
        """The controller of a link that is turned by fibre paddles.

        Raises:
            ValueError: This link has none.
        """
        raise ValueError("the simulated link has no fibre paddles")

    @property
    def liquid_crystals(self) -> LiquidCrystalBank:
        """The controller of a link that is turned by liquid-crystal cells.

        Raises:
            ValueError: This link has none.
        """
        raise ValueError("the simulated link has no liquid-crystal cells")

    @property
    def phase_shifter(self) -> PhaseShifter:
        """What moves the phase of a link with interferometers.

        Raises:
            ValueError: This link has none.
        """
        raise ValueError("the simulated link has no interferometer")

    def electrode(self, level: str | None) -> Electrode | None:
        """Return what an instrument's voltage drives: a level of the source, or nothing.

        Raises:
            ValueError: There is no such level.
        """
        return None if level is None else self.levels.level(level)

    @property
    def sync_period_ps(self) -> float:
        """Time between two START pulses, ps: one period of Alice's pattern."""
        return self.source.period_ps

    @abstractmethod
    def qber(self, now_s: float) -> float:
        """Return the QBER to expect: mean of Z and X at signal intensity, without noise.

        It is that of the pattern, whatever the source sends just now. In the dark it is 1/2.
        """

    @abstractmethod
    def qber_floor(self) -> float:
        """Return the best QBER within reach: everything aligned, at nominal attenuation."""

    @abstractmethod
    def best_drives(self, now_s: float) -> Floats:
        """Return drives within range that align best at a time, hysteresis and slew left aside.

        From the twin's true parameters: nobody on the bench can know them.
        """

    @abstractmethod
    def disturb(self, vector_rad: Floats, now_s: float) -> None:
        """Disturb the link from now on: somebody moved a fibre.

        Args:
            vector_rad: Rotation vector in Stokes space, rad, shape ``(3,)``; of interferometers the
                first component is the phase.
            now_s: Time, s.
        """

    @abstractmethod
    def _light(self, now_s: float) -> Floats:
        """Return the mean photoelectrons of one period, shape ``(bins, 4)``."""

    @abstractmethod
    def _drives(self) -> Sequence[Moving]:
        """Return what moves beside source, attenuator and detectors."""

    @abstractmethod
    def _is_driven(self, now_s: float) -> bool:
        """Tell whether a drive is on its way."""

    def _extra_loss_db(self, now_s: float) -> float:
        """Return the loss that what is driven adds, dB."""
        return 0.0

    def transmission(self, now_s: float) -> float:
        """Return light at the receiver over light at Alice with nominal attenuation."""
        gain_db = self._nominal_attenuation_db + self._laser_offset_db - self._loss_db
        gain_db -= self._extra_loss_db(now_s) + self.channel.loss_db(now_s)
        return float(self.attenuator.transmission(now_s) * 10 ** (gain_db / 10))

    def mean_photons(self, now_s: float) -> Floats:
        """Return each slot's mean photon number as the modulator makes it, nominal otherwise."""
        driven = [
            self.levels.intensity_rad(each, now_s) for each in self.source.settings.intensities
        ]
        drive_rad = np.resize(driven, self.source.period_slots)
        made = self.modulator.mean_photons(self.source.mean_photons(), now_s, drive_rad)
        return np.asarray(made * self.levels.state_share[self.source.sent_states(now_s)])

    def late_ps(self, now_s: float) -> Floats:
        """Return how much later than its delay light arrives at each detector, ps, shape (4,)."""
        return np.array([walk.at(now_s) for walk in self._late])

    def leaving_alice(self, now_s: float) -> float:
        """Return the mean photon number of the brightest slot that leaves Alice at a time."""
        gain_db = self._nominal_attenuation_db + self._laser_offset_db
        transmission = self.attenuator.transmission(now_s) * 10 ** (gain_db / 10)
        return float(self.mean_photons(now_s).max() * transmission)

    def monitor_power_w(self, now_s: float) -> float:
        """Return the power at the monitor tap behind Alice's attenuator and shutter, W.

        It is what leaves Alice, mean photon number times photon energy times pulse rate, times the
        tap's brightness: a power meter sees no single photons. Polarization does not matter.
        """
        gain_db = self._nominal_attenuation_db + self._laser_offset_db + self._monitor_tap_db
        photons_hz = self.mean_photons(now_s).mean() * self.source.settings.clock_hz
        return float(
            photons_hz
            * PHOTON_ENERGY_J
            * self.attenuator.transmission(now_s)
            * 10 ** (gain_db / 10)
        )

    def tags(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.uint64]]:
        """Draw the time tags of a window of whole pattern periods.

        Ask for a window when it is over: changes made while it lasted are then in it.

        Returns:
            Per input 1 to 4 (H, V, D, A) the ps since the last START, in order of arrival.
        """
        parts = [[np.empty(0, dtype=np.uint64)] for _ in range(DETECTORS)]
        for _, clicks in self._clicks(start_s, duration_s):
            for part, times in zip(parts, clicks, strict=True):
                part.append((times % self.sync_period_ps).astype(np.uint64))
        return {j + 1: np.concatenate(part) for j, part in enumerate(parts)}

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, Floats]:
        """Draw the arrival times of a window of whole pattern periods.

        The same clicks as ``tags`` would give; the pattern begins with the window. Ask for a window
        when it is over.

        Returns:
            Per input 1 to 4 (H, V, D, A) the ps since the start of the window, in order.
        """
        parts = [[np.empty(0)] for _ in range(DETECTORS)]
        for offset_ps, clicks in self._clicks(start_s, duration_s):
            for part, times in zip(parts, clicks, strict=True):
                part.append(times + offset_ps)
        return {j + 1: np.concatenate(part) for j, part in enumerate(parts)}

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        """Draw plain counts of a window of whole pattern periods, shape ``(4,)``."""
        total = np.zeros(DETECTORS, dtype=np.int64)
        for middle_s, periods in self._chunks(start_s, duration_s):
            receiver = self._receiver_at(middle_s)
            total += receiver.counts(self._light(middle_s), periods, self._noise)
        return total

    def detection_rate_hz(self, now_s: float) -> float:
        """Return the click rate to expect of all detectors together, Hz."""
        clicks = self._receiver_at(now_s).clicks_per_slot(self._light(now_s))
        return float(clicks.sum() * 1e12 / self.source.period_ps)

    def _clicks(self, start_s: float, duration_s: float) -> Iterator[tuple[float, list[Floats]]]:
        """Draw a window piece by piece; yield each piece's start, ps, and its click times in it."""
        recovery = [Recovery() for _ in range(DETECTORS)]
        passed = 0
        for middle_s, periods in self._chunks(start_s, duration_s):
            light, late_ps = self._light(middle_s), self.late_ps(middle_s)
            receiver = self._receiver_at(middle_s)
            clicks = receiver.tags(light, periods, self._noise, recovery, late_ps)
            yield passed * self.sync_period_ps, clicks
            passed += periods

    def _receiver_at(self, now_s: float) -> Receiver:
        """Return the detectors as bias and stray light let them be at a time."""
        response, stray_hz = np.array(self.nanowires.response(now_s)), self.channel.stray_hz(now_s)
        known, known_hz, receiver = self._biased
        if stray_hz == known_hz and np.array_equal(response, known):
            return receiver
        rested = self._rested
        h, v, d, a = np.minimum(response[0] * rested.efficiencies, 1.0).tolist()
        dark = (response[1] * rested.dark_hz + stray_hz).tolist()
        biased = replace(
            rested, efficiencies=(h, v, d, a), dark_hz=(dark[0], dark[1], dark[2], dark[3])
        )
        self._biased = response, stray_hz, Receiver(biased, self.receiver.slot_ps)
        return self._biased[2]

    def _chunks(self, start_s: float, duration_s: float) -> Iterator[tuple[float, int]]:
        """Cut a window where something was told to move; yield middles and whole periods."""
        period_s = self.source.period_ps * 1e-12
        end_s = start_s + duration_s
        devices: tuple[Moving, ...] = (
            self.source,
            self.attenuator,
            self.channel,
            self.nanowires,
            self.modulator,
            self.levels,
            *self._drives(),
        )
        cuts = sorted({t for device in devices for t in device.changes(start_s, end_s)})
        left = round(duration_s / period_s)
        while left > 0:
            cuts = [t for t in cuts if t > start_s]
            longest_s = MOVING_CHUNK_S if self._is_moving(start_s) else CHUNK_S
            chunk_s = min([longest_s, *(t - start_s for t in cuts[:1])])
            periods = min(left, max(1, round(chunk_s / period_s)))
            yield start_s + periods * period_s / 2, periods
            start_s += periods * period_s
            left -= periods

    def _is_moving(self, now_s: float) -> bool:
        return self._is_driven(now_s) or self.attenuator.time_left_s(now_s) > 0


def error_share(block: Floats) -> float:
    """Return the share of one basis' clicks off the diagonal; 1/2 where there are none."""
    total = float(block.sum())
    return 1 - float(np.trace(block)) / total if total > 0 else 0.5
