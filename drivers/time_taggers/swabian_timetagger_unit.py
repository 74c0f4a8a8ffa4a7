"""One Swabian Time Tagger, held through the vendor's library: taken up, recognised, made safe."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from drivers.errors import InstrumentError, ReplyError, TransportError
from drivers.outputs import ROUNDS
from drivers.roles import Health, Identity
from drivers.time_taggers.swabian_timetagger_options import TimeTaggerOptions
from drivers.time_taggers.swabian_timetagger_settings import TaggerSettings
from drivers.time_taggers.swabian_timetagger_vendor import (
    VendorTagger,
    import_vendor_library,
    parse_address,
)
from drivers.transport.connect import Connector
from drivers.transport.library import Calls, NotReturnedError


@dataclass(frozen=True)
class Held:
    """The unit in a dialogue.

    Attributes:
        calls: Makes the calls.
        vendor: The vendor's objects.
    """

    calls: Calls
    vendor: VendorTagger

    @property
    def tagger(self) -> Any:
        """The vendor's tagger object."""
        return self.vendor.handle


class TaggerUnit:
    """The unit, whoever measures with it.

    After a failed call the unit is asked for a fence. If it answers, nothing is lost; if the
    library reports another failure, it is let go, taken up anew and set up again.

    Args:
        instrument: Name in the testbed file.
        resource: Which tagger.
        options: What the testbed file says.
        connector: Makes the link.

    Attributes:
        settings: Its settings.
        interruption: Set when the measurements that have begun until then are over: the unit is
            made safe, closed or taken up anew. Then there is another one for later measurements.
    """

    def __init__(
        self, instrument: str, resource: str, options: TimeTaggerOptions, connector: Connector
    ) -> None:
        self.settings = TaggerSettings(instrument, options)
        self.interruption = asyncio.Event()
        self._instrument = instrument
        self._options = options
        self._address = parse_address(instrument, resource)
        self._vendor: VendorTagger | None = None
        self._is_set_up = False
        self._link = connector.library(
            instrument, resource, import_vendor_library, timeout_s=options.timeout_s
        )
        self._link.on_reopen = self._take_up
        self._link.on_set_up = self._set_up
        self._link.on_close = self._let_go

    async def open(self) -> None:
        """Load the library, take up the unit, check which it is, set it up."""
        await self._link.open()

    async def close(self) -> None:
        """Let the unit go."""
        self._cut_short()
        await self._link.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._link.health()

    @asynccontextmanager
    async def exclusive(self, *, is_urgent: bool = False) -> AsyncIterator[Held]:
        """Hold one dialogue with the unit; an urgent one does not wait for its set-up.

        Raises:
            TransportError: Not open, or the unit could not be taken up again.
        """
        async with self._link.exclusive(is_urgent=is_urgent) as calls:
            if self._vendor is None:
                raise TransportError(self._instrument, "the link is not open")
            yield Held(calls, self._vendor)

    async def identify(self, held: Held) -> Identity:
        """Ask the unit who it is.

        Raises:
            ReplyError: Not the configured one.
            TransportError: No answer.
        """
        model = str(await held.calls.call(held.tagger.getModel))
        if self._options.model.lower() not in model.lower():
            problem = f"this is no {self._options.model}: is it the instrument you configured?"
            raise ReplyError(self._instrument, problem, sent="getModel()", received=model)
        serial = str(await held.calls.call(held.tagger.getSerial))
        for wanted in filter(None, (self._address.serial, self._options.serial_number)):
            if serial != wanted:
                problem = f"its serial number is not {wanted}: is it the one you configured?"
                raise ReplyError(self._instrument, problem, sent="getSerial()", received=serial)
        version = await held.calls.call(held.vendor.library.getVersion)
        return Identity("Swabian Instruments", model, serial, f"library {version}")

    async def fence(self, held: Held) -> bool:
        """Wait until all settings act and all tags up to now are dealt with; whether they are.

        Raises:
            TransportError: No answer.
        """
        timeout_ms = round(1000 * self._options.timeout_s / 2)
        return bool(await held.calls.call(held.tagger.sync, timeout_ms))

    async def make_safe(self) -> None:
        """End all measurements and all test signals.

        Raises:
            InstrumentError: The first step that failed for good, after all were tried.
        """
        self._cut_short()
        failures: list[InstrumentError] = []
        for _ in range(ROUNDS):
            failures = await self._try_to_make_safe()
            if not failures:
                return
        raise failures[0]

    async def _try_to_make_safe(self) -> list[InstrumentError]:
        """Try every step, unless the library is stuck in one; return what failed."""
        failures: list[InstrumentError] = []
        try:
            async with self.exclusive(is_urgent=True) as held:
                end = partial(self.settings.end_test_signal, held.calls, held.tagger)
                ends = [partial(end, number) for number in self._options.channels]
                for step in (partial(held.calls.call, held.vendor.end_all), *ends):
                    try:
                        await step()
                    except NotReturnedError as exc:
                        return [*failures, exc]
                    except InstrumentError as exc:
                        failures.append(exc)
        except InstrumentError as exc:
            failures.append(exc)
        return failures

    async def _take_up(self, calls: Calls) -> None:
        if self._vendor is None:
            self._vendor = VendorTagger(await self._link.load(), self._address)
        held = Held(calls, self._vendor)
        if not await self._answers(held):
            self._cut_short()
            self._is_set_up = False
            await calls.call(self._vendor.connect, timeout_s=self._options.connect_timeout_s)
            self._link.note_connection()
        await self.identify(held)

    async def _set_up(self, calls: Calls) -> None:
        if self._vendor is None or self._is_set_up:
            return
        await self.settings.set_up(calls, self._vendor.handle)
        self._is_set_up = True

    async def _answers(self, held: Held) -> bool:
        """Whether the unit is held and still there; raises if that takes too long to tell."""
        if held.tagger is None:
            return False
        try:
            return await self.fence(held)
        except NotReturnedError:
            raise
        except TransportError:
            return False

    async def _let_go(self, calls: Calls) -> None:
        if self._vendor is not None:
            await calls.call(self._vendor.disconnect)

    def _cut_short(self) -> None:
        """End the measurements under way; those that begin from now on are not concerned."""
        self.interruption.set()
        self.interruption = asyncio.Event()
