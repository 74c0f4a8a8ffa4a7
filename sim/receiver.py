"""Bob's passive four-detector receiver: from light to clicks.

Detectors H, V, D, A sit behind a beam splitter that chooses the basis. All times within one call
count from the start of a whole number of pattern periods.
"""

from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sim.stokes import STATE_VECTORS, Floats

DETECTORS = 4


@dataclass(frozen=True)
class ReceiverSettings:
    """What four detectors do to the light, one number per detector in the order H, V, D, A.

    Attributes:
        efficiencies: Detection efficiency, the receiver's own optics included.
        dark_hz: Dark count rate, Hz; with a gate, the rate while it is open.
        dead_time_s: Time after a click in which no other click comes (non-paralysable), s.
        afterpulse_probability: Chance that a click is followed by an afterpulse.
        afterpulse_tau_s: Afterpulses come after the dead time, exponentially with this constant, s.
        jitter_ps: Standard deviation of a click's time, ps.
        gate_width_ps: Clicks further than half of this from the slot's centre do not happen, ps;
            None: no gate.
        delay_ps: Arrival after the slot's centre, ps.
        delay_drift_ps_per_sqrt_s: Strength of the random walk that each detector's arrival takes
            from there from the time 0 on, ps per root of a second.
        visibility: Polarization contrast at perfect alignment.
        z_share: Share of the light that goes to the Z basis.
        saturation_hz: Highest rate of photoelectrons that the readout of a detector resolves, Hz.
    """

    efficiencies: tuple[float, float, float, float] = (0.2, 0.2, 0.2, 0.2)
    dark_hz: tuple[float, float, float, float] = (40.0, 40.0, 40.0, 40.0)
    dead_time_s: float = 50e-9
    afterpulse_probability: float = 0.0
    afterpulse_tau_s: float = 1e-6
    jitter_ps: float = 50.0
    gate_width_ps: float | None = None
    delay_ps: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    delay_drift_ps_per_sqrt_s: float = 0.0
    visibility: float = 1 - 2 * 0.005
    z_share: float = 0.5
    saturation_hz: float = 1e7

    def __post_init__(self) -> None:
        if not all(0 <= eta <= 1 for eta in (*self.efficiencies, self.visibility, self.z_share)):
            raise ValueError("efficiencies, visibility and z_share lie between 0 and 1")
        if not 0 <= self.afterpulse_probability < 1:
            raise ValueError("afterpulse_probability lies between 0 and 1")
        if min(*self.dark_hz, self.dead_time_s, self.jitter_ps) < 0:
            raise ValueError("dark counts, dead time and jitter must not be negative")
        if not min(self.afterpulse_tau_s, self.saturation_hz, self.gate_width_ps or 1) > 0:
            raise ValueError("afterpulse_tau_s, saturation_hz and gate_width_ps must be positive")


@dataclass
class Recovery:
    """What one detector still remembers when a stretch of time ends, ps from that end.

    Attributes:
        last_click_ps: Its last click, not positive.
        afterpulses_ps: Afterpulses still to come.
    """

    last_click_ps: float = -float("inf")
    afterpulses_ps: Floats = field(default_factory=lambda: np.empty(0))


