"""A daemon without a bench: real sockets and the real table of verbs, invented answers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import SettingError, TransportError
from qkdctl.control import ControlServer
from qkdctl.verbs import ErrorCode, OperationError

NOW_S = 1_800_000_000.0
QBER = {"value": 0.0123, "low": 0.011, "high": 0.0137}
HELD = {
    "expected_excess": 0.0002,
    "excess_q90": 0.0005,
    "limit_excess": 0.00015,
    "alarms": {"stray-light": "QBER 7.00% where 1.23% is usual"},
    "tracking": {
        "trackers": {"polarization": {"state": "frozen"}, "delay": {"state": "frozen"}},
        "disturbance": "stray light",
        "window_s": 0.2,
        "drift_rad": 0.003,
        "looked_at_share": 0.048,
        "dither_qber": 0.00005,
        "dither_scale": 1.0,
        "key_cost": 0.0485,
        "max_key_cost": 0.05,
    },
}
"""What a status says beside the rest while a link is held."""

UNKNOWN = {"value": None, "low": 0.0, "high": 1.0}


class FakeOperations:
    """Answers like a daemon; a test tells it when to go on, and reads what became of it."""

    def __init__(self) -> None:
        self.knob_value_v = 1.5
        self.state = {"state": "idle", "reason": "waiting"}
        self.held: dict[str, Any] = {}
        self.go_on = asyncio.Event()
        self.calibrating = asyncio.Event()
        self.restoring = asyncio.Event()
        self.restored = asyncio.Event()
        self.finish_restoring = asyncio.Event()
        self.finish_restoring.set()
        self.calibrated = asyncio.Event()
        self.subscribed = asyncio.Event()
        self.unsubscribed = asyncio.Event()
        self.happenings: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.stopped = asyncio.Event()
        self.outcome = "accepted"
        self.is_continued: bool | None = None
        self.stages: list[str] = []
        self.rows: dict[str, list[dict[str, Any]]] = {
            "windows": [window(NOW_S - 2), window(NOW_S - 1)],
            "trials": [
                {
                    "time_s": NOW_S - 60,
                    "study": "polarization",
                    "number": 3,
                    "state": "complete",
                    "value": 0.31,
                    "ended_s": NOW_S - 59,
                    "epc-1": 0.25,
                }
            ],
            "events": [
                {"time_s": NOW_S - 90, "kind": "state", "state": "idle", "reason": "started"},
                {"time_s": NOW_S - 9, "kind": "alarm", "name": "instrument", "text": "epc: gone"},
            ],
            "calibrations": [],
        }

    async def status(self) -> dict[str, Any]:
        return {
            "link": "alice-bob",
            **self.state,
            "since_s": NOW_S - 75,
            "now_s": NOW_S,
            "version": "0.1.0",
            "qber": QBER,
            "qber_z": QBER,
            "qber_x": UNKNOWN,
            "expected_excess": 0.0004,
            "detection_rate_hz": 1_012_345.0,
            "light_on": True,
            "last_run": None,
            "instruments": {
                "epc": {"ok": True, "error": None},
                "voa": {"ok": False, "error": "voa: no answer"},
            },
            "setting": {"epc-1": self.knob_value_v, "epc-2": None},
            "last_calibration": None,
            **self.held,
        }

    async def instruments(self) -> Sequence[dict[str, Any]]:
        return [
            {
                "name": "epc",
                "kind": "ozoptics-epc400",
                "resource": "serial:///dev/ttyUSB0",
                "identity": "OZ Optics EPC-400",
                "ok": True,
                "health": {"exchanges": 12, "errors": 1},
            }
        ]

    async def knobs(self) -> Sequence[dict[str, Any]]:
        limits = {"unit": "V", "minimum": -5.0, "maximum": 5.0, "instrument": "epc"}
        return [
            {"name": "epc-1", "value": self.knob_value_v, "channel": "1", **limits},
            {"name": "epc-2", "value": None, "channel": "2", **limits},
        ]

    async def knob_set(self, name: str, value: float) -> dict[str, Any]:
        if name == "bug":
            raise ZeroDivisionError("secret details")
        if name == "unplugged":
            raise TransportError(name, "no answer within 1 s", sent="V1 100")
        if abs(value) > 5:
            raise SettingError(name, f"{value:g} V is outside -5 to 5 V")
        self.knob_value_v = value
        return {"name": name, "value": value, "unit": "V"}

    async def safe(self) -> dict[str, Any]:
        self.state = {"state": "safe", "reason": "operator"}
        return self.state

    async def resume(self) -> dict[str, Any]:
        if self.state["state"] != "safe":
            raise OperationError(ErrorCode.REFUSED, "nothing to resume", "run a calibration")
        self.state = {"state": "idle", "reason": "operator"}
        return self.state

    async def pause(self, *, keeps_light: bool) -> dict[str, Any]:
        self.state = {"state": "paused", "reason": "light on" if keeps_light else "operator"}
        return self.state

    async def finish(self) -> dict[str, Any]:
        return {"state": "calibrating", "reason": "finishing"}

    async def calibrate(
        self, stages: Sequence[str], *, is_continued: bool
    ) -> AsyncIterator[dict[str, Any]]:
        self.stages, self.is_continued = list(stages), is_continued
        stage = stages[0] if stages else "polarization"
        told = {"stage": stage, "photons": 100, "settings": 1, "qber": QBER}
        try:
            yield {**told, "phase": "search", "expected_excess": None, "setting": {"epc-1": 0.5}}
            self.calibrating.set()
            await self.go_on.wait()
            yield {**told, "phase": "verify", "expected_excess": 0.0005, "setting": {}}
        except asyncio.CancelledError:
            self.restoring.set()
            await self.finish_restoring.wait()
            self.restored.set()
            raise
        self.calibrated.set()
        yield {
            "results": [
                {
                    "stage": stage,
                    "outcome": self.outcome,
                    "reason": "QBER went down" if self.outcome == "accepted" else "QBER went up",
                    "qber_before": {"value": 0.48, "low": 0.4, "high": 0.56},
                    "qber_after": QBER,
                    "predicted_qber": 0.0121,
                    "expected_excess": 0.0005,
                    "excess_q90": 0.0012,
                    "excess_bound": 0.00025,
                    "photons": 3456,
                    "settings": 9,
                    "duration_s": 75.0,
                    "setting": {"epc-1": 0.5},
                }
            ]
        }

    async def history(self, kind: str, limit: int, since_s: float) -> dict[str, Any]:
        rows = [row for row in self.rows[kind] if row["time_s"] >= since_s]
        return {"rows": rows[-limit:]}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        self.subscribed.set()
        try:
            while True:
                yield await self.happenings.get()
        finally:
            self.unsubscribed.set()

    async def stop(self) -> dict[str, Any]:
        state = await self.safe()
        self.stopped.set()
        return state


def window(time_s: float) -> dict[str, Any]:
    return {
        "time_s": time_s,
        "start_s": time_s,
        "duration_s": 0.2,
        "photons": 200_000,
        "qber": QBER,
        "qber_z": QBER,
        "qber_x": {"value": 0.02, "low": 0.01, "high": 0.03},
        "flags": ["saturated"],
    }


class FakeDaemon:
    """The fake operations behind a real control server, on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "FakeDaemon":
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.operations.stopped.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def do(self, action: Any, *arguments: Any) -> None:
        """Run something on the daemon's event loop."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action, *arguments)

    def wait_for(self, event: asyncio.Event) -> None:
        """Wait until something has happened in the daemon."""

        async def wait() -> None:
            async with asyncio.timeout(10):
                await event.wait()

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.operations = FakeOperations()
        server = ControlServer(self.path, self.operations)
        server.claim()
        self._started.set()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            await self.operations.stopped.wait()
            serving.cancel()
        server.release()


@pytest.fixture
def operations() -> FakeOperations:
    return FakeOperations()


@pytest.fixture
def fake_daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "alice-bob.sock") as daemon:
        yield daemon


@pytest.fixture
def held() -> dict[str, Any]:
    """What a status says beside the rest while a link is held."""
    return HELD
