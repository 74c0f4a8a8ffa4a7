"""A link that is tracked by what its QKD stack posts, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calibration.clicks import Clicks

FEED = Path(__file__).parents[2] / "examples" / "feed.toml"
EPOCH_S = 1.7e9
LONGEST_S = 3600.0

Run = Callable[..., Any]


@dataclass
class Stack:
    """A QKD stack behind the twin's receiver: counts each window, posts it some time after its end.

    Attributes:
        laboratory: The daemon that it posts to, and the bench that it looks at.
        window_s: Length of its windows, s.
        delay_s: From the end of a window until it is posted, s.
        errors_only: Post error counts of Z and X instead of the whole table.
        disorder: Leave out every 7th window, post every 5th twice, and exchange some in pairs.
        clock_ahead_s: How far the stack's clock is ahead of the daemon's, s.
    """

    laboratory: Any
    window_s: float = 0.25
    delay_s: float = 0.4
    errors_only: bool = False
    disorder: bool = False
    clock_ahead_s: float = 0.0
    answers: list[dict[str, Any]] = field(default_factory=list)
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    is_silent: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Stack"]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run())
            yield self
            task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        held_back: bytes | None = None
        for number in range(round(LONGEST_S / self.window_s)):
            begun_s = start_s + number * self.window_s
            await asyncio.sleep(begun_s + self.window_s + self.delay_s - loop.time())
            if self.is_silent or (self.disorder and number % 7 == 3):
                continue
            line = self._line(number, begun_s)
            if self.disorder and number % 7 == 5:
                held_back = line
                continue
            self._post(line)
            if held_back is not None:
                self._post(held_back)
                held_back = None
            if self.disorder and number % 5 == 0:
                self._post(line)

    def _line(self, number: int, begun_s: float) -> bytes:
        at_s = EPOCH_S + begun_s + self.clock_ahead_s
        message: dict[str, Any] = {
            "version": 1,
            "sequence": number,
            "start_s": at_s,
            "duration_s": self.window_s,
            "posted_s": at_s + self.window_s + self.delay_s,
        }
        clicks = self._count(begun_s)
        if self.errors_only:
            message |= {"origin": "error-correction", "bases": errors_of(clicks)}
        else:
            message |= {"origin": "calibration", "counts": clicks.table.tolist()}
        return json.dumps(message).encode() + b"\n"

    def _count(self, begun_s: float) -> Clicks:
        """Draw the clicks in signal slots, with what was in force in the middle of the window."""
        twin = self.laboratory.bench.twin
        ago_s = asyncio.get_running_loop().time() - begun_s - self.window_s / 2
        expected = twin.receiver.clicks_per_slot(
            twin._light(self.laboratory.bench.truth()["time_s"] - ago_s)
        )
        periods = self.window_s * 1e12 / twin.sync_period_ps
        drawn = self.noise.poisson(expected * periods)
        source = twin.source.settings
        table = np.zeros((4, 4), dtype=np.int64)
        for slot, clicks in enumerate(drawn):
            if source.intensities[slot % len(source.intensities)] == "signal":
                table["HVDA".index(source.states[slot % len(source.states)])] += clicks
        return Clicks(table)

    def _post(self, line: bytes) -> None:
        self.answers.append(self.laboratory.feed.post(line))


def errors_of(clicks: Clicks) -> dict[str, dict[str, int]]:
    n, k = clicks.by_basis()
    return {basis: {"sifted": int(n[i, i]), "errors": int(k[i, i])} for i, basis in enumerate("ZX")}


def drifting(document: dict[str, Any]) -> None:
    """A tenth of the light, and a fibre that goes astray by some per cent in two minutes."""
    document["simulation"] |= {"loss_db": 25.0, "drift_rad_per_sqrt_s": 0.02}
    document["receiver"]["expected_rate_hz"] = 2e4
    document["tracking"]["drift_rad_per_sqrt_s"] = 0.02


async def mean_excess_pp(laboratory: Any, seconds: int) -> float:
    excess_pp = []
    for _ in range(seconds):
        await asyncio.sleep(1)
        excess_pp.append(laboratory.bench.truth()["excess_pp"])
    return float(np.mean(excess_pp))


def test_a_link_is_tracked_by_the_feed_alone_with_gaps_duplicates_and_disorder(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        async with Stack(laboratory, disorder=True).running() as stack:
            await laboratory.calibrate("polarization")
            begun = len(laboratory.events)
            seen["excess_pp"] = await mean_excess_pp(laboratory, 60)
            seen["status"] = await laboratory.daemon.status()
            seen["windows"] = [e for e in laboratory.events[begun:] if e["kind"] == "window"]
            seen["refused"] = [answer["reason"] for answer in stack.answers if not answer["ok"]]

    run_laboratory(story, example=FEED, change=drifting)
    counts = seen["status"]["feed"]
    assert seen["status"]["state"] == "tracking"
    assert {window["source"] for window in seen["windows"]} == {"feed"}
    assert seen["excess_pp"] < 0.4  # left alone, it would be some per cent
    assert counts["missing"] > 20
    assert counts["reordered"] > 20
    assert set(seen["refused"]) == {"duplicate"}
    assert counts["refused"]["duplicate"] == len(seen["refused"])


def test_error_counts_that_come_late_hold_a_link_and_their_silence_freezes_it(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        async with Stack(laboratory, errors_only=True, delay_s=2.0).running() as stack:
            await laboratory.calibrate("polarization")
            seen["excess_pp"] = await mean_excess_pp(laboratory, 40)
            stack.is_silent = True
            await asyncio.sleep(15)
            frozen = (await laboratory.daemon.status())["setting"]
            await asyncio.sleep(10)
            seen["is_frozen"] = frozen == (await laboratory.daemon.status())["setting"]
            stack.is_silent = False
            await asyncio.sleep(10)
            seen["excess_back_pp"] = await mean_excess_pp(laboratory, 10)
            seen["state"] = await laboratory.state()

    laboratory = run_laboratory(story, example=FEED, change=drifting)
    told = [event["reason"] for event in laboratory.events if event["kind"] == "feed"]
    stale = [event for event in laboratory.events if "stale" in event.get("flags", ())]
    assert seen["excess_pp"] < 0.6
    assert seen["is_frozen"]
    assert stale
    assert told == ["silent", "heard"]
    assert seen["excess_back_pp"] < 1
    assert seen["state"] == "tracking"


def test_a_link_without_a_tagger_is_aligned_by_the_feed(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        drifting(document)
        for key in ("calibrate_by", "tagger", "alice", "inputs", "delays_ps", "gate_ps"):
            del document["receiver"][key]
        del document["feed"]["alice_state"]
        del document["stages"]["delay"]
        del document["instruments"]["tagger"]

    async def story(laboratory: Any) -> None:
        async with Stack(laboratory).running():
            (seen["result"],) = (await laboratory.calibrate("polarization"))["results"]
            seen["excess_pp"] = await mean_excess_pp(laboratory, 5)

    run_laboratory(story, example=FEED, change=change)
    assert seen["result"]["outcome"] == "accepted", seen["result"]["reason"]
    assert seen["excess_pp"] < 0.5
