"""Counting with the units of S-Fifteen Instruments: in windows, one after the other."""

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from drivers.errors import ReplyError
from drivers.linked import LinkedInstrument
from drivers.measuring import Interruption, checked_inputs
from drivers.outputs import check_within
from drivers.registry import Options
from drivers.roles import Counts
from drivers.sfifteen import CRLF, MS_PER_S, CountQuestion, windows_ms
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

BAUD_RATE = 115200
MIN_DURATION_S = 0.001
MAX_DURATION_S = 86_400.0


class CountingOptions(Options):
    """What a testbed file may say about how a unit counts."""

    longest_window_s: float = Field(
        1.0,
        ge=0.001,
        le=65.535,
        description="Longer counts are taken as several windows; a count that is cut short holds "
        "the unit up until its window has ended, s.",
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")


class CountingUnit(LinkedInstrument):
    """One unit that answers ``counts?`` when the window is over.

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: How it counts.
        inputs: The inputs in use.
        connector: Makes the link.
    """

    def __init__(
        self,
        name: str,
        resource: str,
        options: CountingOptions,
        inputs: Sequence[int],
        connector: Connector,
    ) -> None:
        transport = connector.transport(
            name, resource, CRLF, timeout_s=options.timeout_s, baud_rate=BAUD_RATE
        )
        super().__init__(name, transport)
        self._inputs = tuple(inputs)
        self._longest_window_s = options.longest_window_s
        self._counting = CountQuestion(options.timeout_s)
        self._interruption = Interruption(name)
        self._measuring = asyncio.Lock()

    async def count(self, duration_s: float, inputs: Sequence[int]) -> Counts:
        """Count detections from now on.

        Args:
            duration_s: Exposure, s; rounded up to whole milliseconds. Cut into windows of at most
                the option ``longest_window_s``, with some milliseconds between them.
            inputs: Which inputs, by their numbers.

        Raises:
            SettingError: Unknown input or impossible duration; nothing was sent.
            ReplyError: A reply does not parse, or the integration time was not taken.
            TransportError: Link lost, or cut short by ``make_safe``.
        """
        numbers = self._checked(duration_s, inputs)
        total: Counter[int] = Counter()
        windows = windows_ms(duration_s, self._longest_window_s)
        async with self._measuring, self._transport.exclusive() as link:
            self._interruption.arm()
            await self._prepare_to_count(link)
            set_ms = None
            for window_ms in windows:
                if window_ms != set_ms:
                    set_ms = await self._set_integration(link, window_ms)
                reply = await self._counting.ask(link, window_ms, self._interruption)
                total.update(self._parse_counts(reply))
        return Counts(sum(windows) / MS_PER_S, {number: total[number] for number in numbers})

    async def close(self) -> None:
        """Close the line; cuts a measurement short, leaves the settings."""
        self._interruption.cut_short()
        await super().close()

    @abstractmethod
    async def _prepare_to_count(self, link: Dialogue) -> None:
        """See to it that the unit counts when it is asked to."""

    @abstractmethod
    async def _read_integration_ms(self, link: Dialogue) -> float:
        """Ask for the integration time, ms."""

    @abstractmethod
    def _parse_counts(self, reply: str) -> Mapping[int, int]:
        """Read the answer to ``counts?``: counts by input; raise ReplyError if it is none."""

    def _checked(self, duration_s: float, inputs: Sequence[int]) -> tuple[int, ...]:
        numbers = checked_inputs(self.name, inputs, self._inputs)
        check_within(self.name, "duration", duration_s, MIN_DURATION_S, MAX_DURATION_S, "s")
        return numbers

    async def _set_integration(self, link: Dialogue, window_ms: int) -> int:
        command = f"time {window_ms}"
        await link.write(command)
        read_ms = await self._read_integration_ms(link)
        if read_ms != window_ms:
            problem = f"the integration time was set to {window_ms} ms and reads {read_ms:g} ms"
            raise ReplyError(self.name, problem, sent=command)
        return window_ms

    async def _tell(self, link: Dialogue, command: str) -> None:
        """Give a command that takes its time, and drop what it may print."""
        await link.write(command)
        await link.drain()
