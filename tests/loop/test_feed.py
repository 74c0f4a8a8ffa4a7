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
from calibration.folding import Pattern, fold
from drivers.roles import TimeTags

FEED = Path(__file__).parents[2] / "examples" / "feed.toml"
EPOCH_S = 1.7e9
INPUTS = {"H": 1, "V": 2, "D": 3, "A": 4}
DELAYS_PS = {"H": 1200.0, "V": 1350.0, "D": 900.0, "A": 1100.0}
INTENSITIES = ("signal", "signal", "signal", "decoy", "vacuum")
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
        bench = self.laboratory.bench
        bench_s = begun_s - asyncio.get_running_loop().time() + bench.truth()["time_s"]
        tags = TimeTags(self.window_s, bench.twin.tags(bench_s, self.window_s))
        pattern = Pattern("HVDA", INTENSITIES, 1e8)
        return fold(tags, pattern, INPUTS, DELAYS_PS, 4000.0, begun_s).signal

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


async def mean_excess_pp(laboratory: Any, seconds: int = 120) -> float:
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
            seen["excess_pp"] = await mean_excess_pp(laboratory)
            seen["status"] = await laboratory.daemon.status()
            seen["windows"] = [e for e in laboratory.events[begun:] if e["kind"] == "window"]
            seen["refused"] = [answer["reason"] for answer in stack.answers if not answer["ok"]]

    run_laboratory(story, example=FEED, change=drifting)
    counts = seen["status"]["feed"]
    assert seen["status"]["state"] == "tracking"
    assert {window["source"] for window in seen["windows"]} == {"feed"}
    assert seen["excess_pp"] < 0.5
    assert counts["missing"] > 30
    assert counts["reordered"] > 30
    assert set(seen["refused"]) == {"duplicate"}
    assert counts["refused"]["duplicate"] == len(seen["refused"])
