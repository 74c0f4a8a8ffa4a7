"""OZ Optics EPC-400 / EPC04: four piezo fibre squeezers, -5 V to +5 V, on a serial line.

Sources: the public drivers pylablib (class ``EPC04``) and a second one for the EPC-400-OEM; the
vendor's manual was not at hand.

Dialogue: commands end in CR LF. The unit echoes the command, prints zero or more lines and ends
with ``Done`` or ``Error!``. Nothing reads the optical state back: the voltages are all there is.

Weak facts, to be checked on first contact with a unit:

- The spacing of the ``V?`` line; any spacing around ``CHn`` and its number is accepted.
- The texts that answer ``SN?`` and ``VER?``; they are shown, never relied on. What identifies the
  model is that ``V?`` is answered with four channels.
- The words around ``AC`` or ``DC`` in the reply to ``M?``.
- Output voltages after a power cycle are the unit's own preset; they are reported, not set back.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial

from pydantic import Field, field_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.limits import MillivoltLimits, check_each_once
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.ozoptics import CRLF, OzLine
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

CHANNELS = (1, 2, 3, 4)
MAX_VOLTAGE_V = 5.0
RESOLUTION_V = 0.001
REFUSED = "Error!"
# The longest reply read here has one line; a unit that never ends is not an EPC-400.
MAX_REPLY_LINES = 16
CHANNEL_MV = re.compile(r"CH\s*([0-9])\s*([+-]?[0-9]{1,5})(?![0-9])")  # spacing is weak
MODE = re.compile(r"\b(AC|DC)\b", re.IGNORECASE)

log = logging.getLogger(__name__)


class Epc400Options(MillivoltLimits):
    """Options of an ``ozoptics-epc400``."""

    channels: tuple[int, ...] = Field(CHANNELS, description="Channels in use, out of 1 to 4.")
    min_voltage_v: float = Field(
        -MAX_VOLTAGE_V, ge=-MAX_VOLTAGE_V, le=MAX_VOLTAGE_V, description="Lowest voltage sent, V."
    )
    max_voltage_v: float = Field(
        MAX_VOLTAGE_V, ge=-MAX_VOLTAGE_V, le=MAX_VOLTAGE_V, description="Highest voltage sent, V."
    )
    rest_voltage_v: float = Field(
        0.0, ge=-MAX_VOLTAGE_V, le=MAX_VOLTAGE_V, description="Where the safe state is, V."
    )
    baud_rate: int = Field(9600, gt=0, description="As set on the unit, baud.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for one line, s.")

    @field_validator("channels")
    @classmethod
    def _known_channels(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        check_each_once("channel", channels, CHANNELS)
        return channels


def parse_voltages_mv(instrument: str, lines: Sequence[str]) -> dict[int, int]:
    """Find the four drive voltages in the reply to ``V?``.

    Returns:
        Voltage by channel 1 to 4, mV.

    Raises:
        ReplyError: Not one plausible number for each of the four channels, in order.
    """
    text = " ".join(lines)
    found = [(int(channel), int(number)) for channel, number in CHANNEL_MV.findall(text)]
    voltages_mv = dict(found)
    in_range = all(abs(mv) <= MAX_VOLTAGE_V * 1000 for mv in voltages_mv.values())
    if [channel for channel, _ in found] != list(CHANNELS) or not in_range:
        raise ReplyError(
            instrument,
            "these are not an EPC-400's four voltages: is this the instrument you configured?",
            sent="V?",
            received=text,
        )
    return voltages_mv


def parse_is_constant(instrument: str, lines: Sequence[str]) -> bool:
    """Tell from the reply to ``M?`` whether the unit holds constant voltages.

    Raises:
        ReplyError: Neither ``DC`` nor ``AC`` in it, or both.
    """
    text = " ".join(lines)
    modes = {mode.upper() for mode in MODE.findall(text)}
    if len(modes) != 1:
        raise ReplyError(instrument, "neither AC nor DC mode", sent="M?", received=text)
    return modes == {"DC"}


@register("ozoptics-epc400", Epc400Options, "medium-high", ("serial",))
class Epc400(LinkedInstrument):
    """OZ Optics EPC-400 four-squeezer polarization controller (serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Limits and line settings.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Epc400Options, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, CRLF, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport)
        self._options = options
        self._confirmed_mv: dict[int, int] | None = None
        self._line = OzLine(lambda line: line.endswith(REFUSED), MAX_REPLY_LINES)

    async def set_drives(self, values: Mapping[int, float]) -> dict[int, float]:
        """Set channels in one dialogue and read all of them back.

        Args:
            values: Voltage by channel, V; sent as whole millivolts.

        Returns:
            What was read back for the same channels, V.

        Raises:
            SettingError: Unknown channel or a voltage outside the limits; nothing was sent.
            RejectedError: The unit refused one channel; the text names those set before.
            ReplyError: Another voltage was read back than was set.
            TransportError: Link lost; the voltages are unknown until read again.
        """
        target_mv = {channel: self._millivolts(channel, v) for channel, v in values.items()}
        if not target_mv:
            return {}
        async with self._transport.exclusive() as link:
            with unknown_if_lost(self.name, "the voltages"):
                await self._set_all(link, target_mv)
                read_mv = await self._read_back(link, target_mv)
        return {channel: read_mv[channel] / 1000 for channel in target_mv}

    async def read_drives(self) -> dict[int, float]:
        """Read all four channels, V.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            read_mv = await self._read_mv(link)
        return {channel: millivolts / 1000 for channel, millivolts in read_mv.items()}

    async def make_safe(self) -> None:
        """Take every channel in use to its rest voltage; raises the first failure at the end."""
        rest_mv = dict.fromkeys(self._options.channels, round(self._options.rest_voltage_v * 1000))

        async def check(link: Dialogue) -> None:
            await self._read_back(link, rest_mv)

        to_rest = [
            partial(self._set_all, target_mv={channel: millivolts})
            for channel, millivolts in rest_mv.items()
        ]
        await carry_out_all(self._transport, [self._hold_constant, *to_rest, check])

    def actuators(self) -> Mapping[str, Actuator]:
        """One per channel in use, named ``1`` to ``4``, V."""
        return {str(channel): self._actuator(channel) for channel in self._options.channels}

    def _actuator(self, channel: int) -> Actuator:
        async def write(voltage_v: float) -> float:
            return (await self.set_drives({channel: voltage_v}))[channel]

        async def read() -> float:
            return (await self.read_drives())[channel]

        return Actuator(
            unit="V",
            minimum=self._options.min_voltage_v,
            maximum=self._options.max_voltage_v,
            resolution=RESOLUTION_V,
            write=write,
            read=read,
        )

    def _millivolts(self, channel: int, voltage_v: float) -> int:
        options = self._options
        if channel not in options.channels:
            in_use = ", ".join(map(str, options.channels))
            raise SettingError(self.name, f"channel {channel} is not in use (in use: {in_use})")
        check_within(
            self.name,
            f"channel {channel}",
            voltage_v,
            options.min_voltage_v,
            options.max_voltage_v,
            "V",
        )
        return round(voltage_v * 1000)  # the limits are whole millivolts, so this stays inside

    async def _set_all(self, link: Dialogue, target_mv: Mapping[int, int]) -> None:
        done: list[str] = []
        for channel, millivolts in target_mv.items():
            command = f"V{channel},{millivolts}"
            try:
                await self._line.exchange(link, command)
            except RejectedError as exc:
                before = f"; channels {', '.join(done)} are set already" if done else ""
                raise RejectedError(
                    self.name, f"{exc.problem}{before}", sent=command, received=exc.received
                ) from exc
            done.append(str(channel))

    async def _read_back(self, link: Dialogue, target_mv: Mapping[int, int]) -> dict[int, int]:
        read_mv = await self._read_mv(link)
        for channel, millivolts in target_mv.items():
            if read_mv[channel] != millivolts:
                raise ReplyError(
                    self.name,
                    f"channel {channel} was set to {millivolts} mV and reads {read_mv[channel]} mV",
                )
        return read_mv

    async def _read_mv(self, link: Dialogue) -> dict[int, int]:
        self._confirmed_mv = parse_voltages_mv(self.name, await self._line.exchange(link, "V?"))
        return self._confirmed_mv

    async def _identify(self, link: Dialogue) -> Identity:
        await self._read_mv(link)
        serial = await self._describe(link, "SN?")
        firmware = await self._describe(link, "VER?")
        return Identity("OZ Optics", "EPC-400", serial, firmware)

    async def _describe(self, link: Dialogue, question: str) -> str:
        """The reply to ``SN?`` or ``VER?``, whose form is weak: taken as it is."""
        try:
            lines = await self._line.exchange(link, question)
        except RejectedError:
            return "unknown"
        return " ".join(lines) or "unknown"

    async def _hold_constant(self, link: Dialogue) -> None:
        if parse_is_constant(self.name, await self._line.exchange(link, "M?")):
            return
        await self._line.exchange(link, "MDC")
        if not parse_is_constant(self.name, await self._line.exchange(link, "M?")):
            raise RejectedError(self.name, "still scrambling after MDC", sent="MDC")

    async def _set_up(self, link: Dialogue) -> None:
        """Make sure that voltages stay constant."""
        await self._hold_constant(link)

    async def _identify_anew(self, link: Dialogue) -> Identity:
        """Same model, and a word if the voltages have changed."""
        before_mv = self._confirmed_mv
        identity = await self._identify(link)
        if before_mv is not None and self._confirmed_mv != before_mv:
            log.warning(
                "%s: voltages were %s mV before the link was lost and are %s mV now",
                self.name,
                before_mv,
                self._confirmed_mv,
            )
        return identity
