"""One suite for every driver: simulated over each wire and in memory, or real with ``--bench``.

A test is a story about one opened driver. ``unit.run(story)`` builds the bench, builds the driver
by its kind as the daemon would, opens it, tells the story and closes everything; in memory on a
clock that jumps, over a wire on the real one.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract_kinds.manners import Instead, Manners, all_manners
from numpy.typing import NDArray

from drivers.errors import InstrumentError
from drivers.registry import Options, driver_entry, driver_kinds
from drivers.roles import (
    Attenuator,
    Identity,
    Instrument,
    PhotonCounter,
    PolarizationController,
    Shutter,
    StateSource,
    TagStreamer,
    TimeTagger,
    roles_of,
)
from drivers.settable import Settable, settables
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from qkdctl.config import InstrumentConfig, Testbed, TestbedFileError, load_testbed
from qkdctl.simulate import build_bench, with_resources
from sim import virtual_time
from sim.bench import SimulatedBench
from sim.endpoints import service
from sim.record import REJECTED, Record
from sim.twin import Twin
from sim.wire import MAIN, FrontEnd, Reply

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"
SEED = 3

MEMORY, REAL = "memory", "real"
WIRES: Mapping[str, tuple[str, ...]] = {
    "serial": (MEMORY, "serial"),
    "tcp": (MEMORY, "tcp"),
    "timetagger": (MEMORY,),  # a vendor's library: there is no wire
    "visa": (MEMORY, "visa", "tcp"),
    "zmq": (MEMORY, "zmq"),
}
"""What a simulated unit is reached by, by the scheme of its resource in the example."""

LISTENING = ("serial", "tcp")
"""Wires that tell what has arrived before anybody reads."""

# Over a wire time is real: replies are waited for less long there, and come less late.
WIRE_TIMEOUT_S = 0.5
WIRE_LATE_S = 0.8

# The twin's shutter opens over its 45 dB at 1000 dB/s.
SHUTTER_S = 0.05


@dataclass
class Heard:
    """What a unit has heard, and which of it it has answered."""

    all: set[bytes] = field(default_factory=set)
    answered: set[bytes] = field(default_factory=set)


@dataclass
class Live:
    """One driver at work.

    Attributes:
        identity: What ``open`` returned.
    """

    unit: "Unit"
    driver: Any
    options: Options
    bench: SimulatedBench | None = None
    identity: Identity | None = None

    @property
    def sim(self) -> SimulatedBench:
        """The bench, which only simulated units have."""
        assert self.bench is not None, "a test that looks at the bench must be simulated_only"
        return self.bench

    @property
    def inputs(self) -> tuple[int, ...]:
        """Inputs of a counter or tagger that are in use."""
        return tuple(getattr(self.options, "inputs", ()))

    def outputs(self) -> list[Settable]:
        """Everything that this driver sets, by its roles."""
        return settables(self.driver, is_state_source=self.is_state_source)

    @property
    def is_state_source(self) -> bool:
        """Whether it is Alice's encoder: a line instrument is only where the file says so."""
        return isinstance(self.driver, StateSource) and (
            getattr(self.options, "state_setting", "") is not None
        )

    async def exchange(self) -> None:
        """Set, read and ask something, and check it against what it must be."""
        for output in self.outputs()[:1]:
            value = output.values[0]
            assert output.agrees(await output.set(value), value)
            assert output.agrees(await output.read(), value)
        assert await self.driver.identify() == self.identity

    async def works_within(self, within_s: float) -> None:
        """Fail unless exchanges succeed again in that time."""
        last: InstrumentError | None = None
        try:
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        await self.exchange()
                    except InstrumentError as exc:
                        last = exc
                        await asyncio.sleep(0.05)
                    else:
                        return
        except TimeoutError:
            pytest.fail(f"not working within {within_s:g} s: {last}")

    async def fault(self, fault: str, *, is_on: bool = True) -> None:
        """Switch a fault of the simulated unit."""
        await self.sim.fault(self.unit.name, fault, is_on=is_on)

    def answer_as_another_model(self) -> None:
        """Have the simulated unit give another model's answers from now on."""
        self.disturb(say=self.unit.manners.impostor)

    def disturb(
        self,
        *,
        hear: Callable[[bytes], bytes] = bytes,
        say: Callable[[bytes], bytes] = bytes,
        heard: Callable[[], None] = lambda: None,
    ) -> Callable[[], None]:
        """Come between the simulated unit and its line.

        Args:
            hear: What the unit hears, of what was sent.
            say: What it is heard to say, of what it said.
            heard: Called when it has heard something and before it is heard to answer.

        Returns:
            Ends the disturbance.
        """
        front_end = self.sim._served[self.unit.name].front_end
        handle = front_end.handle

        def answer(data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
            replies = handle(hear(data), now_s, port)
            heard()
            return [replace(each, data=say(each.data)) for each in replies]

        front_end.handle = answer  # type: ignore[method-assign]
        return lambda: setattr(front_end, "handle", handle)

    @asynccontextmanager
    async def hearing(self) -> AsyncIterator[Heard]:
        """Collect what the unit hears, as far as it stays the same when it is said again."""
        heard = Heard()
        message = b""

        def hear(data: bytes) -> bytes:
            nonlocal message
            message = self.unit.manners.gist(data)
            heard.all.add(message)
            return data

        def say(reply: bytes) -> bytes:
            heard.answered.add(message)
            return reply

        end = self.disturb(hear=hear, say=say)
        yield heard
        end()

    def hear_only(self, messages: set[bytes]) -> None:
        """Have the unit hear nothing else from now on, but for what finds it after a lost link."""
        manners = self.unit.manners

        def is_heard(data: bytes) -> bool:
            gist = manners.gist(data)
            return gist in messages or bool(re.match(manners.finds_again, gist))

        self.disturb(hear=lambda data: data if is_heard(data) else b"")

    def set_instead(self, commands: Mapping[bytes, Instead]) -> None:
        """Have the unit hear other commands than those sent, from now on; it echoes those sent."""
        echoes: dict[bytes, bytes] = {}

        def hear(data: bytes) -> bytes:
            for pattern, instead in commands.items():
                if found := re.search(pattern, data):
                    heard = found.expand(instead) if isinstance(instead, bytes) else instead(found)
                    if self.unit.manners.echoes:
                        echoes[heard] = found.group()
                    data = data.replace(found.group(), heard)
            return data

        def say(reply: bytes) -> bytes:
            for heard, sent in echoes.items():
                reply = reply.replace(heard, sent)
            return reply

        self.disturb(hear=hear, say=say)

    def mute_when_told(self) -> None:
        """Have the unit fall silent as soon as it was told to set something."""
        served, told = self.sim._served[self.unit.name], self.told()
        end = self.disturb(heard=lambda: fall_silent())

        def fall_silent() -> None:
            if self.told() > told:
                served.set_fault("mute")
                end()

    def at_the_front_panel(self, keys: Sequence[bytes]) -> None:
        """Do something to the unit that the line shows nothing of."""
        for each in keys:
            self.sim._served[self.unit.name].front_end.handle(each, self.sim.truth()["time_s"])

    def set_up(self, since: int) -> set[tuple[str, int, float | str]]:
        """What the unit was told and took, from an entry of the record on."""
        _, entries = self.sim.record.since(since)
        return {(e.what, e.channel, e.value) for e in entries if e.what != REJECTED}

    def expected_hz(self) -> NDArray[np.float64]:
        """Clicks per second in each slot of the period, shape ``(period_slots, 4)``."""
        twin = self.sim.twin
        clicks = twin.receiver.clicks_per_slot(twin._light(self.sim.truth()["time_s"]))
        return np.asarray(clicks * 1e12 / twin.sync_period_ps)

    async def light(self, *, is_on: bool) -> None:
        """Open or shut the twin's shutter, and wait until it stands."""
        self.sim.twin.attenuator.set_shutter(is_on, self.sim.truth()["time_s"])
        await asyncio.sleep(SHUTTER_S)

    async def leave_safe_state(self) -> None:
        """Drive the unit away from where ``make_safe`` takes it."""
        for output in self.outputs():
            await output.set(output.values[0])
        if isinstance(self.driver, TimeTagger):
            await self.driver.acquire(0.02, self.inputs)

    def told(self) -> int:
        """How much the twin was told so far; real instruments do not say."""
        return 0 if self.bench is None else self.bench.record.total

    @property
    def late_s(self) -> float:
        """How late the fault ``late`` makes a reply, s."""
        return service.LATE_S

    async def safe_within(self, within_s: float) -> None:
        """Make safe until it succeeds, as the daemon does while an instrument is lost."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    await self.driver.make_safe()
                except InstrumentError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def read_within(self, within_s: float) -> dict[str, Any]:
        """Read every output, as soon as that works."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return {output.name: await output.read() for output in self.outputs()}
                except InstrumentError:
                    await asyncio.sleep(0.05)

    def truth(self) -> dict[str, Any]:
        """What the outputs really are."""
        return dict(self.sim.truth()["outputs"][self.unit.name])

    def is_safe(self) -> bool:
        """Whether the twin is where ``make_safe`` must have taken it."""
        return self.unit.manners.is_safe(self.truth(), self.options)

    async def is_safe_soon(self) -> bool:
        """Whether the twin gets there while filters and drives still move."""
        for _ in range(40):
            if self.is_safe():
                return True
            await asyncio.sleep(0.05)
        return False


Story = Callable[[Live], Awaitable[None]]


@dataclass(frozen=True)
class Unit:
    """One instrument over one wire.

    Attributes:
        name: Name in the testbed file.
        wire: How it is reached.
        config: The testbed file.
        directory: Where pseudo-terminals appear.
    """

    name: str
    wire: str
    config: Testbed
    directory: Path

    @property
    def kind(self) -> str:
        return self.config.instruments[self.name].kind

    @property
    def manners(self) -> Manners:
        return all_manners()[self.kind]

    def with_options(self, **said: Any) -> "Unit":
        """The same unit with other options of its driver."""
        entry = self.config.instruments[self.name]
        options = type(entry.options).model_validate({**entry.options.model_dump(), **said})
        instruments = {
            **self.config.instruments,
            self.name: entry.model_copy(update={"options": options}),
        }
        return replace(self, config=self.config.model_copy(update={"instruments": instruments}))

    @property
    def is_simulated(self) -> bool:
        return self.wire != REAL

    def run(self, story: Story, *, opens: bool = True) -> None:
        """Tell a story about the driver; opened first, unless the story does that itself."""
        main = self._run(story, opens=opens)
        if self.wire == MEMORY:
            virtual_time.run(main)
        else:
            asyncio.run(main)

    async def _run(self, story: Story, *, opens: bool) -> None:
        async with self._live() as live, AsyncExitStack() as stack:
            stack.push_async_callback(live.driver.close)
            if not self.is_simulated:
                await make_safe(live.driver)
                stack.push_async_callback(make_safe, live.driver)
            if opens:
                live.identity = await live.driver.open()
            elif not self.is_simulated:
                await live.driver.close()
            await story(live)
        left = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
        assert not left, f"tasks left behind: {left}"

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[Live]:
        if not self.is_simulated:
            entry = self.config.instruments[self.name]
            yield self._drive(entry.resource, entry.options, Connector(), None)
            return
        bench = simulated(self.config, self.name, is_hasty=self.wire != MEMORY)
        if self.wire == MEMORY:
            served = bench.in_memory(error=ChannelError)
            connector = Connector(memory=served.channels)
            yield self._drive_simulated(served.resources[self.name], connector, bench)
            return
        async with bench.serving(self.directory) as resources:
            yield self._drive_simulated(resources[self.name], Connector(), bench)

    def _drive_simulated(
        self, ports: Mapping[str, str], connector: Connector, bench: SimulatedBench
    ) -> Live:
        """Put the simulated unit's ports where the testbed file names the real ones."""
        table = with_resources({"instruments": {self.name: {}}}, {self.name: dict(ports)})
        said = dict(table["instruments"][self.name])
        resource = ports["tcp"] if self.wire == "tcp" and "tcp" in ports else said["resource"]
        del said["resource"]
        options = self.config.instruments[self.name].options
        if self.wire != MEMORY:
            said["timeout_s"] = WIRE_TIMEOUT_S
        options = type(options).model_validate({**options.model_dump(), **said})
        return self._drive(resource, options, connector, bench)

    def _drive(
        self, resource: str, options: Options, connector: Connector, bench: SimulatedBench | None
    ) -> Live:
        driver = driver_entry(self.kind).build(self.name, resource, options, connector)
        return Live(self, driver, options, bench)


async def make_safe(driver: Instrument) -> None:
    """Make a real instrument safe, whether its driver is open or not."""
    await driver.open()
    await driver.make_safe()


@dataclass(frozen=True)
class Hasty:
    """The settings of a simulated unit, some of them quicker."""

    settings: Any
    quicker: Mapping[str, Any]

    def front_end(self, name: str, twin: Twin, record: Record) -> FrontEnd:
        """Build the unit with the quicker settings."""
        front_end: FrontEnd = replace(self.settings, **self.quicker).front_end(name, twin, record)
        return front_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self.settings, name)


