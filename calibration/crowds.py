"""Where light crowds within a slot at each input of the tagger, by what is in front of it.

Behind an interferometer a quarter of the light comes its delay too early and a quarter as much too
late; only the crowd in the middle interferes and is gated. A detector that tells early from late
pulses sees two crowds, and each belongs to a state of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from calibration.arrival import SINGLE, Comb
from calibration.clicks import STATES

EARLY, LATE = "H", "V"
"""Letters of the states that an arrival time tells apart."""

MOST_OF_SLOT = 1 / 3
"""Longest delay of an interferometer, in slots: its three crowds must fit into a slot."""


@dataclass(frozen=True)
class Crowds:
    """The clicks of one tagger input within a slot.

    Attributes:
        comb: How they crowd.
        gated: By letter of each detector at this input, where its own crowd lies, in slots from the
            comb's centre.
    """

    comb: Comb
    gated: Mapping[str, float]

    @property
    def name(self) -> str:
        """The detectors' letters, for texts."""
        return " and ".join(self.gated)


def crowds_of(inputs: Mapping[str, int], interferometer_slots: float | None) -> dict[int, Crowds]:
    """Tell how light crowds at each input.

    Args:
        inputs: Tagger input of each detector, by detector letter.
        interferometer_slots: Delay of the interferometers, in slots; None where there are none.

    Raises:
        ValueError: Detectors share an input that no arrival time tells apart.
    """
    sharing = {
        number: [letter for letter in STATES if inputs[letter] == number]
        for number in inputs.values()
    }
    return {number: _crowds(letters, interferometer_slots) for number, letters in sharing.items()}


def _crowds(letters: list[str], interferometer_slots: float | None) -> Crowds:
    if len(letters) == 1:
        if interferometer_slots is None:
            return Crowds(SINGLE, {letters[0]: 0.0})
        away = interferometer_slots
        return Crowds(Comb((-away, 0.0, away), (0.25, 0.5, 0.25)), {letters[0]: 0.0})
    if letters != [EARLY, LATE] or interferometer_slots is None:
        raise ValueError(
            f"detectors {' and '.join(letters)} share an input, and no arrival time tells them "
            "apart"
        )
    away = interferometer_slots / 2
    return Crowds(Comb((-away, away), (0.5, 0.5)), {EARLY: -away, LATE: away})
