"""Align polarization with qkdctl's sampler in a plain Optuna script: no daemon, no instruments.

Here the bench is a fibre, a controller of four squeezers and a second fibre, all unknown to the
sampler.

    python examples/sampler_alone.py [SEED]

To align your own:

1. Replace ``Bench.count``: set the voltages, wait for the controller to settle, count until about
   ``photons`` detections are in, and return sent state by detector, both in the order H, V, D, A.
   All sixteen counts are used, those of mismatched bases above all. A measurement that fails may
   raise (``study.optimize(..., catch=...)``): failed trials are ignored.
2. Name your channels in ``SPACE`` in the order in which light passes them, with their limits in
   volts and, if they have one, their ``step``; the limits should span a whole period, that is two
   half-wave voltages.
3. Give the half-wave voltage of the data sheet, 10 % is near enough, and ``azimuth_deg`` if the
   squeezers are not at 0, 45, 0, 45 degrees in the laboratory (0, 90, 0, 90 in Stokes space). For a
   controller that was never characterised add ``scale_sigma=0.15, azimuth_sigma_deg=20``.
4. Approach every voltage from the same side if the controller has hysteresis, and check the claim
   with a fresh measurement at ``advice.setting``: it holds only as far as the model does.
"""

import sys

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from calibration.clicks import Clicks
from calibration.sampler import RotationSampler, StopWhenAligned

CHANNELS = ("squeezer-1", "squeezer-2", "squeezer-3", "squeezer-4")
HALF_WAVE_V = 2.5
TARGET_EXCESS = 0.002

SPACE: dict[str, BaseDistribution] = {
    **{channel: FloatDistribution(-5.0, 5.0) for channel in CHANNELS},
    "n_photons": IntDistribution(100, 20_000, log=True),
}


class Bench:
    """A simulated link; replace it by your own.

    Args:
        seed: Draws the fibres, the controller's errors and the noise.
    """

    STOKES = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])  # H, V, D, A
    VISIBILITY = 0.99

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._fibres = [turn(self._rng.normal(size=3), self._rng.uniform(0, 6)) for _ in range(2)]
        self._half_wave_v = HALF_WAVE_V * self._rng.normal(1, 0.05, 4)
        self._offset_rad = self._rng.uniform(0, 2 * np.pi, 4)

    def count(self, voltages: list[float], photons: int) -> list[list[int]]:
        """Set the voltages and count: sent state by detector, both in the order H, V, D, A."""
        overlap = self.STOKES @ self._rotation(voltages).T @ self.STOKES.T
        mean = photons / 16 * (1 + self.VISIBILITY * overlap)
        counts: list[list[int]] = self._rng.poisson(mean).tolist()
        return counts

    def excess(self, voltages: list[float]) -> float:
        """Tell the true QBER above the best reachable one, which no real bench does."""
        rotation = self._rotation(voltages)
        return float(0.25 * self.VISIBILITY * (2 - rotation[0, 0] - rotation[1, 1]))

    def _rotation(self, voltages: list[float]) -> np.ndarray:
        angles = np.pi * np.array(voltages) / self._half_wave_v + self._offset_rad
        whole = self._fibres[0]
        for channel, angle in enumerate(angles):
            axis = np.array([0.0, 1, 0] if channel % 2 else [1.0, 0, 0])
            whole = turn(axis, angle) @ whole
        return np.asarray(self._fibres[1] @ whole)


def turn(axis: np.ndarray, angle_rad: float) -> np.ndarray:
    """Rotate Stokes space about an axis."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross
    return np.asarray(rotation)


def main(seed: int) -> None:
    """Align one random bench and print how it went."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench = Bench(seed)
    sampler = RotationSampler(SPACE, half_wave_v=HALF_WAVE_V, seed=seed)
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        voltages = [trial.suggest_float(channel, -5.0, 5.0) for channel in CHANNELS]
        photons = trial.suggest_int("n_photons", 100, 20_000, log=True)
        clicks = bench.count(voltages, photons)
        trial.set_user_attr("clicks", clicks)  # what the sampler learns from
        return Clicks(np.array(clicks)).qber.value  # for the record

    study.optimize(objective, n_trials=40, callbacks=[StopWhenAligned(sampler, TARGET_EXCESS)])

    advice = sampler.advice(study)
    print(f"settings measured   {advice.settings}")
    print(f"photons detected    {advice.photons}")
    print(f"expected QBER       {advice.predicted_qber:.3%}, floor {advice.floor:.3%}")
    print(f"claimed excess      {advice.excess_q90:.3%} at most, with a probability of 90 %")
    print(f"true excess         {bench.excess(list(advice.setting.values())):.3%}")
    for channel, volts in advice.setting.items():
        print(f"{channel}          {volts:+.3f} V")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
