"""The bench as the stages before the alignment see it, and what they leave in force."""

import logging
from collections.abc import Mapping

from calibration.clicks import STATES, Window
from drivers.errors import InstrumentError
from drivers.roles import BiasController, TimeTags
from qkdctl.receiver import PatternReceiver
from qkdctl.testbed import OpenTestbed

log = logging.getLogger(__name__)

ATTENUATION = "light.attenuation_db"
DELAY = "receiver.delays_ps."
"""Keys of the testbed file that stages put values in the place of; a detector's letter follows the
second. Every other value belongs to a knob."""

LOCKED = "stages.bias.locked"
"""Left in force by the bias stage where a controller holds the null by itself."""

LOCK_POINT = "null"
"""Where an intensity modulator is held."""


class SignalBench:
    """An opened testbed with its light, its power meter and its tags.

    Args:
        bench: The testbed.
    """

    def __init__(self, bench: OpenTestbed) -> None:
        self._bench = bench

    def bias_lock(self) -> "BiasLock":
        """Return the controller of the modulator's bias."""
        bias = self._bench.config.stages.bias
        if bias is None or bias.controller is None:
            raise ValueError("the testbed file names no bias controller")
        return BiasLock(self._bench.bias_controller(bias.controller))

    def limits(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a knob."""
        return self._bench.limits(name)

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        """Set knobs together."""
        return await self._bench.apply(setting)

    async def measure(self, photons: int) -> Window:
        """Measure about ``photons`` detections."""
        return await self._bench.measure(photons)

    async def measure_for(self, duration_s: float) -> Window:
        """Measure for a time."""
        return await self._bench.measure_for(duration_s)

    async def acquire(self, photons: int) -> TimeTags:
        """Record about ``photons`` detections."""
        return await self._bench.acquire(photons)

    @property
    def attenuation_db(self) -> float:
        """Attenuation in force while light is on, dB."""
        return self._bench.light.attenuation_db

    def attenuation_limits_db(self) -> tuple[float, float]:
        """Return the least and the most attenuation, dB."""
        actuator = self._bench.instruments[self._bench.light.name].actuators()["attenuation"]
        return actuator.minimum, actuator.maximum

    async def attenuate(self, attenuation_db: float) -> float:
        """Change the attenuation in force."""
        return await self._bench.light.attenuate(attenuation_db)

    async def let_light(self, *, is_on: bool) -> None:
        """Turn the light on or off."""
        if is_on:
            await self._bench.light.turn_on()
        else:
            await self._bench.light.turn_off()

    async def read_power(self) -> float:
        """Read the power meter, W."""
        attenuation = self._bench.config.stages.attenuation
        if attenuation is None:
            raise ValueError("the testbed file names no power meter")
        return await self._bench.power_meter(attenuation.power_meter).read_power()

    def delays_ps(self) -> dict[str, float]:
        """Return the delays in force."""
        return dict(self._folding().delays_ps)

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        """Fold by other delays from now on."""
        self._folding().delays_ps = {state: delays_ps[state] for state in STATES}

    def _folding(self) -> PatternReceiver:
        receiver = self._bench.receiver
        if not isinstance(receiver, PatternReceiver):
            raise TypeError("the receiver of this testbed does not fold tags")
        return receiver


class BiasLock:
    """A bias controller at the modulator's null."""

    def __init__(self, controller: BiasController) -> None:
        self._controller = controller

    async def lock(self) -> None:
        """Lock to the null and wait until it is held."""
        await self._controller.lock(LOCK_POINT)

    async def is_locked(self) -> bool:
        """Whether a point is held."""
        return await self._controller.is_locked()

    async def read_bias(self) -> float:
        """Read the bias, V."""
        return await self._controller.actuators()["bias"].read()

    async def hold(self, voltage_v: float) -> float:
        """End a lock and hold a voltage."""
        return await self._controller.hold(voltage_v)


async def put_in_force(bench: OpenTestbed, values: Mapping[str, float]) -> None:
    """Put what stages left in force into force again: knobs, delays, attenuation, a lock.

    What does not fit the testbed file any more is left out.
    """
    knobs = {}
    for name, value in values.items():
        if name == ATTENUATION:
            await _attenuate(bench, value)
        elif name.startswith(DELAY) and isinstance(bench.receiver, PatternReceiver):
            bench.receiver.delays_ps[name.removeprefix(DELAY)] = value
        elif name == LOCKED and bench.config.stages.bias is not None:
            await _lock(bench, bench.config.stages.bias.controller)
        elif name in bench.knobs and _fits(bench, name, value):
            knobs[name] = value
    if knobs:
        await bench.apply(knobs)


async def _attenuate(bench: OpenTestbed, attenuation_db: float) -> None:
    actuator = bench.instruments[bench.light.name].actuators()["attenuation"]
    if actuator.minimum <= attenuation_db <= actuator.maximum:
        await bench.light.attenuate(attenuation_db)


async def _lock(bench: OpenTestbed, controller: str | None) -> None:
    if controller is None:
        return
    try:
        if not await bench.bias_controller(controller).is_locked():
            await bench.bias_controller(controller).lock(LOCK_POINT)
    except InstrumentError as exc:
        log.warning("the modulator's bias is not locked: %s", exc)


def _fits(bench: OpenTestbed, knob: str, value: float) -> bool:
    minimum, maximum = bench.limits(knob)
    return minimum <= value <= maximum
