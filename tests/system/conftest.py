"""A simulated bench and a daemon, each a process of its own, as an operator would run them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qkdctl.client import DaemonClient, NotReachedError
from qkdctl.simulate import ask_bench

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"
PATIENCE_S = 60.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until ``condition`` gives something true, and return that."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if outcome := condition():
            return outcome
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")


@dataclass
class Laboratory:
    """The bench, and whichever daemon runs at the moment."""

    directory: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def testbed(self) -> Path:
        return self.directory / "testbed.toml"

    @property
    def socket(self) -> Path:
        return self.directory / "daemon.sock"

    def serve(self, testbed: Path = EXAMPLE, seed: int = 3) -> None:
        """Start the simulated bench."""
        control = self.directory / "bench.sock"
        process = self._start(
            "bench", "simulate", testbed, "--seed", str(seed), "--write", self.testbed, "--control",
            control,
        )  # fmt: skip
        wait_until(lambda: self.testbed.exists() and control.exists(), "the bench serves")
        assert process.poll() is None

    def start_daemon(
        self, *options: str | Path, testbed: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a daemon and wait until it has opened the bench."""
        here = ("--socket", self.socket, "--state-dir", self.directory)
        process = self._start("daemon", "daemon", testbed or self.testbed, *here, *options)

        def has_started() -> bool:
            assert process.poll() is None, self.log("daemon")
            if not self.socket.exists():
                return False
            try:
                with DaemonClient(self.socket, timeout_s=PATIENCE_S) as client:
                    return bool(client.call("status")["state"] != "starting")
            except NotReachedError:
                return False

        wait_until(has_started, "the daemon has opened the bench")
        return process

    def client(self) -> DaemonClient:
        return DaemonClient(self.socket, timeout_s=PATIENCE_S)

    def status(self) -> dict[str, Any]:
        with self.client() as client:
            status: dict[str, Any] = client.call("status")
            return status

    def wait_for_state(self, *states: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            status = self.status()
            return status if status["state"] in states else None

        status: dict[str, Any] = wait_until(found, f"state {' or '.join(states)}")
        return status

    def truth(self) -> dict[str, Any]:
        return ask_bench(self.directory / "bench.sock", {"do": "truth"})

    def fault(self, instrument: str, kind: str) -> None:
        request = {"do": "fault", "instrument": instrument, "kind": kind}
        ask_bench(self.directory / "bench.sock", request)

    def told(self, since: int = 0) -> list[dict[str, Any]]:
        """Return what the instruments were told."""
        answer = ask_bench(self.directory / "bench.sock", {"do": "record", "since": since})
        entries: list[dict[str, Any]] = answer["entries"]
        return entries

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, *arguments: str | Path) -> "subprocess.Popen[bytes]":
        with (self.directory / f"{name}.log").open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "qkdctl", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        self.processes.append(process)
        return process


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory(tmp_path)
    yield laboratory
    for process in reversed(laboratory.processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()
