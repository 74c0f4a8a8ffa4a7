"""How one receiver's clock reads against another's."""

from dataclasses import dataclass

import numpy as np

from timetags.matching import Times


@dataclass(frozen=True)
class ClockOffset:
    """A second clock against a first; all errors are one standard deviation.

    What happens at ``t`` by the first clock is seen by the second at
    ``t + offset_ps + drift * (t - reference_ps)``.

    Attributes:
        reference_ps: When the offset holds, by the first clock, ps.
        offset_ps: What the second clock and its light's way are ahead then, ps.
        offset_error_ps: Its error, ps.
        drift_ppm: How much faster the second clock runs, parts per million.
        drift_error_ppm: Its error, parts per million.
        spread_ps: Standard deviation of the pairs about this line, ps: both detectors' jitter, and
            what the clocks wander beside the line.
        pairs: True pairs that this rests on.
    """

    reference_ps: int
    offset_ps: float
    offset_error_ps: float = 0.0
    drift_ppm: float = 0.0
    drift_error_ppm: float = 0.0
    spread_ps: float = 0.0
    pairs: float = 0.0

    def to_a(self, times_ps: Times) -> Times:
        """Translate times of the second clock to the first, to whole ps; order is kept."""
        whole_ps = round(self.offset_ps)
        since_ps = times_ps - (self.reference_ps + whole_ps)
        drift = self.drift_ppm * 1e-6
        excess = since_ps * (drift / (1 + drift)) + (self.offset_ps - whole_ps) / (1 + drift)
        translated: Times = since_ps + self.reference_ps - np.rint(excess).astype(np.int64)
        return translated

    def offset_at_ps(self, time_ps: float) -> float:
        """Return the offset at a time by the first clock, ps."""
        return self.offset_ps + self.drift_ppm * 1e-6 * (time_ps - self.reference_ps)
