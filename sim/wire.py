"""The seam between simulated command sets and the endpoints that carry their bytes."""

from dataclasses import dataclass
from typing import Protocol

MAIN = "main"


@dataclass(frozen=True)
class Reply:
    """Bytes that a front end sends.

    Attributes:
        data: What goes on the wire, terminators included; for a message port one message.
        after_s: Delay from the request, s; the endpoint does the waiting.
        port: Which of the instrument's ports carries it.
    """

    data: bytes
    after_s: float = 0.0
    port: str = MAIN


class FrontEnd(Protocol):
    """The command set of one simulated instrument: bytes in, bytes out, time as an argument."""

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes as they arrived (any split), or one message on a message port.

        Replies are returned in the order they go out; unsolicited ones have a later ``after_s``.
        """
        ...

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line: the client closed or the cable was pulled."""
        ...

    def power_cycle(self, now_s: float) -> None:
        """Start again from power-up settings."""
        ...

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return what its outputs really are, moving or not, by the names that drivers use."""
        ...
