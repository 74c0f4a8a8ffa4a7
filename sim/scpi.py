"""What SCPI command sets have in common: headers in short and long form, paths, joined commands.

Source: SCPI-99, volume 1, chapters 6 (program headers) and 7 (parameters).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Generic, TypeVar

H = TypeVar("H")

_NODE = re.compile(r"([A-Z]+)([a-z]*)(#?)")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z/]*)", re.ASCII)


def header_pattern(header: str) -> re.Pattern[str]:
    """Compile a header as manuals print it: capitals are the short form, ``#`` is a number.

    ``INPut#[:CHANnel#]:ATTenuation`` matches ``inp1:att`` and ``INPUT1:CHAN1:ATTENUATION``. The
    question mark of a query is part of the header. Each ``#`` becomes one group, empty or None
    where the number was left out.
    """

    def node(match: re.Match[str]) -> str:
        short, rest, number = match.groups()
        return short + (f"(?:{rest.upper()})?" if rest else "") + ("([0-9]{0,4})" if number else "")

    text = re.escape(header).replace(r"\[", "(?:").replace(r"\]", ")?").replace(r"\#", "#")
    return re.compile(_NODE.sub(node, text))


@dataclass(frozen=True)
class Command:
    """One command of a message, its path made whole.

    Attributes:
        header: Full header from the root, upper case, without leading colon.
        argument: What follows it, stripped, in its own case.
        text: The command as it came.
    """

    header: str
    argument: str
    text: str

    @property
    def arguments(self) -> list[str]:
        """The argument split at commas; empty if there is none."""
        return [part.strip() for part in self.argument.split(",")] if self.argument else []


def commands(message: str) -> Iterator[Command]:
    """Split a message at semicolons and complete each header.

    A header without leading colon continues at the level of the one before; common commands
    (``*IDN?``) stand apart and leave the level as it is.
    """
    path = ""
    for part in message.split(";"):
        text = part.strip()
        if not text:
            continue
        head, *rest = text.split(maxsplit=1)
        head = head.upper()
        if not head.startswith("*"):
            head = head[1:] if head.startswith(":") else path + head
            path = head[: head.rfind(":") + 1]
        yield Command(head, "".join(rest), text)


def number(text: str, units: Mapping[str, float] | None = None) -> float | None:
    """Read a finite number with an optional unit; None if it is none.

    Args:
        text: For example ``12.5``, ``-1e3`` or ``1550 NM``.
        units: Upper-case unit to its size in the base unit.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    size = {"": 1.0, **(units or {})}.get(match[2].upper())
    value = float(match[1]) * size if size is not None else float("nan")
    return value if isfinite(value) else None


def boolean(text: str) -> bool | None:
    """Read ``ON``, ``OFF``, ``1`` or ``0``; None if it is none of them."""
    return {"ON": True, "1": True, "OFF": False, "0": False}.get(text.upper())


class CommandTable(Generic[H]):
    """Finds what answers a command by its header.

    Args:
        entries: Header as the manual prints it, to whatever answers it; the first match counts.
    """

    def __init__(self, entries: Mapping[str, H]) -> None:
        self._entries = [(header_pattern(header), entry) for header, entry in entries.items()]

    def find(self, header: str) -> tuple[H, tuple[int | None, ...]] | None:
        """Return the entry and the numbers in the header (None: left out), or None."""
        for pattern, entry in self._entries:
            if match := pattern.fullmatch(header):
                return entry, tuple(int(text) if text else None for text in match.groups())
        return None
