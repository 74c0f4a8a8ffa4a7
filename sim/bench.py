"""A whole simulated bench: one optical twin, its instruments, and where clients find them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import zmq
from numpy.typing import NDArray

from sim.endpoints.library import MemoryLibrary
from sim.endpoints.memory import Link, MemoryChannel
from sim.endpoints.pty import PtyEndpoint
from sim.endpoints.service import FAULTS, Clock, Endpoint, ServedInstrument
from sim.endpoints.tcp import TcpEndpoint
from sim.endpoints.zeromq import RequestEndpoint, StreamEndpoint
from sim.instrument import InstrumentSettings
from sim.instruments.id900 import Id900
from sim.instruments.id900_blocks import CHANNELS as STREAM_CHANNELS
from sim.instruments.id900_datalink import DATALINK, stream_port
from sim.polarization_twin import PolarizationTwinSettings
from sim.record import Limits, Record
from sim.twin import TwinSettings
from sim.wire import MAIN

Transport = Literal["pty", "tcp", "visa", "zmq", "library"]
"""How an instrument is reached; ``visa`` is a TCP socket whose main resource is a VISA one.

Behind ``library`` there is no wire: the vendor's library can only be simulated in memory.
"""

Resources = dict[str, dict[str, str]]
"""Resource strings by instrument and port."""

VIOLATIONS_TOLD: Final = 100
"""Violations that ``truth`` lists at most; it counts them all."""


@dataclass(frozen=True)
class SimulatedInstrument:
    """One instrument of the bench.

    Attributes:
        name: Its name; also the name of its pseudo-terminal.
        settings: What it is: their type says which command set it speaks.
        transport: How it is reached; what speaks ZeroMQ always by ``zmq``, the others never.
        limits: Limits that commands must keep, by quantity: ``voltage`` in V, ``attenuation`` in
            dB, or whatever else the record speaks of.
    """

    name: str
    settings: InstrumentSettings
    transport: Transport
    limits: Mapping[str, Limits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        speaks_messages = DATALINK in self.settings.ports
        if speaks_messages != (self.transport == "zmq"):
            raise ValueError(f"{self.name} cannot be reached by {self.transport}")


@dataclass(frozen=True)
class InMemory:
    """An in-memory bench as its clients see it.

    Attributes:
        channels: Makes a channel, or a vendor's library, by name.
        resources: ``memory:`` resource strings that use these names.
    """

    channels: Mapping[str, Callable[[], MemoryChannel | MemoryLibrary]]
    resources: Resources


class SimulatedBench:
    """A link with simulated optics and the instruments that act on it.

    What an instrument's settings say it acts on, it moves in the twin; the others see the twin's
    light, or are on their own. The same seed and the same requests at the same times give the same
    bytes.

    Args:
        instruments: The instruments, at most one for each part of the link that can be moved.
        twin: The link; its seed is overridden.
        seed: All that is random follows from it.
        ceiling_hz: Click rate of all detectors together that must never be exceeded, Hz.

    Raises:
        ValueError: Two instruments share a name, or act on the same part of the link.
    """

    def __init__(
        self,
        instruments: Sequence[SimulatedInstrument],
        twin: TwinSettings | None = None,
        *,
        seed: int = 0,
        ceiling_hz: float | None = None,
    ) -> None:
        _check_distinct(instruments)
        self.instruments = tuple(instruments)
        self.twin = replace(twin or PolarizationTwinSettings(), seed=seed).build(start_s=0.0)
        self.record = Record(
            {
                (each.name, what): limits
                for each in instruments
                for what, limits in each.limits.items()
            }
        )
        self._ceiling_hz = ceiling_hz
        self._is_bright = False
        self._seen_transmission = 0.0
        self._clock = Clock()
        self._served = {
            each.name: ServedInstrument(
                each.name,
                each.settings.front_end(each.name, self.twin, self.record),
                self._clock,
                seed=seed + number,
                message_ports=each.settings.ports if each.transport == "zmq" else (),
                on_exchange=self._watch,
            )
            for number, each in enumerate(instruments)
        }
        self._endpoints: dict[str, dict[str, Endpoint]] = {}
        self._switching = asyncio.Lock()

    @asynccontextmanager
    async def serving(self, directory: Path) -> AsyncIterator[Resources]:
        """Serve every instrument on pseudo-terminals and sockets.

        Args:
            directory: Where the links to pseudo-terminals appear; it must exist.

        Yields:
            Where to find each instrument.

        Raises:
            ValueError: There is an instrument without a wire.
        """
        context = zmq.Context[zmq.Socket[bytes]]()
        async with AsyncExitStack() as stack:
            stack.callback(context.term)
            self._endpoints = {
                each.name: self._make_endpoints(each, directory, context)
                for each in self.instruments
            }
            for name, endpoints in self._endpoints.items():
                for endpoint in endpoints.values():
                    stack.push_async_callback(endpoint.close)
                    await endpoint.open()
                self._tell_stream_ports(name)
            await stack.enter_async_context(self._delivering())
            yield self._resources()

    def in_memory(self, error: Callable[[str], Exception] = ConnectionError) -> InMemory:
        """Offer every port as a channel without sockets.

        Args:
            error: Makes the exception that a channel's failure raises.
        """
        links: dict[Transport, Link] = {"pty": "serial", "zmq": "messages"}
        channels: dict[str, Callable[[], MemoryChannel | MemoryLibrary]] = {}
        resources: Resources = {}
        for each in self.instruments:
            link = links.get(each.transport, "socket")
            resources[each.name] = {}
            for port in each.settings.ports:
                name = f"{each.name}/{port}"
                if each.transport == "library":
                    channels[name] = partial(MemoryLibrary, self._served[each.name])
                else:
                    channels[name] = self._channel_factory(each.name, port, link, error)
                resources[each.name][port] = f"memory:{name}"
        return InMemory(channels, resources)

    async def fault(self, instrument: str, fault: str, *, is_on: bool = True) -> None:
        """Switch a fault of one instrument's link on or off, and wait until that is done.

        Args:
            instrument: Its name.
            fault: One of FAULTS; ``power-cycle`` happens at once and does not last.
            is_on: On or off.

        Raises:
            ValueError: There is no such instrument or fault.
        """
        served = self._served.get(instrument)
        if served is None:
            raise ValueError(f"no instrument {instrument!r}; there are {', '.join(self._served)}")
        chosen = next((each for each in FAULTS if each == fault), None)
        if chosen is None:
            raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
        async with self._switching:
            endpoints = self._endpoints.get(instrument, {}).values()
            if is_on and chosen in ("unplug", "power-cycle"):
                for endpoint in endpoints:
                    await endpoint.close()
            served.set_fault(chosen, is_on=is_on)
            if served.is_plugged:
                for endpoint in endpoints:
                    await endpoint.open()

    def jump(self, rotation_rad: Sequence[float]) -> None:
        """Disturb the link: somebody moved a fibre.

        Polarization turns by a rotation vector in Stokes space, rad; the phase between two
        interferometers moves by its first component.

        Raises:
            ValueError: The vector does not have three finite components.
        """
        self.twin.disturb(_vector(rotation_rad), self._clock.now_s())

    def bend(self, loss_db: float) -> None:
        """Let the channel lose more from now on, dB: some 100 dB are a cut fibre, 0 mends it.

        Raises:
            ValueError: The loss is negative or not finite.
        """
        self.twin.channel.bend(loss_db, self._clock.now_s())

    def illuminate(self, stray_hz: float) -> None:
        """Let light from outside make clicks in each detector from now on, Hz; 0 ends it.

        Raises:
            ValueError: The rate is negative or not finite.
        """
        self.twin.channel.illuminate(stray_hz, self._clock.now_s())

    def truth(self) -> dict[str, Any]:
        """Return what the bench itself knows, ready for JSON."""
        now_s = self._clock.now_s()
        self._watch(now_s)
        qber, floor = self.twin.qber(now_s), self.twin.qber_floor()
        return {
            "time_s": now_s,
            "qber": qber,
            "qber_floor": floor,
            "excess_pp": 100 * (qber - floor),
            "state": self.twin.source.state(),
            "shutter_open": self.twin.attenuator.shutter_open(now_s),
            "attenuation_db": self.twin.attenuator.actual_db(now_s),
            "drives": self._drives(now_s),
            "detection_rate_hz": self.twin.detection_rate_hz(now_s),
            "violations": self.record.violation_total,
            "violation_list": [asdict(v) for v in self.record.violations[-VIOLATIONS_TOLD:]],
            "outputs": {name: each.front_end.outputs(now_s) for name, each in self._served.items()},
            "faults": {name: sorted(each.faults) for name, each in self._served.items()},
        }

    def _drives(self, now_s: float) -> dict[str, float]:
        """Return where the drives are that align the link, by channel.

        Where several instruments share the work, its name stands before each one's channels.
        """
        acting = [
            each.name
            for each in self.instruments
            if (each.settings.acts_on or "").startswith(("polarization", "phase"))
        ]
        return {
            channel if len(acting) == 1 else f"{name}.{channel}": float(value)
            for name in acting
            for channel, value in self._served[name].front_end.outputs(now_s).items()
            if not isinstance(value, bool | str)
        }

    def _make_endpoints(
        self, each: SimulatedInstrument, directory: Path, context: "zmq.Context[zmq.Socket[bytes]]"
    ) -> dict[str, Endpoint]:
        served = self._served[each.name]
        match each.transport:
            case "pty":
                return {MAIN: PtyEndpoint(served, directory / each.name)}
            case "tcp" | "visa":
                return {port: TcpEndpoint(served, port) for port in each.settings.ports}
            case "library":
                raise ValueError(f"{each.name} has no wire: it can only be simulated in memory")
            case "zmq":
                requests = {p: RequestEndpoint(served, context, p) for p in (MAIN, DATALINK)}
                streams = [stream_port(n) for n in STREAM_CHANNELS]
                return {**requests, **{p: StreamEndpoint(served, context, p) for p in streams}}

    def _tell_stream_ports(self, name: str) -> None:
        """Let a time controller know where its streams are: its DataLink service opens them."""
        front_end = self._served[name].front_end
        if isinstance(front_end, Id900):
            streams = {n: self._endpoints[name][stream_port(n)] for n in STREAM_CHANNELS}
            front_end.use_stream_ports(
                {n: each.number for n, each in streams.items() if isinstance(each, StreamEndpoint)}
            )

    def _resources(self) -> Resources:
        resources: Resources = {}
        for each in self.instruments:
            endpoints = self._endpoints[each.name]
            resources[each.name] = {port: e.resource for port, e in endpoints.items()}
            main = endpoints[MAIN]
            if each.transport == "visa" and isinstance(main, TcpEndpoint):
                resources[each.name] = {MAIN: main.visa_resource, "tcp": main.resource}
        return resources

    @asynccontextmanager
    async def _delivering(self) -> AsyncIterator[None]:
        """Run a task for each endpoint that sends what its instrument says."""
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(endpoint.serve(), name=f"{name} {port}")
                    for name, endpoints in self._endpoints.items()
                    for port, endpoint in endpoints.items()
                ]
                yield
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) > 1:
                raise
            failure = errors.exceptions[0]
        if failure is not None:
            raise failure  # whatever ended the bench, as it was

    def _channel_factory(
        self, name: str, port: str, link: Link, error: Callable[[str], Exception]
    ) -> Callable[[], MemoryChannel]:
        return lambda: MemoryChannel(self._served[name], port, link=link, error=error)

    def _watch(self, now_s: float) -> None:
        """Let every instrument do what is due, and see whether the detectors get too much light.

        The light is looked at before and after every exchange, while it changes: a ramp is at its
        brightest when it ends.
        """
        for each in self._served.values():
            each.act()
        transmission = self.twin.attenuator.transmission(now_s)
        if self._ceiling_hz is None or transmission == self._seen_transmission:
            return
        self._seen_transmission = transmission
        rate_hz = self.twin.detection_rate_hz(now_s)
        if rate_hz > self._ceiling_hz and not self._is_bright:
            text = f"{rate_hz:.3g} clicks/s are more than {self._ceiling_hz:.3g}"
            self.record.violate(now_s, "detectors", text)
        self._is_bright = rate_hz > self._ceiling_hz


def _check_distinct(instruments: Sequence[SimulatedInstrument]) -> None:
    names = [each.name for each in instruments]
    if len(set(names)) < len(names):
        raise ValueError(f"two instruments share a name: {', '.join(names)}")
    acting: dict[str, str] = {}
    for each in instruments:
        part = each.settings.acts_on
        if part is not None and part in acting:
            raise ValueError(f"{acting[part]} and {each.name} both act on the link's {part}")
        if part is not None:
            acting[part] = each.name


def _vector(components: Sequence[float]) -> NDArray[np.float64]:
    vector = np.array(components, dtype=float)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise ValueError("a rotation vector has three finite components")
    return vector
