"""S-Fifteen SPD: a cooled single-photon avalanche diode with its own counter, on USB serial.

Source: s-fifteen-instruments/pyS15 (``single_photon_detector.py``), one driver and nothing else.

``make_safe`` takes the bias to its rest, by default 0 V, which is all that can harm the diode. The
cooling goes on: it does no harm, and a warm diode takes minutes to be of use again. ``loop`` is the
temperature's regulator, not the bias's: with it off, ``pvolt`` drives the Peltier element.

Uncertain, to be checked on first contact with a unit:

- The unit of ``hvolt`` and ``threshvolt``, taken as V, of ``settemp`` and ``temp?``, taken as
  degrees Celsius; their ranges and steps. No largest bias is known: the testbed file must say it.
- Whether ``hvolt?`` answers what was set or what is measured: it may be off by 1 V.
- Whether commands answer anything; what comes within 0.1 s is dropped.
- Whether anything is heard while it counts: after a count that was cut short, the end of its window
  is waited for, ``make_safe`` included (at most the option ``longest_window_s``).
- The text of ``*IDN?``, which has ``SPD`` in it; S-Fifteen's SPDC sources say ``SPDC``.
- Not used here: ``constp``, ``consti``, ``pvolt``, ``delay`` and ``save``.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial

from drivers.detectors.sfifteen_spd_options import (
    BIAS,
    TEMPERATURE,
    THRESHOLD,
    Quantity,
    SpdOptions,
)
from drivers.errors import ReplyError, SettingError
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.registry import register
from drivers.roles import Actuator, Counts, Health, Identity
from drivers.sfifteen import (
    CRLF,
    MS_PER_S,
    CountQuestion,
    Interruption,
    ask,
    ask_integer,
    query_identity,
    windows_ms,
)
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

IDENTITY = re.compile(r"\bSPD(?!C)", re.IGNORECASE)
NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)")
COUNT = re.compile(r"([0-9]{1,12})")
MIN_DURATION_S = 0.001
MAX_DURATION_S = 86_400.0
BIAS_SETTLE_S = 0.1  # what the public driver waits


@register("sfifteen-spd", SpdOptions, "medium", ("serial",))
class Spd:
    """S-Fifteen SPD single-photon detector: counts, bias and temperature (USB serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Limits; what the diode bears.
        connector: Makes the link.
    """

    def __init__(self, name: str, resource: str, options: SpdOptions, connector: Connector) -> None:
        self.name = name
        self._options = options
        self._counting = CountQuestion(options.timeout_s)
        self._interruption = Interruption(name)
        self._measuring = asyncio.Lock()
        self._transport = connector.transport(
            name, resource, CRLF, timeout_s=options.timeout_s, baud_rate=115200
        )
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the line, check the model, switch the regulator as configured.

        Raises:
            ReplyError: Not an SPD, or the regulator was not switched.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        async with self._transport.exclusive() as link:
            return await self._take_up(link)

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        async with self._transport.exclusive() as link:
            return await query_identity(link, "SPD", IDENTITY)

    async def count(self, duration_s: float, inputs: Sequence[int]) -> Counts:
        """Count detections from now on.

        Args:
            duration_s: Exposure, s; rounded up to whole milliseconds. Cut into windows of at most
                the option ``longest_window_s``, with some milliseconds between them.
            inputs: The one input, by the number of the option ``input``.

        Raises:
            SettingError: Another input or impossible duration; nothing was sent.
            ReplyError: A reply does not parse, or the integration time was not taken.
            TransportError: Link lost, or cut short by ``make_safe``.
        """
        if tuple(inputs) != self._options.inputs:
            known = self._options.input
            raise SettingError(self.name, f"inputs {tuple(inputs)} are not the one input {known}")
        check_within(self.name, "duration", duration_s, MIN_DURATION_S, MAX_DURATION_S, "s")
        windows = windows_ms(duration_s, self._options.longest_window_s)
        total, set_ms = 0, None
        async with self._measuring, self._transport.exclusive() as link:
            self._interruption.arm()
            for window_ms in windows:
                if window_ms != set_ms:
                    set_ms = await self._set_integration(link, window_ms)
                total += await self._count_window(link, window_ms)
        return Counts(sum(windows) / MS_PER_S, {self._options.input: total})

    async def set_bias(self, bias_v: float) -> float:
        """Set the bias of the diode and return what was read back, V.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            ReplyError: Another bias was read back than was set.
            TransportError: Link lost; the bias is unknown.
        """
        return await self._set_within(
            BIAS, bias_v, self._options.min_bias_v, self._options.max_bias_v
        )

    async def read_bias(self) -> float:
        """Read the bias, V."""
        return await self._read(BIAS)

    async def set_threshold(self, threshold_v: float) -> float:
        """Set the threshold of the counter; as ``set_bias``, V."""
        return await self._set_within(
            THRESHOLD, threshold_v, self._options.min_threshold_v, self._options.max_threshold_v
        )

    async def read_threshold(self) -> float:
        """Read the threshold, V."""
        return await self._read(THRESHOLD)

    async def set_temperature(self, temperature_degc: float) -> float:
        """Set where the temperature is regulated to; as ``set_bias``, degrees Celsius."""
        return await self._set_within(
            TEMPERATURE,
            temperature_degc,
            self._options.min_temperature_degc,
            self._options.max_temperature_degc,
        )

    async def read_set_point(self) -> float:
        """Read where the temperature is regulated to, degrees Celsius."""
        return await self._read(TEMPERATURE)

    async def read_temperature(self) -> float:
        """Measure the temperature of the diode, degrees Celsius."""
        async with self._transport.exclusive() as link:
            return await self._ask_number(link, "temp?")

    async def is_stable(self) -> bool:
        """Whether the temperature is regulated and close to where it should be."""
        async with self._transport.exclusive() as link:
            if not await ask_integer(link, "loop?"):
                return False
            apart_degc = await self._ask_number(link, "temp?") - await self._ask_number(
                link, f"{TEMPERATURE.command}?"
            )
        return abs(apart_degc) <= self._options.stable_within_degc

    async def make_safe(self) -> None:
        """Take the bias to its rest; cuts a count short, leaves the cooling."""
        self._interruption.cut_short()
        rest = partial(self._set, quantity=BIAS, value=self._options.rest_bias_v)
        await carry_out_all(self._transport, [rest])

    async def close(self) -> None:
        """Close the line; cuts a count short, leaves the settings."""
        self._interruption.cut_short()
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """``threshold`` and ``bias``, V, and ``temperature``, degrees Celsius."""
        options = self._options
        return {
            "threshold": Actuator(
                THRESHOLD.unit,
                options.min_threshold_v,
                options.max_threshold_v,
                10.0**-THRESHOLD.decimals,
                self.set_threshold,
                self.read_threshold,
            ),
            "bias": Actuator(
                BIAS.unit,
                options.min_bias_v,
                options.max_bias_v,
                10.0**-BIAS.decimals,
                self.set_bias,
                self.read_bias,
                settle_s=BIAS_SETTLE_S,
            ),
            "temperature": Actuator(
                TEMPERATURE.unit,
                options.min_temperature_degc,
                options.max_temperature_degc,
                10.0**-TEMPERATURE.decimals,
                self.set_temperature,
                self.read_set_point,
            ),
        }

    async def _take_up(self, link: Dialogue) -> Identity:
        identity = await query_identity(link, "SPD", IDENTITY)
        if self._options.is_cooled is not None:
            command = f"loop {int(self._options.is_cooled)}"
            await self._tell(link, command)
            if await ask_integer(link, "loop?") != self._options.is_cooled:
                raise ReplyError(self.name, "the regulator was not switched", sent=command)
        return identity

    async def _take_up_again(self, link: Dialogue) -> None:
        await self._counting.outwait(link)
        await self._take_up(link)

    async def _set_within(
        self, quantity: Quantity, value: float, minimum: float, maximum: float
    ) -> float:
        check_within(self.name, quantity.what, value, minimum, maximum, quantity.unit)
        async with self._transport.exclusive() as link:
            return await self._set(link, quantity, value)

    async def _set(self, link: Dialogue, quantity: Quantity, value: float) -> float:
        rounded = round(value, quantity.decimals) + 0.0  # no negative zero
        command = f"{quantity.command} {rounded:.{quantity.decimals}f}"
        with unknown_if_lost(self.name, f"the {quantity.what}"):
            await self._tell(link, command)
            read = await self._ask_number(link, f"{quantity.command}?")
        if not abs(read - rounded) <= quantity.tolerance:
            unit = quantity.unit
            problem = f"{quantity.what} set to {rounded:g} {unit} reads {read:g} {unit}"
            raise ReplyError(self.name, problem, sent=command)
        return read

    async def _read(self, quantity: Quantity) -> float:
        async with self._transport.exclusive() as link:
            return await self._ask_number(link, f"{quantity.command}?")

    async def _ask_number(self, link: Dialogue, question: str) -> float:
        return float((await ask(link, question, NUMBER))[1])

    async def _tell(self, link: Dialogue, command: str) -> None:
        """Give a command, and drop what it may print."""
        await link.write(command)
        await link.drain()

    async def _set_integration(self, link: Dialogue, window_ms: int) -> int:
        command = f"time {window_ms}"
        await link.write(command)
        read_ms = await self._ask_number(link, "time?")
        if read_ms != window_ms:
            problem = f"the integration time was set to {window_ms} ms and reads {read_ms:g} ms"
            raise ReplyError(self.name, problem, sent=command)
        return window_ms

    async def _count_window(self, link: Dialogue, window_ms: int) -> int:
        reply = await self._counting.ask(link, window_ms, self._interruption)
        count = COUNT.fullmatch(reply)
        if count is None:
            raise ReplyError(self.name, "not a count", sent="counts?", received=reply)
        return int(count[1])
