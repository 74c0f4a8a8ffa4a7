"""The optical twin of one link: decoy-state BB84 with polarization encoding."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.fibre import Fibre, FibreSettings
from sim.receiver import DETECTORS, Receiver, ReceiverSettings, Recovery
from sim.source import Source, SourceSettings
from sim.squeezers import FULL_SCALE_V, SqueezerBank, SqueezerSettings
from sim.stokes import Floats, haar_rotation
from sim.voa import AttenuatorModel

CHUNK_S: Final = 0.1
"""Longest stretch of time over which the optics count as standing still."""

MOVING_CHUNK_S: Final = 1e-3
"""The same while a drive or the attenuator is on its way."""


@dataclass(frozen=True)
class TwinSettings:
    """One link, whole.

    Attributes:
        source: What Alice sends.
        squeezers: The polarization controller.
        fibre: The drifting fibre before the controller.
        receiver: Bob's detectors.
        loss_db: Loss of the channel, everything but the receiver's own optics, dB.
        nominal_attenuation_db: Setting of Alice's attenuator at which the mean photon numbers
            hold, dB.
        seed: All that is random follows from it.
    """

    source: SourceSettings = field(default_factory=SourceSettings)
    squeezers: SqueezerSettings = field(default_factory=SqueezerSettings)
    fibre: FibreSettings = field(default_factory=FibreSettings)
    receiver: ReceiverSettings = field(default_factory=ReceiverSettings)
    loss_db: float = 15.0
    nominal_attenuation_db: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.loss_db >= 0:
            raise ValueError("loss_db must not be negative")


class Twin:
    """Source, attenuator, fibre, squeezers and receiver as one physical system.

    Stokes vectors at Alice reach Bob through ``R_r . controller(v) . R_f(t)``: a fixed fibre
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
        self.squeezers = SqueezerBank(settings.squeezers, unknown)
        self.fibre = Fibre(settings.fibre, np.random.default_rng(path), start_s=start_s)
        self.source = Source(settings.source)
        self.attenuator = AttenuatorModel(settings.nominal_attenuation_db)
        self.receiver = Receiver(settings.receiver, self.source.slot_ps)

    @property
    def sync_period_ps(self) -> float:
        """Time between two START pulses, ps: one period of Alice's pattern."""
        return self.source.period_ps

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation from Alice's to Bob's Stokes axes, shape ``(3, 3)``."""
        controller = self.squeezers.rotation(now_s)
        return np.asarray(self._receiver_rotation @ controller @ self.fibre.rotation(now_s))

    def transmission(self, now_s: float) -> float:
        """Return light at the receiver over light at Alice with nominal attenuation."""
        gain_db = self.settings.nominal_attenuation_db - self.settings.loss_db
        gain_db -= self.squeezers.loss_db(now_s)
        return float(self.attenuator.transmission(now_s) * 10 ** (gain_db / 10))

    def tags(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.uint64]]:
        """Draw the time tags of a window of whole pattern periods.

        Ask for a window when it is over: changes made while it lasted are then in it.

        Returns:
            Per input 1 to 4 (H, V, D, A) the ps since the last START, in order of arrival.
        """
        recovery = [Recovery() for _ in range(DETECTORS)]
        parts = [[np.empty(0, dtype=np.uint64)] for _ in range(DETECTORS)]
        for middle_s, periods in self._chunks(start_s, duration_s):
            light = self._light(middle_s)
            clicks = self.receiver.tags(light, periods, self._noise, recovery)
            for part, times in zip(parts, clicks, strict=True):
                part.append((times % self.sync_period_ps).astype(np.uint64))
        return {j + 1: np.concatenate(part) for j, part in enumerate(parts)}

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        """Draw plain counts of a window of whole pattern periods, shape ``(4,)``."""
        total = np.zeros(DETECTORS, dtype=np.int64)
        for middle_s, periods in self._chunks(start_s, duration_s):
            total += self.receiver.counts(self._light(middle_s), periods, self._noise)
        return total

    def detection_rate_hz(self, now_s: float) -> float:
        """Return the click rate to expect of all detectors together, Hz."""
        clicks = self.receiver.clicks_per_slot(self._light(now_s))
        return float(clicks.sum() * 1e12 / self.source.period_ps)

    def qber(self, now_s: float) -> float:
        """Return the QBER to expect: mean of Z and X at signal intensity, without noise.

        It is that of the pattern, whatever the source sends just now. In the dark it is 1/2.
        """
        return self._expected_qber(self.rotation(now_s), self.transmission(now_s))

    def qber_floor(self) -> float:
        """Return the best QBER within reach: perfect alignment at nominal attenuation."""
        return self._expected_qber(np.eye(3), 10 ** (-self.settings.loss_db / 10))

    def best_voltages(self, now_s: float) -> Floats:
        """Return voltages within full scale that align best at a time, shape ``(4,)``, V.

        From the twin's true parameters, hysteresis and slew left aside: nobody on the bench can
        know them.
        """
        fibre = self.fibre.rotation(now_s)

        def misalignment(voltages_v: Floats) -> Floats:
            # |R e1 - e1|^2 + |R e2 - e2|^2 is proportional to the excess QBER
            controller = self.squeezers.rotation_at(voltages_v)
            total = self._receiver_rotation @ controller @ fibre
            return np.asarray((total - np.eye(3))[:, :2].ravel())

        best_v, best_cost = np.zeros(4), np.inf
        for start_v in product((-0.25 * FULL_SCALE_V, 0.25 * FULL_SCALE_V), repeat=4):
            found = least_squares(misalignment, start_v, bounds=(-FULL_SCALE_V, FULL_SCALE_V))
            if found.cost < best_cost:
                best_v, best_cost = found.x, found.cost
            if best_cost < 1e-12:
                break
        return np.asarray(best_v)

    def best_qber(self, now_s: float) -> float:
        """Return the QBER at the best voltages and the light of a time."""
        controller = self.squeezers.rotation_at(self.best_voltages(now_s))
        rotation = self._receiver_rotation @ controller @ self.fibre.rotation(now_s)
        return self._expected_qber(rotation, self.transmission(now_s))

    def _light(self, now_s: float) -> Floats:
        mean_photons = self.source.mean_photons() * self.transmission(now_s)
        states = self.source.sent_states(now_s)
        return self.receiver.light(self.rotation(now_s), mean_photons, states)

    def _expected_qber(self, rotation: Floats, transmission: float) -> float:
        mean_photons = self.source.mean_photons() * transmission
        pattern = self.receiver.light(rotation, mean_photons, self.source.pattern_states())
        signal = np.full(4, self.source.signal_mean_photons * transmission)
        each = self.receiver.light(rotation, signal, np.arange(4))
        table = self.receiver.clicks_per_slot(each, pattern)  # sent state by detector
        return (_error_share(table[:2, :2]) + _error_share(table[2:, 2:])) / 2

    def _chunks(self, start_s: float, duration_s: float) -> Iterator[tuple[float, int]]:
        """Cut a window where something was told to move; yield middles and whole periods."""
        period_s = self.source.period_ps * 1e-12
        end_s = start_s + duration_s
        devices = (self.source, self.squeezers, self.attenuator)
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
        return self.squeezers.is_moving(now_s) or self.attenuator.time_left_s(now_s) > 0


def _error_share(block: Floats) -> float:
    """Return the share of one basis' clicks off the diagonal; 1/2 where there are none."""
    total = float(block.sum())
    return 1 - float(np.trace(block)) / total if total > 0 else 0.5
