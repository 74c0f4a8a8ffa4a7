"""The whole daemon against a simulated bench in memory, on a clock that jumps."""

import asyncio
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from qkdctl.clock import epoch_clock
from qkdctl.config import parse_testbed
from qkdctl.daemon import Daemon
from qkdctl.events import EventBus
from qkdctl.feed_inbox import FeedInbox
from qkdctl.history import History
from qkdctl.simulate import build_bench, with_resources
from qkdctl.testbed import OpenTestbed
from sim import virtual_time
from sim.bench import SimulatedBench

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"
EPOCH_S = 1.7e9


@dataclass
class Laboratory:
    """A daemon, its bench, and everything that was published."""

    daemon: Daemon
    bench: SimulatedBench
    events: list[dict[str, Any]]
    feed: FeedInbox | None = None
    truth_at_end: dict[str, Any] = field(default_factory=dict)

    async def calibrate(self, *stages: str) -> dict[str, Any]:
        """Run stages and return the report."""
        messages = [message async for message in self.daemon.calibrate(stages)]
        return dict(messages[-1])

    async def wait_for(self, condition: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.1)

    async def state(self) -> str:
        return str((await self.daemon.status())["state"])


Story = Callable[[Laboratory], Awaitable[None]]
Run = Callable[..., Laboratory]


@pytest.fixture
def run_laboratory(tmp_path: Path) -> Run:
    """Run a story in virtual time: ``run_laboratory(story, seed=…, change=…)``."""

    def run(
        story: Story,
        *,
        seed: int = 5,
        change: Callable[[dict[str, Any]], None] = lambda document: None,
        state: str = "state",
        example: Path = EXAMPLE,
    ) -> Laboratory:
        document = tomllib.loads(example.read_text())
        change(document)
        return virtual_time.run(_live(document, seed, tmp_path / state, story))

    return run


async def _live(document: dict[str, Any], seed: int, state: Path, story: Story) -> Laboratory:
    bench = build_bench(parse_testbed(document, "example"), "example", seed)
    served = bench.in_memory(error=ChannelError)
    config = parse_testbed(with_resources(document, served.resources), "example")
    now, bus = epoch_clock(EPOCH_S), EventBus()
    opened = OpenTestbed(config, Connector(memory=served.channels), now)
    daemon = Daemon(opened, History(state / "lab1.sqlite", now), bus, now)
    laboratory = Laboratory(daemon, bench, [], opened.feed)

    async def listen() -> None:
        with bus.subscribe(capacity=100_000) as events:
            async for event in events:
                laboratory.events.append(event.as_dict())

    async def tell() -> None:
        while (await daemon.status())["state"] == "starting":
            await asyncio.sleep(0.1)
        try:
            await story(laboratory)
        finally:
            daemon.request_stop()
        await asyncio.get_running_loop().create_future()

    await daemon.run(("listener", listen), ("story", tell))
    laboratory.truth_at_end = bench.truth()
    return laboratory
