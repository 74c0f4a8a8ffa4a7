"""Alarms that last: each is raised once and cleared once, however often its cause is seen."""

from collections.abc import Callable, Mapping
from typing import Any

Publish = Callable[[str, Mapping[str, Any]], None]


class Alarms:
    """The alarms that are up.

    Args:
        publish: Is told the kind of an event, ``alarm``, and its data.

    Attributes:
        active: What each alarm that is up says, by name.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self.active: dict[str, str] = {}

    def put_up(self, name: str, text: str, cause: str | None = None) -> None:
        """Raise an alarm, unless it is up already."""
        if name not in self.active:
            self.active[name] = text
            told = {"name": name, "text": text, "is_active": True}
            self._publish("alarm", told if cause is None else told | {"cause": cause})

    def clear(self, name: str, text: str) -> None:
        """End an alarm if it is up; the text says what ended it."""
        if self.active.pop(name, None) is not None:
            self._publish("alarm", {"name": name, "text": text, "is_active": False})

    def clear_all(self, text: str) -> None:
        """End every alarm that is up."""
        for name in tuple(self.active):
            self.clear(name, text)
