"""Counts of vacuum and decoy slots: what is seen of a modulator's null while key is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.mean_photon import SlotCounts


@dataclass(frozen=True)
class VacuumCounts:
    """What a window tells of the pulses that should be empty.

    Attributes:
        seen: Their counts in the gates.
        light: Counts that they would hold at the modulator's peak, as the decoys tell.
        background: Expected counts in them that are not light from Alice.
        duration_s: Exposure, s.
    """

    seen: int
    light: float
    background: float
    duration_s: float

    @classmethod
    def of(
        cls,
        window: Window,
        pattern: Pattern,
        levels: Mapping[str, float],
        vacuum: str,
        gate_share: float = 1.0,
    ) -> VacuumCounts:
        """Count the vacuum and decoy slots of a window.

        Args:
            window: Clicks by intensity.
            pattern: What Alice sends.
            levels: Mean photon number of each intensity.
            vacuum: The intensity whose pulses should be empty.
            gate_share: Share of a slot within the gate; below 1 the clicks outside tell the
                background.

        Raises:
            ValueError: The pattern sends no such intensity, or no decoy beside it.
        """
        slots, names = SlotCounts.of([window], pattern, gate_share), pattern.intensity_names
        decoys = decoys_of(pattern, vacuum)
        lit = sum(float(slots.counts[i] - slots.background[i]) for i in map(names.index, decoys))
        weight = sum(levels[name] * slots.shares[names.index(name)] for name in decoys)
        number = names.index(vacuum)
        peak = levels[pattern.signal] * slots.shares[number]
        return cls(
            seen=int(slots.counts[number]),
            light=max(lit * float(peak / weight), 0.0),
            background=float(slots.background[number]),
            duration_s=window.duration_s,
        )

    def __add__(self, other: VacuumCounts) -> VacuumCounts:
        return VacuumCounts(
            self.seen + other.seen,
            self.light + other.light,
            self.background + other.background,
            self.duration_s + other.duration_s,
        )


def decoys_of(pattern: Pattern, vacuum: str) -> tuple[str, ...]:
    """Name the intensities between the signal and the empty one.

    Raises:
        ValueError: There are none, or the pattern does not send the empty one.
    """
    if vacuum not in pattern.intensity_names[1:]:
        raise ValueError(f"the pattern sends no intensity {vacuum!r} beside the signal")
    decoys = tuple(name for name in pattern.intensity_names[1:] if name != vacuum)
    if not decoys:
        raise ValueError(
            f"the pattern sends no decoy beside {vacuum!r}: nothing but signal slots would tell "
            "how much light there is"
        )
    return decoys
