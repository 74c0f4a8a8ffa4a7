"""Calls of a simulated vendor library, written as text where they meet the simulated unit.

Such a unit has no wire. Its calls pass its front end as lines all the same, ``7
setTriggerLevel(1, 0.5)`` and then ``7 None``, so that whatever may befall a command or a reply
befalls a call or its result. A line that somebody has changed on the way means what it says then.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

LONGEST_TEXT: Final = 200
"""Characters of one argument or result that are written."""


@dataclass
class _Pending:
    """The call that somebody waits for."""

    number: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    request: str
    reply: str = ""
    outcome: Any = None
    failure: Exception | None = None


class LibraryCalls:
    """The calls of one client, one at a time; one that nobody waits for any more is forgotten.

    Args:
        bystander: Has the functions that a line without a number names: somebody else uses them.
    """

    def __init__(self, bystander: object) -> None:
        self._bystander = bystander
        self._numbers = 0
        self._pending: _Pending | None = None

    def request(self, function: Callable[..., Any], args: Sequence[Any]) -> str:
        """Note a call, and return it as a line."""
        self._numbers += 1
        named = function.func if isinstance(function, partial) else function
        text = f"{self._numbers} {named.__name__}({', '.join(map(_text, args))})"
        self._pending = _Pending(self._numbers, function, tuple(args), text)
        return text

    def carry_out(self, line: str) -> str | None:
        """Carry out a call as it arrived; return the reply as a line, or None if nobody waits.

        Raises:
            ValueError: It makes no sense.
        """
        number, _, text = line.partition(" ")
        if not number.isdigit():
            name, args = _parse(line)
            getattr(self._bystander, name)(*args)
            return None
        pending = self._pending
        if pending is None or pending.number != int(number):
            return None
        args = pending.args if line == pending.request else _parse(text)[1]
        try:
            pending.outcome = pending.function(*args)
            pending.reply = f"{number} {_text(pending.outcome)}"
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is for whoever called
            pending.failure = exc
            pending.reply = f"{number} {_text(exc)}"
        return pending.reply

    def result(self, line: str) -> tuple[bool, Any]:
        """Return whether a reply is that of the call that somebody waits for, and its result.

        Raises:
            Exception: What the call raised.
            RuntimeError: The reply was changed on the way and makes no sense.
        """
        pending = self._pending
        if pending is None or line.partition(" ")[0] != str(pending.number):
            return False, None
        self._pending = None
        if line != pending.reply:
            return True, _literal(line.partition(" ")[2])
        if pending.failure is not None:
            raise pending.failure
        return True, pending.outcome


def _text(value: object) -> str:
    """A number, a word or an error as it is written; of anything else only its type."""
    if value is None or isinstance(value, int | float | str | Exception):
        return ascii(value)[:LONGEST_TEXT]
    return f"<{type(value).__name__}>"


def _parse(text: str) -> tuple[str, tuple[Any, ...]]:
    name, bracket, rest = text.partition("(")
    if not (name.isidentifier() and bracket and rest.endswith(")")):
        raise ValueError(f"{text!r} is no call")
    inner = rest.removesuffix(")")
    return name, tuple(ast.literal_eval(f"({inner},)")) if inner else ()


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise RuntimeError(f"what the device said makes no sense: {text!r}") from None
