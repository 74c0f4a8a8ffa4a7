"""The optical twin of a link with polarization encoding: decoy-state BB84."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy.optimize import least_squares

from sim.fibre import Fibre, FibreSettings
from sim.liquid_crystals import LiquidCrystalBank, LiquidCrystalSettings
from sim.paddles import PaddleBank, PaddleSettings
from sim.receiver import Receiver
from sim.squeezers import SqueezerBank, SqueezerSettings
from sim.stokes import STATE_VECTORS, Floats, haar_rotation
from sim.twin import Moving, Twin, TwinSettings, error_share

ControllerSettings = SqueezerSettings | PaddleSettings | LiquidCrystalSettings


@dataclass(frozen=True)
class PolarizationTwinSettings(TwinSettings):
    """A link with polarization encoding.

    Attributes:
        controller: The polarization controller: squeezers, paddles or liquid-crystal cells.
        fibre: The drifting fibre before the controller.
    """

    controller: ControllerSettings = field(default_factory=SqueezerSettings)
    fibre: FibreSettings = field(default_factory=FibreSettings)

    def build(self, *, start_s: float | None = None) -> "PolarizationTwin":
        """Build the link."""
        return PolarizationTwin(self, start_s=start_s)


class PolarizationTwin(Twin):
    """Source, attenuator, fibre, polarization controller and receiver as one physical system.

    Stokes vectors at Alice reach Bob through ``R_r . controller . R_f(t)``: a fixed fibre
    after the controller, a drifting one before it, both unknown to the operator.

    Args:
        settings: The link.
        start_s: Start of the fibre's drift, s; None takes the first time that is asked for.
    """

    def __init__(self, settings: PolarizationTwinSettings, *, start_s: float | None = None) -> None:
        self.settings = settings
        unknowns, path, noise = np.random.SeedSequence(settings.seed).spawn(3)
        unknown = np.random.default_rng(unknowns)
        self._receiver_rotation = haar_rotation(unknown)
        self.controller = _controller(settings.controller, unknown)
        self.fibre = Fibre(settings.fibre, np.random.default_rng(path), start_s=start_s)
        bin_ps = 1e12 / settings.source.clock_hz
        super().__init__(settings, bin_ps, np.random.default_rng(noise))

    @property
    def squeezers(self) -> SqueezerBank:
        """The controller of a link that is turned by squeezers.

        Raises:
            ValueError: This link has another controller.
        """
        if isinstance(self.controller, SqueezerBank):
            return self.controller
        raise ValueError("the simulated link has another controller, no squeezers")

    @property
    def paddles(self) -> PaddleBank:
        """The controller of a link that is turned by fibre paddles.

        Raises:
            ValueError: This link has another controller.
        """
        if isinstance(self.controller, PaddleBank):
            return self.controller
        raise ValueError("the simulated link has another controller, no fibre paddles")

    @property
    def liquid_crystals(self) -> LiquidCrystalBank:
        """The controller of a link that is turned by liquid-crystal cells.

        Raises:
            ValueError: This link has another controller.
        """
        if isinstance(self.controller, LiquidCrystalBank):
            return self.controller
        raise ValueError("the simulated link has another controller, no cells")

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation from Alice's to Bob's Stokes axes, shape ``(3, 3)``."""
        controller = self.controller.rotation(now_s)
        return np.asarray(self._receiver_rotation @ controller @ self.fibre.rotation(now_s))

    def sent_vectors(self, now_s: float) -> Floats:
        """Return the Stokes vectors at Alice of HVDA as they are driven, shape ``(4, 3)``."""
        angle = self.levels.state_rad(now_s)
        return np.stack([np.cos(angle), np.sin(angle), np.zeros(4)], axis=1)

    def qber(self, now_s: float) -> float:
        """Return the QBER to expect: mean of Z and X at signal intensity, without noise.

        It is that of the pattern, whatever the source sends just now. In the dark it is 1/2.
        """
        receiver = self._receiver_at(now_s)
        sent = self.sent_vectors(now_s)
        return self._expected_qber(self.rotation(now_s), self.transmission(now_s), receiver, sent)

    def qber_floor(self) -> float:
        """Return the best QBER within reach: perfect alignment at nominal attenuation."""
        return self._expected_qber(np.eye(3), 10 ** (-self.settings.loss_db / 10))

    def best_drives(self, now_s: float) -> Floats:
        """Return voltages or angles within the controller's range that align best at a time.

        From the twin's true parameters, hysteresis and slew left aside: nobody on the bench can
        know them.

        Returns:
            Volts of squeezers or of liquid-crystal cells, degrees of paddles, shape ``(K,)``.
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
        return self._expected_qber(
            rotation, self.transmission(now_s), self._receiver_at(now_s), self.sent_vectors(now_s)
        )

    def disturb(self, vector_rad: Floats, now_s: float) -> None:
        """Turn the fibre by a rotation vector in Stokes space, rad."""
        self.fibre.jump(vector_rad, now_s)

    def _drives(self) -> Sequence[Moving]:
        return (self.controller,)

    def _is_driven(self, now_s: float) -> bool:
        return self.controller.is_moving(now_s)

    def _extra_loss_db(self, now_s: float) -> float:
        return self.controller.loss_db(now_s)

    def _light(self, now_s: float) -> Floats:
        mean_photons = self.mean_photons(now_s) * self.transmission(now_s)
        states = self.source.sent_states(now_s)
        receiver = self._receiver_at(now_s)
        return receiver.light(self.rotation(now_s), mean_photons, states, self.sent_vectors(now_s))

    def _expected_qber(
        self,
        rotation: Floats,
        transmission: float,
        receiver: Receiver | None = None,
        sent: Floats = STATE_VECTORS,
    ) -> float:
        receiver = receiver or self.receiver
        mean_photons = self.source.mean_photons() * transmission
        pattern = receiver.light(rotation, mean_photons, self.source.pattern_states(), sent)
        signal = np.full(4, self.source.signal_mean_photons * transmission)
        each = receiver.light(rotation, signal, np.arange(4), sent)
        table = receiver.clicks_per_slot(each, pattern)  # sent state by detector
        return (error_share(table[:2, :2]) + error_share(table[2:, 2:])) / 2


def _controller(
    settings: ControllerSettings, unknown: np.random.Generator
) -> SqueezerBank | PaddleBank | LiquidCrystalBank:
    match settings:
        case SqueezerSettings():
            return SqueezerBank(settings, unknown)
        case PaddleSettings():
            return PaddleBank(settings, unknown)
        case LiquidCrystalSettings():
            return LiquidCrystalBank(settings, unknown)
