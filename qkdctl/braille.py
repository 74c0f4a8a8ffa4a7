"""Plots of dots in braille characters: two by four dots to a character, for a terminal."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rich.text import Text

BLANK = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot in a braille character, by row and column."""

BOTH = "white"
"""Colour of a character in which two series meet."""


@dataclass
class LogPlot:
    """A plot with a linear horizontal and a logarithmic vertical axis.

    Attributes:
        columns: Width of the plotted area, characters.
        rows: Its height, characters.
        x_range: Left and right end.
        y_range: Lower and upper end, both above 0.
    """

    columns: int
    rows: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    _bits: dict[tuple[int, int], int] = field(default_factory=dict)
    _colours: dict[tuple[int, int], str] = field(default_factory=dict)

    def add(self, points: Iterable[tuple[float, float]], colour: str) -> None:
        """Draw points; those beside the plot are left out, those above or below sit on its edge."""
        for x, y in points:
            self._dot(x, y, colour)

    def render(self, labels: Mapping[float, str]) -> Text:
        """Return the plot as lines, with labels at some heights left of it."""
        margin = max((len(label) for label in labels.values()), default=0)
        at = {self._row(y) // 4: label for y, label in labels.items()}
        lines = []
        for row in range(self.rows):
            line = Text(f"{at.get(row, ''):>{margin}} ", no_wrap=True, style="none")
            line.append("│", style="dim")
            for column in range(self.columns):
                cell = (row, column)
                line.append(chr(BLANK + self._bits.get(cell, 0)), self._colours.get(cell))
            lines.append(line)
        return Text("\n", no_wrap=True).join(lines)

    def _dot(self, x: float, y: float, colour: str) -> None:
        left, right = self.x_range
        if not left <= x <= right or right == left:
            return
        column = round((x - left) / (right - left) * (2 * self.columns - 1))
        row = self._row(y)
        cell = (row // 4, column // 2)
        self._bits[cell] = self._bits.get(cell, 0) | DOTS[row % 4][column % 2]
        self._colours[cell] = colour if self._colours.get(cell, colour) == colour else BOTH

    def _row(self, y: float) -> int:
        low, high = (math.log(end) for end in self.y_range)
        height = (math.log(max(y, self.y_range[0])) - low) / (high - low)
        return round((1 - min(height, 1)) * (4 * self.rows - 1))
