"""Model of a controller made of variable retarders, such as liquid-crystal cells.

A cell's retardance is a steep and curved function of its drive voltage. That function is on its
data sheet, so the drives here are not volts but the retardances that the data sheet gives for them,
in waves (a knob's ``curve`` puts them in volts, ``drivers.calibration_curve``). What remains to be
learnt is what the data sheet does not know of this cell, at this wavelength and temperature::

    retardance_k = 2 pi waves_k (1 + scale_k) + offset_k

That is a squeezer whose half-wave voltage is half a wave and whose offset is nearly known. It acts
alike after a whole wave, if its range is as wide as that; where it is not, three cells do not reach
every rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from calibration.retarders import RetarderChain, prior_of_widths

THREE_CELLS_DEG = (0.0, 90.0, 0.0)
"""Stokes azimuths of three cells, by turns at 0 and 45 degrees in the laboratory."""

HALF_WAVE_WAVES = 0.5


@dataclass(frozen=True)
class VariableRetarderChain(RetarderChain):
    """What is known of a row of variable retarders before anything is measured.

    Its errors are those of a :class:`~calibration.retarders.RetarderChain`, whose "volts" are
    nominal waves here; offsets count at no retardance.
    """

    kind: ClassVar[str] = "variable-retarders"

    @classmethod
    def of_cells(
        cls,
        azimuth_deg: Sequence[float] = THREE_CELLS_DEG,
        *,
        scale_sigma: float = 0.06,
        azimuth_sigma_deg: float = 6.0,
        offset_sigma_waves: float = 0.03,
    ) -> VariableRetarderChain:
        """Describe a row of cells by their data sheets.

        Args:
            azimuth_deg: Nominal Stokes azimuth of each axis (twice the laboratory angle), degrees,
                in the order of the light.
            scale_sigma: Relative uncertainty of the retardances.
            azimuth_sigma_deg: Uncertainty of the azimuths, Stokes degrees.
            offset_sigma_waves: Uncertainty of a retardance where the data sheet has none, in waves.

        Raises:
            ValueError: There are fewer than three cells.
        """
        azimuth = np.radians(np.asarray(azimuth_deg, dtype=float))
        return cls(
            half_wave_v=np.full(azimuth.shape, HALF_WAVE_WAVES),
            azimuth_rad=azimuth,
            centre_v=np.zeros(azimuth.shape),
            prior=prior_of_widths(
                len(azimuth),
                scale=scale_sigma,
                azimuth_deg=azimuth_sigma_deg,
                offset_rad=2 * np.pi * offset_sigma_waves,
            ),
        )
