"""What temperature controllers do: hold a set point; each kind adds its own dialogue."""

from abc import abstractmethod
from collections.abc import Mapping

from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, check_within
from drivers.roles import Actuator
from drivers.transport.transport import Dialogue, Transport


class SetPointController(LinkedInstrument):
    """One temperature; setting it switches the output on.

    Args:
        name: Name in the testbed file.
        transport: The link.
        limits_degc: Lowest and highest set point sent, degrees Celsius.
        resolution_degc: Grid of the set points, degrees Celsius; the limits are on it.
        is_off_when_safe: Whether ``make_safe`` switches the output off, or leaves it as it is.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        limits_degc: tuple[float, float],
        resolution_degc: float,
        *,
        is_off_when_safe: bool,
    ) -> None:
        super().__init__(name, transport)
        self._limits_degc = limits_degc
        self._resolution_degc = resolution_degc
        self._is_off_when_safe = is_off_when_safe

    async def set_temperature(self, temperature_degc: float) -> float:
        """Set the set point, then switch the output on; return the set point read back, degC.

        Does not wait for the temperature: ``is_stable`` tells when it is reached.

        Raises:
            SettingError: Outside the limits, or beyond one of the unit's own; nothing was set.
            RejectedError: The unit refused the set point, or keeps its output off.
            ReplyError: Another set point is read back than was set.
            TransportError: Link lost; set point and output are unknown until read again.
        """
        check_within(self.name, "temperature", temperature_degc, *self._limits_degc, "degC")
        async with self._transport.exclusive() as link:
            await self._prepare(link, temperature_degc)
            read_degc = await self._set(link, temperature_degc)
            await self._switch_on(link)
        return read_degc

    async def read_set_point(self) -> float:
        """Read the set point, degC.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._read_set_point(link)

    async def read_temperature(self) -> float:
        """Measure the temperature, degC.

        Raises:
            RejectedError: The unit is in an error state.
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._measure(link)

    async def make_safe(self) -> None:
        """Switch the output off, unless the options say no."""
        if self._is_off_when_safe:
            await carry_out_all(self._transport, [self._switch_off])

    def actuators(self) -> Mapping[str, Actuator]:
        """The set point, ``temperature``, degC."""
        lowest_degc, highest_degc = self._limits_degc
        return {
            "temperature": Actuator(
                unit="degC",
                minimum=lowest_degc,
                maximum=highest_degc,
                resolution=self._resolution_degc,
                write=self.set_temperature,
                read=self.read_set_point,
            )
        }

    @abstractmethod
    async def _prepare(self, link: Dialogue, temperature_degc: float) -> None:
        """Refuse what the unit would not hold, before anything is set."""

    @abstractmethod
    async def _set(self, link: Dialogue, temperature_degc: float) -> float:
        """Send the set point and return what is read back, degC."""

    @abstractmethod
    async def _switch_on(self, link: Dialogue) -> None:
        """Switch the output on."""

    @abstractmethod
    async def _switch_off(self, link: Dialogue) -> None:
        """See to it that the output is off."""

    @abstractmethod
    async def _read_set_point(self, link: Dialogue) -> float:
        """Read the set point, degC."""

    @abstractmethod
    async def _measure(self, link: Dialogue) -> float:
        """Measure the temperature, degC."""
