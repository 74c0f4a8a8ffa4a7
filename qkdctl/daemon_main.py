"""``qkdctl daemon``: start one link's daemon, in the foreground, until it is told to stop."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from drivers.errors import InstrumentError
from drivers.transport.connect import Connector
from drivers.transport.trace import Trace
from qkdctl.check import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, build
from qkdctl.clock import epoch_clock
from qkdctl.config import TestbedFileError, load_testbed
from qkdctl.control import ControlServer
from qkdctl.control_socket import ControlSocketError
from qkdctl.daemon import Daemon, Serve
from qkdctl.events import EventBus
from qkdctl.feed_record import FeedRecord
from qkdctl.feed_socket import FeedServer
from qkdctl.history import History, HistoryError
from qkdctl.paths import UnsafeDirectoryError, feed_path, socket_path, state_directory
from qkdctl.simulate import serve_simulated
from qkdctl.testbed import OpenTestbed, UnsafeError

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.001
"""Longest time that a computing thread keeps the interpreter from the event loop."""


def run_daemon(
    path: Path,
    *,
    simulate: bool,
    seed: int | None,
    socket: Path | None,
    state_dir: Path | None,
    trace: Path | None,
) -> int:
    """Run the daemon of a testbed file until SIGTERM, SIGINT or the verb ``stop``.

    Args:
        path: Testbed file.
        simulate: Serve its instruments by the simulated bench, in the same process.
        seed: Seed of the simulated bench instead of the file's.
        socket: Control socket instead of the usual one.
        state_dir: Directory of the history file instead of the usual one.
        trace: Write every byte to and from the instruments to this file.

    Returns:
        Exit status: 0 stopped as asked, 1 failed, 2 mistakes in the testbed file.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        build(path, load_testbed(path), Connector())
        asyncio.run(_serve(path, simulate, seed, socket, state_dir, trace))
    except TestbedFileError as exc:
        for problem in exc.problems:
            sys.stderr.write(f"error: {problem}\n")
        return EXIT_USAGE
    except BaseExceptionGroup as group:
        expected, unexpected = group.split((HistoryError, OSError))
        if unexpected is not None or expected is None:
            raise
        sys.stderr.write(f"error: {_first(expected)}\n")
        return EXIT_FAILED
    except UnsafeError as exc:
        if exc.__context__ is not None:
            log.exception("what ended the daemon", exc_info=exc.__context__)
        sys.stderr.write(f"error: the bench is NOT known to be safe: {exc}\n")
        return EXIT_FAILED
    except (
        InstrumentError,
        HistoryError,
        ControlSocketError,
        UnsafeDirectoryError,
        OSError,
    ) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_FAILED
    return EXIT_DONE


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is not itself a group."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _serve(
    path: Path,
    simulate: bool,
    seed: int | None,
    socket: Path | None,
    state_dir: Path | None,
    trace: Path | None,
) -> None:
    now = epoch_clock(time.time())
    async with AsyncExitStack() as stack:
        config = load_testbed(path)
        if simulate:
            config = await stack.enter_async_context(serve_simulated(path, seed))
        connector = Connector(trace=await stack.enter_async_context(_trace(trace)))
        bus = EventBus()
        history = History((state_dir or state_directory()) / f"{config.link.name}.sqlite", now)
        bench = OpenTestbed(config, connector, now)
        daemon = Daemon(bench, history, bus, now)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.request_stop)
        control = ControlServer(socket or socket_path(config.link.name), daemon)
        control.claim()
        stack.callback(control.release)
        services = [("control", control.serve), *_feed(bench, control.path, stack)]
        await daemon.run(*services)


def _feed(bench: OpenTestbed, control: Path, stack: AsyncExitStack) -> list[tuple[str, Serve]]:
    """Make what the QKD stack posts to, if the link has it, and its record."""
    if bench.feed is None:
        return []
    config = bench.config.feed
    if config.record is not None:
        record = FeedRecord(config.record, config.record_megabytes, config.record_files)
        stack.callback(record.close)
        bench.feed.on_message = record.add
    server = FeedServer(config.socket or feed_path(control), bench.feed)
    return [("feed", server.serve)]


@asynccontextmanager
async def _trace(path: Path | None) -> AsyncIterator[Trace | None]:
    if path is None:
        yield None
        return
    with path.open("a", encoding="utf-8") as stream:
        yield Trace(stream)
