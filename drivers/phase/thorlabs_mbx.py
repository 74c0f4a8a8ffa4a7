"""Thorlabs MBX modulator bias controllers, and the MX transmitters that contain one, with VOA.

Sources: the vendor's remote control guide TTN116413-D04 (the parts on framing, errors and VOA; the
part on bias control was not at hand) and the public driver pymeasure (``ThorlabsMBXSeries``).

Bias. The unit locks a Mach-Zehnder modulator to a point of its curve, or holds a voltage. It takes
that voltage in whole **millivolts** and measures in **volts**: here all voltages are in volts. The
actuator ``bias`` holds a voltage (mode 7) and so ends a lock; ``lock`` starts one. A lock is found
by polling: the unit does not say when it will be there.

VOA. It has no shutter. ``VOA:POWER: 0`` is *not* dark: without its drive the VOA attenuates
*least*. So it is switched on and into constant attenuation when the line is opened, again with
every setting, and by ``make_safe``, which sets ``safe_attenuation_db``. The unit finds out what the
VOA attenuates by comparing the powers before and after it: in the dark it never says that the set
point is reached. ``waits_for_set_point = false`` is for a VOA without light; ``make_safe`` never
waits for it.

``make_safe`` also ends the lock and holds ``rest_bias_v``: a lock whose light is gone wanders.

Weak facts, to be checked on first contact with a unit:

- Smallest attenuation: 1.0 dB by the guide, 0.5 dB by public drivers. The unit refuses what it
  cannot do. Resolutions are taken as 0.01 dB and 1 mV.
- How long a lock takes, and that ``MZM:SETPOINT?`` stays 0 during ``MZM:CALIBRATING?``.
- How near the measured bias comes to the one set: ``bias_tolerance_v``.
- The text of ``*IDN?``: ``MBX`` or ``MX10B`` and the like in it identify the model.
- What comes up after power-up: it is read, never assumed.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from drivers.attenuators.attenuation import confirm_attenuation, wait_until_settled
from drivers.errors import ReplyError, SettingError, TransportError
from drivers.linked import LinkedInstrument
from drivers.outputs import SafetyStep, carry_out_all, check_within, unknown_if_lost
from drivers.phase.thorlabs_mbx_dialogue import (
    CR_OR_LF,
    ask_number,
    ask_whole,
    identify,
    tell,
)
from drivers.phase.thorlabs_mbx_options import MbxOptions
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

RESOLUTION_DB = 0.01
RESOLUTION_V = 0.001
POINTS: Mapping[str, int] = {"peak": 1, "null": 2, "quad+": 3, "quad-": 4}
HOLD_VOLTAGE = 7
CONSTANT_ATTENUATION = 0
POLL_S = 0.02
LOCK_POLL_S = 0.2


@register("thorlabs-mbx", MbxOptions, certainty="medium-high", wires=("serial",))
class Mbx(LinkedInstrument):
    """Thorlabs MBX modulator bias controller with variable attenuator (serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Limits, waits, line settings.
        connector: Makes the link.
    """

    def __init__(self, name: str, resource: str, options: MbxOptions, connector: Connector) -> None:
        transport = connector.transport(
            name, resource, CR_OR_LF, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport)
        self._options = options

    async def lock(self, point: str) -> None:
        """Lock the modulator to a point of its curve, and wait until it is held.

        Others may use the unit meanwhile; whoever sets the bias or makes safe ends the wait.

        Args:
            point: ``peak``, ``null``, ``quad+`` or ``quad-``.

        Raises:
            SettingError: No such point; nothing was sent.
            RejectedError: The unit refused.
            ReplyError: Another mode was read back than was set, at once or later.
            TransportError: Link lost, or not locked in time: the unit goes on trying.
        """
        if point not in POINTS:
            raise SettingError(self.name, f"{point!r} is no lock point: {', '.join(POINTS)}")
        mode = POINTS[point]
        async with self._transport.exclusive() as link:
            await self._set_mode(link, mode)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._options.lock_timeout_s
        while not await self._is_held(mode):
            if loop.time() >= deadline_s:
                raise TransportError(
                    self.name,
                    f"not locked to {point} within {self._options.lock_timeout_s:g} s; the unit "
                    "goes on trying: is there light on the modulator?",
                )
            await asyncio.sleep(LOCK_POLL_S)

    async def is_locked(self) -> bool:
        """Whether the unit holds a lock point now.

        Raises:
            ReplyError: A reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await ask_whole(link, "MZM:MODE?") in POINTS.values() and await _is_stable(link)

    async def hold(self, voltage_v: float) -> float:
        """End a lock and hold a voltage; return the setting read back, V.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The unit refused; the old setting stands.
            ReplyError: Another setting is read back, or another bias measured, than was set.
            TransportError: Link lost; the bias is unknown until read again.
        """
        options = self._options
        check_within(self.name, "bias", voltage_v, options.min_bias_v, options.max_bias_v, "V")
        millivolts = round(voltage_v * 1000)  # the limits are whole millivolts
        async with self._transport.exclusive() as link:
            with unknown_if_lost(self.name, "the bias"):
                await tell(link, f"MZM:HOLD:VOLTAGE: {millivolts}")
                if await ask_whole(link, "MZM:MODE?") != HOLD_VOLTAGE:
                    await self._set_mode(link, HOLD_VOLTAGE)
                await self._confirm_bias(link, millivolts)
                await self._reach_bias(link, millivolts)
        return millivolts / 1000

    async def read_bias(self) -> float:
        """Read the voltage that is held, or in any other mode the one measured, V.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            if await ask_whole(link, "MZM:MODE?") == HOLD_VOLTAGE:
                return await ask_whole(link, "MZM:HOLD:VOLTAGE?") / 1000
            return await ask_number(link, "MZM:VOLTAGE?")

    async def set_attenuation(self, attenuation_db: float) -> float:
        """Set the VOA's attenuation, wait for it, return the setting read back, dB.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The unit refused; the old setting stands.
            ReplyError: A reply does not parse, or another value was read back than was set.
            TransportError: Link lost, or not settled in time; the attenuation is unknown.
        """
        options = self._options
        check_within(
            self.name,
            "attenuation",
            attenuation_db,
            options.min_attenuation_db,
            options.max_attenuation_db,
            "dB",
        )
        async with self._transport.exclusive() as link:
            command = f"VOA:ATTEN: {attenuation_db:.2f}"
            with unknown_if_lost(self.name, "the attenuation"):
                await tell(link, command)
                await self._switch_voa_on(link)
                await self._settle(link, command)
                read_db = await ask_number(link, "VOA:ATTEN?")
        return confirm_attenuation(self.name, attenuation_db, read_db, RESOLUTION_DB)

    async def read_attenuation(self) -> float:
        """Read the attenuation, dB: the set point where it is held, the measured one otherwise.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            is_held = await ask_whole(link, "VOA:POWER?") == 1 and (
                await ask_whole(link, "VOA:MODE?") == CONSTANT_ATTENUATION
            )
            return await ask_number(link, "VOA:ATTEN?" if is_held else "VOA:MEASURED?")

    async def make_safe(self) -> None:
        """Attenuate, end the lock, take the bias to rest; raises the first failure at the end."""
        rest_db, rest_mv = self._options.rest_db, round(self._options.rest_bias_v * 1000)

        async def check_voa(link: Dialogue) -> None:
            read_db = await ask_number(link, "VOA:ATTEN?")
            confirm_attenuation(self.name, rest_db, read_db, RESOLUTION_DB)
            await self._switch_voa_on(link)

        async def check_bias(link: Dialogue) -> None:
            mode = await ask_whole(link, "MZM:MODE?")
            if mode != HOLD_VOLTAGE:
                raise ReplyError(self.name, f"the bias mode reads {mode}")
            await self._confirm_bias(link, rest_mv)

        def told(command: str) -> SafetyStep:
            return partial(tell, command=command)

        steps = [
            told(f"VOA:ATTEN: {rest_db:.2f}"),
            told(f"VOA:MODE: {CONSTANT_ATTENUATION}"),
            told("VOA:POWER: 1"),
            check_voa,
            told(f"MZM:HOLD:VOLTAGE: {rest_mv}"),
            told(f"MZM:MODE: {HOLD_VOLTAGE}"),
            check_bias,
        ]
        await carry_out_all(self._transport, steps)

    def actuators(self) -> Mapping[str, Actuator]:
        """The voltage to hold, ``bias``, V, and the VOA's ``attenuation``, dB."""
        options = self._options
        return {
            "bias": Actuator(
                unit="V",
                minimum=options.min_bias_v,
                maximum=options.max_bias_v,
                resolution=RESOLUTION_V,
                write=self.hold,
                read=self.read_bias,
            ),
            "attenuation": Actuator(
                unit="dB",
                minimum=options.min_attenuation_db,
                maximum=options.max_attenuation_db,
                resolution=RESOLUTION_DB,
                write=self.set_attenuation,
                read=self.read_attenuation,
            ),
        }

    async def _identify(self, link: Dialogue) -> Identity:
        return await identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """See to it that the VOA attenuates; the bias stays as it is found."""
        await self._switch_voa_on(link)

    async def _set_mode(self, link: Dialogue, mode: int) -> None:
        command = f"MZM:MODE: {mode}"
        with unknown_if_lost(self.name, "the bias mode"):
            await tell(link, command)
            read = await ask_whole(link, "MZM:MODE?")
        if read != mode:
            raise ReplyError(self.name, f"the bias mode reads {read}", sent=command)

    async def _is_held(self, mode: int) -> bool:
        async with self._transport.exclusive() as link:
            read = await ask_whole(link, "MZM:MODE?")
            if read == mode:
                return await _is_stable(link)
        raise ReplyError(
            self.name, f"the lock was ended before it was held: the bias mode is now {read}"
        )

    async def _confirm_bias(self, link: Dialogue, millivolts: int) -> None:
        read_mv = await ask_whole(link, "MZM:HOLD:VOLTAGE?")
        if read_mv != millivolts:
            raise ReplyError(
                self.name, f"the bias was set to {millivolts} mV and reads {read_mv} mV"
            )

    async def _reach_bias(self, link: Dialogue, millivolts: int) -> None:
        """Wait until the bias that was set is there."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._options.settle_timeout_s
        while True:
            measured_v = await ask_number(link, "MZM:VOLTAGE?")
            if abs(measured_v - millivolts / 1000) <= self._options.bias_tolerance_v:
                return
            if loop.time() >= deadline_s:
                raise ReplyError(
                    self.name, f"the bias was set to {millivolts} mV and measures {measured_v:g} V"
                )
            await asyncio.sleep(POLL_S)

    async def _switch_voa_on(self, link: Dialogue) -> None:
        """Have the VOA hold its attenuation, unless it does already."""
        for setting, value in (("VOA:MODE", CONSTANT_ATTENUATION), ("VOA:POWER", 1)):
            if await ask_whole(link, f"{setting}?") == value:
                continue
            command = f"{setting}: {value}"
            with unknown_if_lost(self.name, setting):
                await tell(link, command)
                if await ask_whole(link, f"{setting}?") != value:
                    raise ReplyError(self.name, "reads another value than was set", sent=command)

    async def _settle(self, link: Dialogue, sent: str) -> None:
        async def is_settled() -> bool:
            return await ask_whole(link, "VOA:SETPOINT?") == 1

        if self._options.waits_for_set_point:
            await wait_until_settled(
                self.name,
                is_settled,
                timeout_s=self._options.settle_timeout_s,
                poll_s=POLL_S,
                sent=sent,
            )


async def _is_stable(link: Dialogue) -> bool:
    """Whether the bias is calibrated and at its set point."""
    if await ask_whole(link, "MZM:CALIBRATING?"):
        return False
    return await ask_whole(link, "MZM:SETPOINT?") == 1
