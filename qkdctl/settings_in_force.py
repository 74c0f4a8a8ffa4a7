"""Which setting was in force when: what counts that arrive late are attributed by."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

REMEMBERED = 4096
"""Changes kept; at three a second that is a quarter of an hour of windows in flight and more."""


@dataclass(frozen=True)
class Spell:
    """A stretch of time without any change.

    Attributes:
        from_s: When it began.
        setting: Confirmed value of every knob; None while something moved, or was not known.
    """

    from_s: float
    setting: Mapping[str, float] | None


class SettingsInForce:
    """A bounded memory of settings, dither included, over time.

    Args:
        now: Tells seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._spells: deque[Spell] = deque([Spell(now(), None)], maxlen=REMEMBERED)

    @property
    def since_s(self) -> float:
        """When what is in force now came into force."""
        return self._spells[-1].from_s

    @property
    def remembered_since_s(self) -> float:
        """Before this time nothing is remembered."""
        return self._spells[0].from_s

    def begin_change(self) -> None:
        """Note that from now on what is in force is not known."""
        self._note(None)

    def settle(self, setting: Mapping[str, float]) -> None:
        """Note that from now on this is in force, confirmed."""
        self._note(dict(setting))

    def interrupt(self) -> None:
        """Note a change of what is no knob, such as the light: no window may reach across it."""
        self._note(self._spells[-1].setting)

    def at(self, time_s: float) -> Mapping[str, float] | None:
        """Return the setting that was in force at a time, or None."""
        index = bisect_right(self._spells, time_s, key=lambda spell: spell.from_s) - 1
        return self._spells[index].setting if index >= 0 else None

    def during(
        self, start_s: float, end_s: float, least_share: float
    ) -> Mapping[str, float] | None:
        """Return the setting that was in force for this share of a time or more, else None."""
        last = bisect_right(self._spells, end_s, key=lambda spell: spell.from_s) - 1
        until_s = end_s
        for index in range(last, -1, -1):
            spell = self._spells[index]
            held_s = until_s - max(spell.from_s, start_s)
            if held_s >= least_share * (end_s - start_s):
                return spell.setting
            until_s = spell.from_s
            if until_s <= start_s:
                break
        return None

    def _note(self, setting: Mapping[str, float] | None) -> None:
        self._spells.append(Spell(self._now(), setting))