def simulated(config: Testbed, name: str, *, is_hasty: bool = False) -> SimulatedBench:
    """Build a bench of one instrument on a link that stands still."""
    still = config.simulation.model_copy(update={"drift_rad_per_sqrt_s": 0.0})
    entry = config.instruments[name]
    alone: dict[str, Any] = {"instruments": {name: entry}, "simulation": still}
    if "Attenuator" in roles_of(driver_entry(entry.kind).driver):
        alone["light"] = config.light.model_copy(update={"attenuator": name})
    bench = build_bench(config.model_copy(update=alone), "contract", SEED)
    if not is_hasty:
        return bench
    (unit,) = bench.instruments
    quicker = replace(unit, settings=Hasty(unit.settings, all_manners()[entry.kind].hasty))
    return SimulatedBench([quicker], bench.twin.settings, seed=SEED)


@cache
def bench_of_all_kinds() -> Testbed:
    """The example's link with one instrument of every kind."""
    example = load_testbed(EXAMPLE)
    return example.model_copy(
        update={
            "instruments": {
                kind: _instrument(kind, manners.instrument)
                for kind, manners in all_manners().items()
            }
        }
    )


def _instrument(kind: str, said: Mapping[str, Any]) -> InstrumentConfig:
    options = {key: value for key, value in said.items() if key != "resource"}
    return InstrumentConfig(
        kind=kind,
        resource=said["resource"],
        options=driver_entry(kind).options.model_validate(options),
    )


