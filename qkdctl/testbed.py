"""The opened bench of one link: the only owner of its instruments, knobs, light and receiver."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from calibration.clicks import Window
from calibration.inversion import Inverted
from drivers.calibration_curve import in_unit_of
from drivers.errors import InstrumentError, SettingError
from drivers.knob import Knob, KnobLimits, set_together
from drivers.registry import driver_entry
from drivers.roles import (
    BiasController,
    Identity,
    Instrument,
    LightValve,
    PhotonCounter,
    PowerMeter,
    StateSource,
    TimeTagger,
    TimeTags,
)
from drivers.transport.connect import Connector
from qkdctl.config import KnobConfig, Testbed
from qkdctl.feed_inbox import FeedInbox
from qkdctl.feed_receiver import FeedReceiver
from qkdctl.receiver import HeldWindow, PatternReceiver, Receiver, ScanReceiver, pattern_of
from qkdctl.settings_in_force import SettingsInForce
from qkdctl.watched import WatchedQuantities

log = logging.getLogger(__name__)

LEAST_PHOTONS_FOR_RATE = 100
"""Windows with fewer detections do not change the rate from which exposures are planned."""

SAFE_TIMEOUT_S = 10.0
"""How long one instrument may take to become safe before it is reported as not safe."""


class CeilingError(Exception):
    """The detectors saw more light than the testbed file allows; the light has been shut."""


class UnsafeError(Exception):
    """The bench could not be made safe; the text names each instrument and why."""


class Light:
    """The attenuator and its shutter: light is let in only at the attenuation in force.

    Attributes:
        attenuation_db: In force while light is on, dB.
        is_on: Whether light is let in.
        on_change: Is told when it has been let in or attenuated, and when it is to be shut.
    """

    def __init__(self, attenuator: LightValve, attenuation_db: float) -> None:
        self._attenuator = attenuator
        self.on_change: Callable[[], None] = lambda: None
        self.attenuation_db = attenuation_db
        self.is_on = False

    @property
    def name(self) -> str:
        """Name of the instrument."""
        return self._attenuator.name

    async def turn_on(self) -> None:
        """Set the attenuation with the shutter shut, then open it."""
        if self.is_on:
            return
        await self._attenuator.set_attenuation(self.attenuation_db)
        self.is_on = await self._attenuator.set_shutter(is_open=True)
        if not self.is_on:
            raise InstrumentError(self.name, "the shutter did not open; look at its front panel")
        self.on_change()

    async def attenuate(self, attenuation_db: float) -> float:
        """Change the attenuation in force; return what is, dB. While light is off none is set."""
        if self.is_on:
            attenuation_db = await self._attenuator.set_attenuation(attenuation_db)
        self.attenuation_db = attenuation_db
        self.on_change()
        return attenuation_db

    async def turn_off(self) -> None:
        """Shut the light; from any state."""
        self.is_on = False
        self.on_change()
        await self._attenuator.make_safe()

    async def is_open(self) -> bool:
        """Ask whether the shutter is open, whoever moved it."""
        return await self._attenuator.read_shutter()

    async def check(self) -> None:
        """Compare the shutter with what was asked for.

        Raises:
            InstrumentError: Somebody moved the shutter, or the attenuator is lost.
        """
        is_open = await self.is_open()
        if is_open != self.is_on:
            found = "open" if is_open else "shut"
            raise InstrumentError(self.name, f"the shutter is {found} though nobody here moved it")


class OpenTestbed:
    """Instruments, knobs, light and receiver of one testbed file.

    Attributes:
        instruments: By name.
        knobs: By name.
        light: The attenuator.
        receiver: Where windows come from while a calibration measures.
        settings: Which setting was in force when.
        feed: Where the QKD stack posts its windows, or None.
        watched: What must stay within its band while a calibration measures.
        identities: Who each opened instrument says it is.
        confirmed: Value of each knob as last confirmed; a knob whose state is unknown is not in it.
        on_window: Is shown every window that is measured.
        on_inverted: Is told which bases are inverted whenever that changes.
    """

    def __init__(self, config: Testbed, connector: Connector, now: Callable[[], float]) -> None:
        """Build everything, open nothing.

        Args:
            config: The testbed file.
            connector: Makes the transports.
            now: Tells seconds since the epoch.

        Raises:
            SettingError: A resource is malformed, a knob's limits exceed its instrument's, or an
                instrument cannot do what the file wants of it.
        """
        self.config = config
        self._now = now
        self.settings = SettingsInForce(now)
        self.instruments = {
            name: driver_entry(entry.kind).build(name, entry.resource, entry.options, connector)
            for name, entry in config.instruments.items()
        }
        self.knobs = {name: self._knob(name, knob) for name, knob in config.knobs.items()}
        self.light = Light(self._attenuator(), config.light.attenuation_db)
        self.light.on_change = self.settings.interrupt
        self.feed: FeedInbox | None = None
        self._key_receiver: FeedReceiver | None = None
        if config.receiver.source == "feed":
            self.feed = FeedInbox(config.feed, self.settings, now)
            signal = next(iter(config.link.intensities))
            self._key_receiver = FeedReceiver(self.feed, self.settings, signal, now)
        self._is_making_key = False
        self.receiver = self._receiver(now)
        self.watched = WatchedQuantities(config.watch, self.instruments)
        self._check_stages()
        self.identities: dict[str, Identity] = {}
        self.confirmed: dict[str, float] = {}
        self._rate_hz = config.receiver.expected_rate_hz
        self.on_window: Callable[[Window], None] = lambda window: None
        self.on_inverted: Callable[[Inverted], None] = lambda inverted: None

    async def open(self) -> None:
        """Open every instrument; the attenuator first, and the light is shut before the others.

        Raises:
            InstrumentError: The first instrument that could not be opened.
        """
        for name in self._safety_order():
            self.identities[name] = await self.instruments[name].open()
            if name == self.light.name:
                await self.light.turn_off()

    async def make_safe(self) -> None:
        """Shut the light, then take everything else to rest; tries all, then raises.

        Raises:
            UnsafeError: Some instrument is not known to be safe.
        """
        self.light.is_on = self._is_making_key = False
        self.settings.begin_change()
        self.confirmed.clear()
        for knob in self.knobs.values():
            knob.last = None  # instruments go to rest by themselves: what they hold must be read
        failures = []
        for name in self._safety_order():
            try:
                async with asyncio.timeout(SAFE_TIMEOUT_S):
                    await self.instruments[name].make_safe()
            except (InstrumentError, TimeoutError) as exc:
                failures.append(str(exc) or f"{name}: no answer within {SAFE_TIMEOUT_S:g} s")
        if failures:
            raise UnsafeError("; ".join(failures))

    async def close(self) -> None:
        """Close every link."""
        for instrument in self.instruments.values():
            try:
                await instrument.close()
            except InstrumentError as exc:
                log.warning("closing: %s", exc)

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        """Set knobs together and return what they settled on.

        Raises:
            SettingError: Unknown knob or a value outside its limits; nothing was sent.
        """
        unknown = set(setting) - set(self.knobs)
        if unknown:
            raise SettingError(
                min(unknown), f"there is no such knob; known are {', '.join(self.knobs)}"
            )
        moves = {self.knobs[name]: value for name, value in setting.items()}
        self.settings.begin_change()
        try:
            confirmed = await set_together(moves)
        except BaseException:
            for knob in moves:
                if knob.last is None:
                    self.confirmed.pop(knob.name, None)
            raise
        self.confirmed |= confirmed
        self.settings.settle(self.confirmed)
        return confirmed

    async def read_setting(self) -> dict[str, float]:
        """Ask the instruments for the value of each knob."""
        self.confirmed = {name: await knob.read() for name, knob in self.knobs.items()}
        self.settings.settle(self.confirmed)
        return dict(self.confirmed)

    @property
    def inverted(self) -> Inverted:
        """Bases whose bits are inverted in software."""
        return self.receiver.inverted

    def invert(self, bases: Inverted) -> None:
        """Invert the bits of these bases, and of no others, from the next window on."""
        if bases != self.receiver.inverted:
            self.receiver.inverted = bases
            if self._key_receiver is not None:
                self._key_receiver.inverted = bases
            self.on_inverted(bases)

    def limits(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a knob that can be relied on."""
        return self.knobs[name].usable

    async def measure(self, photons: int) -> Window:
        """Measure about ``photons`` detections at the rate seen last."""
        return await self.measure_for(photons / self._rate_hz)

    async def measure_for(self, duration_s: float) -> Window:
        """Measure for a time, within the limits of the testbed file."""
        self._is_making_key = False
        window = await self.receiver.measure(self._bounded_s(duration_s))
        await self._take_in(window)
        return window

    async def measure_held(
        self, in_force: Mapping[str, float], duration_s: float
    ) -> list[HeldWindow]:
        """Measure while key is made, with a setting that is held meanwhile.

        From the feed these are the windows that have come by then, measured with earlier settings.

        Args:
            in_force: Knobs as they were confirmed.
            duration_s: How long to hold the setting at least, within the limits of the file.

        Returns:
            One window or more, in the order of time, each with the setting it was measured with.
        """
        if self._key_receiver is None:
            window = await self.measure_for(duration_s)
            return [HeldWindow(window, in_force, self._now())]
        await self._make_key(self._key_receiver)
        held = await self._key_receiver.held(in_force, self._bounded_s(duration_s))
        for each in held:
            await self._take_in(each.window)
        return held

    async def _make_key(self, receiver: FeedReceiver) -> None:
        """Let Alice send what key is made of, and use no window from before that."""
        if self._is_making_key:
            return
        state, name = self.config.feed.alice_state, self.config.receiver.alice
        if state is not None and name is not None:
            await self._alice(name).set_state(state)
            if isinstance(self.receiver, PatternReceiver):
                self.receiver.forget_pattern()
        receiver.begin()
        self._is_making_key = True

    async def _take_in(self, window: Window) -> None:
        """Show a window, heed the ceiling, plan the next exposures by its rate."""
        self.on_window(window)
        rate_hz = window.photons / window.duration_s
        await self._heed_ceiling(rate_hz)
        if window.photons >= LEAST_PHOTONS_FOR_RATE and "dark" not in window.flags:
            self._rate_hz = rate_hz

    async def acquire(self, photons: int) -> TimeTags:
        """Record the tags of about ``photons`` detections at the rate seen last.

        Raises:
            TypeError: The receiver does not fold tags.
        """
        if not isinstance(self.receiver, PatternReceiver):
            raise TypeError("the receiver of this testbed does not fold tags")
        self._is_making_key = False
        tags = await self.receiver.acquire(self._bounded_s(photons / self._rate_hz))
        await self._heed_ceiling(sum(map(len, tags.since_sync_ps.values())) / tags.duration_s)
        return tags

    def _bounded_s(self, duration_s: float) -> float:
        receiver = self.config.receiver
        return min(max(duration_s, receiver.min_window_s), receiver.max_window_s)

    async def _heed_ceiling(self, rate_hz: float) -> None:
        """Shut the light if there is too much of it."""
        if rate_hz > self.config.receiver.max_rate_hz:
            await self.light.turn_off()
            raise CeilingError(
                f"{rate_hz:.3g} detections/s exceed receiver.max_rate_hz = "
                f"{self.config.receiver.max_rate_hz:.3g}; the light was shut: raise "
                "light.attenuation_db"
            )

    def _safety_order(self) -> list[str]:
        first = self.config.light.attenuator
        return [first, *(name for name in self.instruments if name != first)]

    def _knob(self, name: str, config: KnobConfig) -> Knob:
        actuators = self.instruments[config.instrument].actuators()
        if config.channel not in actuators:
            offered = ", ".join(actuators) or "none"
            raise SettingError(
                config.instrument,
                f"knob {name!r} wants channel {config.channel!r}, which this instrument does not "
                f"have; channels are: {offered}",
            )
        actuator = actuators[config.channel]
        if config.curve is not None:
            try:
                actuator = in_unit_of(config.curve.curve(), actuator)
            except ValueError as exc:
                raise SettingError(name, str(exc)) from None
        said = config.model_dump(exclude={"instrument", "channel", "curve"}, exclude_none=True)
        limits = KnobLimits(unit=actuator.unit, **{"settle_s": actuator.settle_s, **said})
        return Knob(name, actuator, limits)

    def _attenuator(self) -> LightValve:
        instrument = self.instruments[self.config.light.attenuator]
        if not isinstance(instrument, LightValve):
            raise _wrong_role(instrument, "light.attenuator", "an attenuator with a shutter")
        return instrument

    def _check_stages(self) -> None:
        """See that the instruments of the stages can do what is wanted of them."""
        attenuation, bias = self.config.stages.attenuation, self.config.stages.bias
        if attenuation is not None:
            self.power_meter(attenuation.power_meter)
        if bias is not None and bias.controller is not None:
            self.bias_controller(bias.controller)

    def power_meter(self, name: str) -> PowerMeter:
        """Return the power meter of the attenuation stage.

        Raises:
            SettingError: The instrument is none.
        """
        meter = self.instruments[name]
        if not isinstance(meter, PowerMeter):
            raise _wrong_role(meter, "stages.attenuation.power_meter", "a power meter")
        return meter

    def bias_controller(self, name: str) -> BiasController:
        """Return the bias controller of the bias stage.

        Raises:
            SettingError: The instrument is none.
        """
        controller = self.instruments[name]
        if not isinstance(controller, BiasController):
            raise _wrong_role(controller, "stages.bias.controller", "a bias controller")
        return controller

    def _receiver(self, now: Callable[[], float]) -> Receiver:
        config, link = self.config.receiver, self.config.link
        if config.alice is not None:
            alice = self._alice(config.alice)
        if config.calibration_source == "feed" and self._key_receiver is not None:
            return self._key_receiver
        if config.tagger is None or config.alice is None:
            raise ValueError("a receiver without tagger or alice has passed the check of the file")
        tagger = self.instruments[config.tagger]
        if config.calibration_source == "scan":
            if not isinstance(tagger, PhotonCounter):
                raise _wrong_role(tagger, "receiver.tagger", "a photon counter")
            return ScanReceiver(config, next(iter(link.intensities)), tagger, alice, now)
        if not isinstance(tagger, TimeTagger):
            raise _wrong_role(tagger, "receiver.tagger", "a time tagger")
        return PatternReceiver(config, pattern_of(link), tagger, alice, now)

    def _alice(self, name: str) -> StateSource:
        alice = self.instruments[name]
        if not isinstance(alice, StateSource):
            raise _wrong_role(alice, "receiver.alice", "a state source")
        return alice


def _wrong_role(instrument: Instrument, key: str, wanted: str) -> SettingError:
    return SettingError(
        instrument.name, f"{key} needs {wanted}, which this instrument is not; name another one"
    )
