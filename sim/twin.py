"""The optical twin of one link: decoy-state BB84 with polarization encoding."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.fibre import Fibre, FibreSettings
from sim.nanowires import Nanowires, NanowireSettings
from sim.paddles import PaddleBank, PaddleSettings
from sim.receiver import DETECTORS, Receiver, ReceiverSettings, Recovery
from sim.source import Source, SourceSettings
from sim.squeezers import SqueezerBank, SqueezerSettings
from sim.stokes import Floats, haar_rotation
from sim.voa import AttenuatorModel

CHUNK_S: Final = 0.1
"""Longest stretch of time over which the optics count as standing still."""

MOVING_CHUNK_S: Final = 1e-3
"""The same while a drive or the attenuator is on its way."""

PHOTON_ENERGY_J: Final = 6.62607015e-34 * 299792458 / 1550e-9
"""Energy of a photon of 1550 nm."""


@dataclass(frozen=True)
class TwinSettings:
    """One link, whole.

    Attributes:
        source: What Alice sends.
        controller: The polarization controller: squeezers or paddles.
        fibre: The drifting fibre before the controller.
        receiver: Bob's detectors.
        nanowires: What bias currents do to them.
        loss_db: Loss of the channel, everything but the receiver's own optics, dB.
        nominal_attenuation_db: Setting of Alice's attenuator at which the mean photon numbers
            hold, dB.
        monitor_tap_db: How much brighter the monitor tap is than what leaves Alice, dB: a fixed
            attenuator of this size sits behind the tap, and after it light is at quantum level.
        seed: All that is random follows from it.
    """

    source: SourceSettings = field(default_factory=SourceSettings)
    controller: SqueezerSettings | PaddleSettings = field(default_factory=SqueezerSettings)
    fibre: FibreSettings = field(default_factory=FibreSettings)
    receiver: ReceiverSettings = field(default_factory=ReceiverSettings)
    nanowires: NanowireSettings = field(default_factory=NanowireSettings)
    loss_db: float = 15.0
    nominal_attenuation_db: float = 20.0
    monitor_tap_db: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.loss_db >= 0:
            raise ValueError("loss_db must not be negative")


class Twin:
    """Source, attenuator, fibre, polarization controller and receiver as one physical system.

    Stokes vectors at Alice reach Bob through ``R_r . controller . R_f(t)``: a fixed fibre
    after the controller, a drifting one before it, both unknown to the operator. The attenuator
    starts at its nominal setting with the shutter shut. The same seed and the same calls give the
    same bytes.

    Args:
        settings: The link.
        start_s: Start of the fibre's drift, s; None takes the first time that is asked for.
    """

    def __init__(self, settings: TwinSettings, *, start_s: float | None = None) -> None:
        self.settings = settings
        unknowns, path, noise = np.random.SeedSequence(settings.seed).spawn(3)
        unknown = np.random.default_rng(unknowns)
        self._noise = np.random.default_rng(noise)
        self._receiver_rotation = haar_rotation(unknown)
        self.controller = _controller(settings.controller, unknown)
        self.fibre = Fibre(settings.fibre, np.random.default_rng(path), start_s=start_s)
        self.source = Source(settings.source)
        self.attenuator = AttenuatorModel(settings.nominal_attenuation_db)
        self.receiver = Receiver(settings.receiver, self.source.slot_ps)
        self.nanowires = Nanowires(settings.nanowires)
        self._biased = np.ones((2, DETECTORS)), self.receiver

    @property
    def squeezers(self) -> SqueezerBank:
        """The controller of a link that is turned by squeezers.

        Raises:
            ValueError: This link has paddles.
        """
        if isinstance(self.controller, SqueezerBank):
            return self.controller
        raise ValueError("the simulated link has fibre paddles, no squeezers")

    @property
    def paddles(self) -> PaddleBank:
        """The controller of a link that is turned by fibre paddles.

        Raises:
            ValueError: This link has squeezers.
        """
        if isinstance(self.controller, PaddleBank):
            return self.controller
        raise ValueError("the simulated link has squeezers, no fibre paddles")

    @property
    def sync_period_ps(self) -> float:
        """Time between two START pulses, ps: one period of Alice's pattern."""
        return self.source.period_ps

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation from Alice's to Bob's Stokes axes, shape ``(3, 3)``."""
        controller = self.controller.rotation(now_s)
        return np.asarray(self._receiver_rotation @ controller @ self.fibre.rotation(now_s))

    def transmission(self, now_s: float) -> float:
        """Return light at the receiver over light at Alice with nominal attenuation."""
        gain_db = self.settings.nominal_attenuation_db - self.settings.loss_db
        gain_db -= self.controller.loss_db(now_s)
        return float(self.attenuator.transmission(now_s) * 10 ** (gain_db / 10))

    def monitor_power_w(self, now_s: float) -> float:
        """Return the power at the monitor tap behind Alice's attenuator and shutter, W.

        It is what leaves Alice, mean photon number times photon energy times pulse rate, times the
        tap's brightness: a power meter sees no single photons. Polarization does not matter.
        """
        gain_db = self.settings.nominal_attenuation_db + self.settings.monitor_tap_db
        photons_hz = self.source.mean_photons().mean() * self.source.settings.clock_hz
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

    def qber(self, now_s: float) -> float:
        """Return the QBER to expect: mean of Z and X at signal intensity, without noise.

        It is that of the pattern, whatever the source sends just now. In the dark it is 1/2.
        """
        receiver = self._receiver_at(now_s)
        return self._expected_qber(self.rotation(now_s), self.transmission(now_s), receiver)

    def qber_floor(self) -> float:
        """Return the best QBER within reach: perfect alignment at nominal attenuation."""
        return self._expected_qber(np.eye(3), 10 ** (-self.settings.loss_db / 10))

    def best_drives(self, now_s: float) -> Floats:
        """Return voltages or angles within the controller's range that align best at a time.

        From the twin's true parameters, hysteresis and slew left aside: nobody on the bench can
        know them.

        Returns:
            Volts, shape ``(4,)``, of squeezers; degrees, shape ``(3,)``, of paddles.
        """
        fibre = self.fibre.rotation(now_s)

        def misalignment(drives: Floats) -> Floats:
            # |R e1 - e1|^2 + |R e2 - e2|^2 is proportional to the excess QBER
            controller = self.controller.rotation_at(drives)
            total = self._receiver_rotation @ controller @ fibre
            return np.asarray((total - np.eye(3))[:, :2].ravel())

        low, high = self.controller.bounds()
        quarters = 0.625 * low + 0.375 * high, 0.375 * low + 0.625 * high
        best, best_cost = np.full(self.controller.drives, np.nan), np.inf
        for start in product(quarters, repeat=self.controller.drives):
            found = least_squares(misalignment, start, bounds=(low, high))
            if found.cost < best_cost:
                best, best_cost = found.x, found.cost
            if best_cost < 1e-12:
                break
        return np.asarray(best)

    def best_qber(self, now_s: float) -> float:
        """Return the QBER at the best drives and the light of a time."""
        controller = self.controller.rotation_at(self.best_drives(now_s))
        rotation = self._receiver_rotation @ controller @ self.fibre.rotation(now_s)
        return self._expected_qber(rotation, self.transmission(now_s), self._receiver_at(now_s))

    def _clicks(self, start_s: float, duration_s: float) -> Iterator[tuple[float, list[Floats]]]:
        """Draw a window piece by piece; yield each piece's start, ps, and its click times in it."""
        recovery = [Recovery() for _ in range(DETECTORS)]
        passed = 0
        for middle_s, periods in self._chunks(start_s, duration_s):
            light = self._light(middle_s)
            clicks = self._receiver_at(middle_s).tags(light, periods, self._noise, recovery)
            yield passed * self.sync_period_ps, clicks
            passed += periods

    def _receiver_at(self, now_s: float) -> Receiver:
        """Return the detectors as their bias lets them be at a time."""
        response = np.array(self.nanowires.response(now_s))
        known, receiver = self._biased
        if np.array_equal(response, known):
            return receiver
        rested = self.settings.receiver
        h, v, d, a = np.minimum(response[0] * rested.efficiencies, 1.0).tolist()
        dark = (response[1] * rested.dark_hz).tolist()
        biased = replace(
            rested, efficiencies=(h, v, d, a), dark_hz=(dark[0], dark[1], dark[2], dark[3])
        )
        self._biased = response, Receiver(biased, self.source.slot_ps)
        return self._biased[1]

    def _light(self, now_s: float) -> Floats:
        mean_photons = self.source.mean_photons() * self.transmission(now_s)
        states = self.source.sent_states(now_s)
        receiver = self._receiver_at(now_s)
        return receiver.light(self.rotation(now_s), mean_photons, states)

    def _expected_qber(
        self, rotation: Floats, transmission: float, receiver: Receiver | None = None
    ) -> float:
        receiver = receiver or self.receiver
        mean_photons = self.source.mean_photons() * transmission
        pattern = receiver.light(rotation, mean_photons, self.source.pattern_states())
        signal = np.full(4, self.source.signal_mean_photons * transmission)
        each = receiver.light(rotation, signal, np.arange(4))
        table = receiver.clicks_per_slot(each, pattern)  # sent state by detector
        return (_error_share(table[:2, :2]) + _error_share(table[2:, 2:])) / 2

    def _chunks(self, start_s: float, duration_s: float) -> Iterator[tuple[float, int]]:
        """Cut a window where something was told to move; yield middles and whole periods."""
        period_s = self.source.period_ps * 1e-12
        end_s = start_s + duration_s
        devices = (self.source, self.controller, self.attenuator, self.nanowires)
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
        return self.controller.is_moving(now_s) or self.attenuator.time_left_s(now_s) > 0


def _controller(
    settings: SqueezerSettings | PaddleSettings, unknown: np.random.Generator
) -> SqueezerBank | PaddleBank:
    match settings:
        case SqueezerSettings():
            return SqueezerBank(settings, unknown)
        case PaddleSettings():
            return PaddleBank(settings, unknown)


def _error_share(block: Floats) -> float:
    """Return the share of one basis' clicks off the diagonal; 1/2 where there are none."""
    total = float(block.sum())
    return 1 - float(np.trace(block)) / total if total > 0 else 0.5