class Receiver:
    """Turns Stokes rotations and mean photon numbers into click probabilities, tags and counts.

    Args:
        settings: The detectors.
        slot_ps: Length of a slot, ps.
    """

    def __init__(self, settings: ReceiverSettings, slot_ps: float) -> None:
        self.settings = settings
        self.slot_ps = slot_ps
        z, x = settings.z_share, 1 - settings.z_share
        self._efficiencies = np.array(settings.efficiencies) * (z, z, x, x)
        gate_ps = min(settings.gate_width_ps or slot_ps, slot_ps)
        self._dark = np.array(settings.dark_hz) * gate_ps * 1e-12  # mean per slot
        self._gate_share = gate_ps / slot_ps
        self._in_gate = self._share_in_gate()
        self._dead_slots = self._slots_in_dead_time()

    def light(
        self,
        rotation: Floats,
        mean_photons: Floats,
        states: NDArray[np.int64],
        sent: Floats = STATE_VECTORS,
    ) -> Floats:
        """Return the mean number of photoelectrons per slot and detector, gate left aside.

        Detector ``j`` gets ``share mu eta (1 + Vis m_j . R s_i) / 2`` of state ``i``; the share is
        that of its basis, 1/2 by default.

        Args:
            rotation: From Alice's to Bob's Stokes axes, shape ``(3, 3)``.
            mean_photons: Mean photon number at the receiver, shape ``(k,)``.
            states: Sent states, indices into HVDA, shape ``(k,)``.
            sent: Stokes vectors that stand for HVDA, shape ``(4, 3)``.

        Returns:
            Shape ``(k, 4)``.
        """
        overlap = sent[states] @ rotation.T @ STATE_VECTORS.T
        malus = (1 + self.settings.visibility * overlap) / 2
        return np.asarray(mean_photons[:, None] * self._efficiencies * malus)

    def probabilities(
        self, rotation: Floats, mean_photons: Floats, states: NDArray[np.int64]
    ) -> Floats:
        """Return the click probability per slot and detector: threshold detectors, rested.

        ``1 - (1 - p_d) exp(-light)`` with dark count probability ``p_d`` per gate.

        Args:
            rotation: From Alice's to Bob's Stokes axes, shape ``(3, 3)``.
            mean_photons: Mean photon number at the receiver, shape ``(k,)``.
            states: Sent states, indices into HVDA, shape ``(k,)``.

        Returns:
            Shape ``(k, 4)``.
        """
        return self._click(self.light(rotation, mean_photons, states))

    def clicks_per_slot(self, light: Floats, period_light: Floats | None = None) -> Floats:
        """Return the clicks to expect per slot, the detectors being as busy as they are.

        Saturation, afterpulses and dead time are mean effects here: afterpulses spread evenly
        over the slots, and a detector that would click with probability ``p`` in each slot does so
        with ``p / (1 + p d)`` when every click covers the next ``d`` slots (non-paralysable; for
        light that is steady over a slot this is Knoll's ``n / (1 + n dead_time)``, Radiation
        Detection and Measurement, ch. 4).

        Args:
            light: Of the slots asked for, shape ``(k, 4)``, as ``light`` returns it.
            period_light: Of the whole period that keeps the detectors busy; None: ``light``.

        Returns:
            Shape ``(k, 4)``.
        """
        period_light = light if period_light is None else period_light
        resolved = self._resolved_share(period_light)
        click = self._click(light * resolved)
        alone = self._click(period_light * resolved).mean(axis=0)
        again, dead = self.settings.afterpulse_probability * self._gate_share, self._dead_slots
        # seen = (alone + again seen) / (1 + (alone + again seen) dead), the positive root
        b = 1 + alone * dead - again
        seen = 2 * alone / (b + np.sqrt(b * b + 4 * again * dead * alone))
        return np.asarray((click + again * seen) * (1 - seen * dead))

    def counts(
        self, light: Floats, periods: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw plain counts of each detector, shape ``(4,)``.

        Poisson about the mean of ``clicks_per_slot``: the small change that dead time and
        afterpulses make to the variance is left out.
        """
        mean = self.clicks_per_slot(light).sum(axis=0) * periods
        return np.asarray(generator.poisson(mean), dtype=np.int64)

    def tags(
        self,
        light: Floats,
        periods: int,
        generator: np.random.Generator,
        recovery: list[Recovery],
        late_ps: Floats | None = None,
    ) -> list[Floats]:
        """Draw the click times of each detector over whole periods of constant light.

        Args:
            light: Of one period, shape ``(k, 4)``, as ``light`` returns it.
            periods: Number of periods.
            generator: Photon noise.
            recovery: State of each detector, brought up to the end.
            late_ps: How much later than its delay light arrives at each detector, ps, shape
                ``(4,)``; None: not at all.

        Returns:
            One sorted array per detector, ps from the start.
        """
        light = light * self._resolved_share(light)
        arrival_ps = np.array(self.settings.delay_ps) + (0.0 if late_ps is None else late_ps)
        return [
            self._detector_tags(j, light[:, j], periods, generator, recovery[j], arrival_ps[j])
            for j in range(DETECTORS)
        ]

    def _click(self, light: Floats) -> Floats:
        return np.asarray(-np.expm1(-light * self._in_gate - self._dark))

    def _resolved_share(self, light: Floats) -> Floats:
        """Return the share of the photoelectrons that each detector's readout resolves."""
        rate_hz = light.mean(axis=0) * 1e12 / self.slot_ps
        limit_hz = self.settings.saturation_hz
        return np.asarray(limit_hz / np.maximum(rate_hz, limit_hz))

    def _slots_in_dead_time(self) -> float:
        """Return how many slots after a click are covered: one counts in part at the rim."""
        dead_ps = self.settings.dead_time_s * 1e12
        after_ps = np.arange(1, 2 + ceil(dead_ps / self.slot_ps)) * self.slot_ps
        jitter_ps = max(sqrt(2) * self.settings.jitter_ps, 1e-3)  # of a difference of two times
        return float(ndtr((dead_ps - after_ps) / jitter_ps).sum())

    def _share_in_gate(self) -> Floats:
        delay_ps = np.array(self.settings.delay_ps)
        if self.settings.gate_width_ps is None:
            return np.ones(DETECTORS)
        edge_ps = self.settings.gate_width_ps / 2
        if self.settings.jitter_ps == 0:
            return np.asarray(np.abs(delay_ps) <= edge_ps, dtype=float)
        edges = np.array([edge_ps - delay_ps, -edge_ps - delay_ps]) / self.settings.jitter_ps
        return np.asarray(ndtr(edges[0]) - ndtr(edges[1]))

    def _detector_tags(
        self,
        detector: int,
        light: Floats,
        periods: int,
        generator: np.random.Generator,
        recovery: Recovery,
        arrival_ps: float,
    ) -> Floats:
        span_ps = periods * light.size * self.slot_ps
        dead_ps = self.settings.dead_time_s * 1e12
        times = np.concatenate(
            [
                self._photoelectrons(light, periods, generator, arrival_ps),
                self._darks(detector, span_ps, generator),
            ]
        )
        times = self._gated(times)
        times.sort()
        if self.settings.afterpulse_probability > 0:
            clicks = after_dead_time(times, dead_ps, recovery.last_click_ps)
            later = np.concatenate([recovery.afterpulses_ps, self._afterpulses(clicks, generator)])
            recovery.afterpulses_ps = later[later >= span_ps] - span_ps
            times = np.concatenate([clicks, later[later < span_ps]])
            times.sort()
        clicks = after_dead_time(times, dead_ps, recovery.last_click_ps)
        last = clicks[-1] if clicks.size else recovery.last_click_ps
        recovery.last_click_ps = float(last - span_ps)
        return clicks

    def _photoelectrons(
        self, light: Floats, periods: int, generator: np.random.Generator, arrival_ps: float
    ) -> Floats:
        """Draw unsorted arrival times; those jittered over an edge come in at the other."""
        period_ps = light.size * self.slot_ps
        numbers = generator.poisson(light * periods)
        centres = (np.arange(light.size) + 0.5) * self.slot_ps + arrival_ps
        total = int(numbers.sum())
        times = generator.integers(periods, size=total) * period_ps
        times += np.repeat(centres, numbers)
        times += generator.standard_normal(total) * self.settings.jitter_ps
        return np.asarray(times % (periods * period_ps))

    def _darks(self, detector: int, span_ps: float, generator: np.random.Generator) -> Floats:
        mean = self.settings.dark_hz[detector] * span_ps * 1e-12
        return np.asarray(generator.uniform(0, span_ps, generator.poisson(mean)))

    def _afterpulses(self, clicks: Floats, generator: np.random.Generator) -> Floats:
        """Draw the afterpulses of clicks, those of afterpulses included."""
        settings = self.settings
        born = []
        while clicks.size:
            parents = clicks[generator.random(clicks.size) < settings.afterpulse_probability]
            delays_s = settings.dead_time_s + generator.exponential(
                settings.afterpulse_tau_s, parents.size
            )
            clicks = self._gated(parents + delays_s * 1e12)
            born.append(clicks)
        return np.concatenate(born) if born else np.empty(0)

    def _gated(self, times: Floats) -> Floats:
        if self.settings.gate_width_ps is None:
            return times
        offset_ps = times % self.slot_ps - self.slot_ps / 2
        return np.asarray(times[np.abs(offset_ps) <= self.settings.gate_width_ps / 2])


def after_dead_time(times: Floats, dead_time: float, last_click: float = -np.inf) -> Floats:
    """Drop the events that fall into the dead time after a click (non-paralysable).

    Only events that closely follow another are looked at one by one.

    Args:
        times: Sorted event times, shape ``(n,)``.
        dead_time: Same unit; an event exactly this long after a click is seen.
        last_click: Time of the click before the first event.

    Returns:
        The clicks, sorted.
    """
    times = times[np.searchsorted(times, last_click + dead_time) :]
    short = np.flatnonzero(np.diff(times) < dead_time)
    lost: list[int] = []
    last_lost, last_kept = -1, 0.0
    for i, first, second in zip(
        short.tolist(), times[short].tolist(), times[short + 1].tolist(), strict=True
    ):
        if i != last_lost:
            last_kept = first
        if second - last_kept < dead_time:
            last_lost = i + 1
            lost.append(last_lost)
    return np.delete(times, lost) if lost else times