@dataclass(frozen=True)
class Twins:
    """Which kinds have a simulated twin that this suite can run against."""

    config: Testbed

    def complaint(self, kind: str) -> str | None:
        """Say what is missing before a kind can be tested, or None."""
        if kind not in self.config.instruments:
            return f"contract_kinds does not say what the suite has to know of a {kind!r}"
        try:
            simulated(self.config, kind)
        except TestbedFileError as exc:
            return f"kind {kind!r} has no simulated twin: {exc}"
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench",
        type=Path,
        help="testbed file of real instruments: run what is safe on them, instead of simulated",
    )


def bench_file(config: pytest.Config) -> Path | None:
    # Not registered where pytest starts above this folder: then there is no real bench.
    path: Path | None = config.getoption("--bench", default=None)
    return path


ROLES: Mapping[str, type | None] = {
    "unit": None,
    "unit_in_memory": None,
    "setter": None,
    "setter_in_memory": None,
    "setter_that_listens": None,
    "attenuator": Attenuator,
    "shutter": Shutter,
    "controller": PolarizationController,
    "counter": PhotonCounter,
    "counter_in_memory": PhotonCounter,
    "source": StateSource,
    "streamer": TagStreamer,
    "tagger": TimeTagger,
    "tagger_in_memory": TimeTagger,
}
"""Fixtures that stand for a unit, and the role that its driver must fulfil."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", driver_kinds())
    for fixture in ROLES.keys() & set(metafunc.fixturenames):
        cells = [cell for cell in all_cells(bench_file(metafunc.config)) if fits(fixture, *cell)]
        ids = [f"{testbed.instruments[name].kind}-{wire}" for name, wire, testbed in cells]
        metafunc.parametrize(fixture, cells, indirect=True, ids=ids)


@cache
def all_cells(path: Path | None) -> list[tuple[str, str, Testbed]]:
    """Every instrument, real ones if a file is given, with every wire that it is tested over."""
    if path is not None:
        real = load_testbed(path)
        return [(name, REAL, real) for name in real.instruments]
    testbed = bench_of_all_kinds()
    twins = Twins(testbed)  # a kind without a twin fails a test of its own
    return [
        (kind, wire, testbed)
        for kind in driver_kinds()
        if not twins.complaint(kind)
        for wire in WIRES[testbed.instruments[kind].resource.partition(":")[0]]
    ]


def fits(fixture: str, name: str, wire: str, config: Testbed) -> bool:
    """Whether a fixture is offered for an instrument over a wire."""
    entry = config.instruments[name]
    driver = driver_entry(entry.kind).build(name, entry.resource, entry.options, Connector())
    if fixture.endswith("_in_memory") and wire != MEMORY:
        return False
    if fixture.endswith("_that_listens") and wire not in LISTENING:
        return False
    match fixture.removesuffix("_in_memory").removesuffix("_that_listens"):
        case "setter":
            return bool(Live(Unit(name, wire, config, Path()), driver, entry.options).outputs())
        case "source":
            return Live(Unit(name, wire, config, Path()), driver, entry.options).is_state_source
    role = ROLES[fixture]
    return role is None or isinstance(driver, role)


@pytest.fixture
def twins() -> Twins:
    return Twins(bench_of_all_kinds())


def _unit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    name, wire, config = request.param
    if wire == REAL and request.node.get_closest_marker("simulated_only"):
        pytest.skip("not on a real instrument")
    if wire != MEMORY:
        monkeypatch.setattr(service, "LATE_S", WIRE_LATE_S)
    return Unit(name, wire, config, tmp_path)


globals().update({name: pytest.fixture(name=name)(_unit) for name in ROLES})
