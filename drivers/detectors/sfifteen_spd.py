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
  is waited for (at most the option ``longest_window_s``). ``make_safe`` sends the rest bias before
  that, too, and confirms it thereafter.
- The text of ``*IDN?``, which has ``SPD`` in it; S-Fifteen's SPDC sources say ``SPDC``.
- Not used here: ``constp``, ``consti``, ``pvolt``, ``delay`` and ``save``.
"""

import re
from collections.abc import Mapping
from functools import partial

from drivers.detectors.sfifteen_spd_options import (
    BIAS,
    TEMPERATURE,
    THRESHOLD,
    Quantity,
    SpdOptions,
)
from drivers.errors import ReplyError
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.sfifteen import ask, ask_integer, query_identity
from drivers.sfifteen_counter import CountingUnit
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

IDENTITY = re.compile(r"\bSPD(?!C)", re.IGNORECASE)
NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)")
COUNT = re.compile(r"([0-9]{1,12})")
BIAS_SETTLE_S = 0.1  # what the public driver waits


@register("sfifteen-spd", SpdOptions, "medium", ("serial",))
class Spd(CountingUnit):
    """S-Fifteen SPD single-photon detector: counts, bias and temperature (USB serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Limits; what the diode bears.
        connector: Makes the link.
    """

    def __init__(self, name: str, resource: str, options: SpdOptions, connector: Connector) -> None:
        super().__init__(name, resource, options, options.inputs, connector)
        self._options = options

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
        """Take the bias to its rest; cuts a count short, leaves the cooling.

        The unit is told at once, and again in a dialogue, which may have to wait for the end of the
        window of a count.
        """
        self._interruption.cut_short()
        rest_v = self._options.rest_bias_v
        await self._transport.send_ahead(_command(BIAS, rest_v))
        rest = partial(self._set, quantity=BIAS, value=rest_v)
        await carry_out_all(self._transport, [rest])

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

    async def _identify(self, link: Dialogue) -> Identity:
        return await query_identity(link, "SPD", IDENTITY)

    async def _identify_anew(self, link: Dialogue) -> Identity:
        await self._counting.outwait(link)
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """Switch the regulator as configured."""
        if self._options.is_cooled is not None:
            command = f"loop {int(self._options.is_cooled)}"
            await self._tell(link, command)
            if await ask_integer(link, "loop?") != self._options.is_cooled:
                raise ReplyError(self.name, "the regulator was not switched", sent=command)

    async def _set_within(
        self, quantity: Quantity, value: float, minimum: float, maximum: float
    ) -> float:
        check_within(self.name, quantity.what, value, minimum, maximum, quantity.unit)
        async with self._transport.exclusive() as link:
            return await self._set(link, quantity, value)

    async def _set(self, link: Dialogue, quantity: Quantity, value: float) -> float:
        rounded = _rounded(quantity, value)
        command = _command(quantity, value)
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

    async def _prepare_to_count(self, link: Dialogue) -> None:
        """It counts whenever it is asked."""

    async def _read_integration_ms(self, link: Dialogue) -> float:
        return await self._ask_number(link, "time?")

    def _parse_counts(self, reply: str) -> dict[int, int]:
        count = COUNT.fullmatch(reply)
        if count is None:
            raise ReplyError(self.name, "not a count", sent="counts?", received=reply)
        return {self._options.input: int(count[1])}


def _rounded(quantity: Quantity, value: float) -> float:
    return round(value, quantity.decimals) + 0.0  # no negative zero


def _command(quantity: Quantity, value: float) -> str:
    return f"{quantity.command} {_rounded(quantity, value):.{quantity.decimals}f}"
