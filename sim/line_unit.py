"""What instruments that are typed at have in common: lines come in, and at boot nothing does."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from math import inf
from typing import Generic, TypeVar

from sim.command_lines import Lines
from sim.record import Record
from sim.wire import MAIN, Reply

A = TypeVar("A")


class CommandPatterns(Generic[A]):
    """Finds what carries out a line by a pattern that is all of it; the first match counts.

    Args:
        entries: Regular expression, and what is called with the time, s, and its groups.
        flags: Of the regular expressions.
    """

    def __init__(
        self, entries: Iterable[tuple[str, Callable[..., A]]], flags: re.RegexFlag = re.NOFLAG
    ) -> None:
        self._entries = [(re.compile(pattern, flags), do) for pattern, do in entries]

    def find(self, line: str) -> Callable[[float], A] | None:
        """Return what carries out a line at a time, s, or None."""
        for pattern, do in self._entries:
            if match := pattern.fullmatch(line):
                groups = match.groups()
                return lambda now_s: do(now_s, *groups)
        return None


class LineUnit(ABC):
    """A command set of lines; each kind of unit says what it answers and how it comes up.

    Args:
        name: What the record calls the unit.
        record: Where commands are noted.
        lines: Cuts the lines out of what it receives.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    def __init__(self, name: str, record: Record, lines: Lines, boot_s: float = 0.0) -> None:
        self._name = name
        self._record = record
        self._lines = lines
        self._boot_s = boot_s
        self._deaf_until_s = -inf

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the link; answer each line that they complete."""
        if self._is_deaf(now_s):
            return []
        replies: list[Reply] = []
        for line in self._lines.feed(data):
            if not self._is_deaf(now_s):  # the line before may have been a reset
                replies += self._converse(line, now_s)
        return replies

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line."""
        self._lines.clear()

    def power_cycle(self, now_s: float) -> None:
        """Start again from power-up settings."""
        self._lines.clear()
        self._deaf_until_s = now_s + self._boot_s
        self._start(now_s)

    @abstractmethod
    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return what its outputs really are now, by the names that drivers use."""

    @abstractmethod
    def _start(self, now_s: float) -> None:
        """Come up."""

    @abstractmethod
    def _converse(self, line: str, now_s: float) -> list[Reply]:
        """Obey a line and answer it."""

    def _is_deaf(self, now_s: float) -> bool:
        return now_s < self._deaf_until_s
