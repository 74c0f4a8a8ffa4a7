"""The modulation stage: drives of the four states and of the intensities.

States that are not a quarter of a turn apart make errors that no alignment removes, and tell an
eavesdropper more than the proof allows for; intensities that are not in the ratios that the
analysis takes them to be make its bounds wrong. Both are drives of a modulator whose half-wave
voltage is known to some per cent. From the same counts the states' angles and the levels of the
intensities are told, and one fit of each over all looks says where the drives belong.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from calibration.account import Account
from calibration.bench import Bench
from calibration.modulation_parts import Look, Part, Setting
from calibration.modulation_settings import ModulationSettings
from calibration.pulses import PulseReader
from calibration.signal_run import Figure

STAGE = "modulation"

MOVES = 2
"""How often the drives are set: after the first fit, and once more for what is left."""


class ModulationProcedure:
    """Sets the drives of states and intensities together.

    With one part the figure is that part's. With both it is the larger of the two errors, each
    over what is wanted of it.

    Args:
        settings: What the stage needs to know.
        reader: Counts pulses.
        bench: Knobs.
        start: Drives in force, by knob.
        parts: States, intensities, or both.
    """

    name = STAGE

    def __init__(
        self,
        settings: ModulationSettings,
        reader: PulseReader,
        bench: Bench,
        start: Setting,
        parts: Sequence[Part],
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._bench = bench
        self._parts = parts
        knobs = [knob for part in parts for knob in part.knobs]
        self._start = {knob: start[knob] for knob in knobs}
        self._in_force = dict(self._start)
        self._looks: list[Look] = []

    @property
    def figure_name(self) -> str:
        """What the figure is."""
        return self._parts[0].figure_name if len(self._parts) == 1 else "error over the wanted one"

    @property
    def unit(self) -> str:
        """Unit of the figure."""
        return self._parts[0].unit if len(self._parts) == 1 else ""

    @property
    def target(self) -> float:
        """Largest figure that is good."""
        return self._parts[0].target if len(self._parts) == 1 else 1.0

    async def measure(self, account: Account) -> Figure:
        """Count at the drives in force.

        Raises:
            PreconditionError: The states are not to be told apart.
        """
        self._looks = [await self._look(account, self._settings.figure_photons)]
        figures = await asyncio.to_thread(self._figures, self._looks[0])
        if len(figures) == 1:
            return figures[0]
        for part, figure in zip(self._parts, figures, strict=True):
            account.tell(f"{part.figure_name} {_shown(figure, part.unit)}", self._in_force)
        return _largest(
            [
                Figure(each.value / part.target, each.low / part.target, each.high / part.target)
                for part, each in zip(self._parts, figures, strict=True)
            ]
        )

    def is_good(self, figure: Figure) -> bool:
        """Whether all is as it is wanted."""
        return figure.value <= self.target

    async def search(self, account: Account) -> str:
        """Fit, set the drives, look, and once more.

        Raises:
            PreconditionError: A drive lies beyond the limits of its knob.
        """
        looks = list(self._looks)
        for move in range(MOVES):
            wanted = await asyncio.to_thread(self._propose, looks)
            self._in_force = await account.patiently(partial(self._bench.apply, wanted))
            if move < MOVES - 1:
                looks.append(await self._look(account, self._settings.photons_per_setting))
                account.tell(_settings_text(self._in_force), self._in_force)
        remarks = [await asyncio.to_thread(part.remark, looks) for part in self._parts]
        return "; ".join([_settings_text(self._in_force), *filter(None, remarks)])

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether the error has grown beyond the intervals."""
        return after.low > before.high

    async def restore(self) -> None:
        """Put the drives of the start back."""
        await self._bench.apply(self._start)
        self._in_force = dict(self._start)

    def in_force(self) -> dict[str, float]:
        """Return the drives by knob."""
        return dict(self._in_force)

    async def _look(self, account: Account, photons: int) -> Look:
        counts = await self._reader.read(account, photons, self._in_force)
        return Look(dict(self._in_force), counts)

    def _figures(self, look: Look) -> list[Figure]:
        return [part.figure(look) for part in self._parts]

    def _propose(self, looks: Sequence[Look]) -> dict[str, float]:
        proposed: dict[str, float] = {}
        for part in self._parts:
            proposed |= part.propose(looks)
        return proposed


def _largest(figures: Sequence[Figure]) -> Figure:
    """Return the figure of the largest of several errors."""
    return Figure(
        max(each.value for each in figures),
        max(each.low for each in figures),
        max(each.high for each in figures),
    )


def _settings_text(setting: Setting) -> str:
    return ", ".join(f"{knob} {value:.3f} V" for knob, value in setting.items())


def _shown(figure: Figure, unit: str) -> str:
    return f"{figure.value:.3g} {unit} ({figure.low:.3g} to {figure.high:.3g})"
