"""Live recording of time tags into a file, which ends well whatever ends the recording."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from drivers.errors import InstrumentError
from drivers.registry import driver_entry
from drivers.roles import TagStreamer, TimeTagger
from drivers.transport.connect import Connector
from qkdctl.config import Testbed
from timetags.block import TagBlock
from timetags.files import TagWriter

LONGEST_ACQUISITION_S = 1.0
"""A tagger that counts from START is read this often, which bounds the memory."""


class RecordingError(Exception):
    """There is nothing to record from; the text says why."""


@dataclass
class Recording:
    """What is being recorded.

    Attributes:
        writer: The file; it knows how many tags it has.
        ended_by: What ended the recording before its time, or None.
    """

    writer: TagWriter
    ended_by: str | None = None


def build_recorder(config: Testbed, name: str, connector: Connector) -> TagStreamer | TimeTagger:
    """Build one instrument of a testbed file; opens nothing.

    Raises:
        RecordingError: There is no such instrument, or it stamps no times.
    """
    entry = config.instruments.get(name)
    if entry is None:
        on_offer = ", ".join(config.instruments)
        raise RecordingError(f"there is no instrument {name!r}; the file has {on_offer}")
    try:
        instrument = driver_entry(entry.kind).build(name, entry.resource, entry.options, connector)
    except InstrumentError as exc:
        raise RecordingError(str(exc)) from exc
    if isinstance(instrument, TagStreamer | TimeTagger):
        return instrument
    raise RecordingError(f"{name} ({entry.kind}) does not stamp times")


def times_of(instrument: TagStreamer | TimeTagger) -> str:
    """What the times of an instrument count from, for the file's metadata."""
    if isinstance(instrument, TagStreamer):
        return "since the start of the stream"
    return "since the latest START event"


async def record(
    instrument: TagStreamer | TimeTagger,
    duration_s: float,
    inputs: Sequence[int],
    recording: Recording,
) -> None:
    """Record until the time is over, a signal comes or the instrument fails; then end the file.

    Args:
        instrument: Built and not yet open; it is closed afterwards.
        duration_s: How long, by the instrument's clock, s.
        inputs: Which inputs.
        recording: Where to; says afterwards what ended it.

    Raises:
        InstrumentError: The instrument could not be opened; there is no file then.
        TagFileError: The file cannot be written.
    """
    try:
        await instrument.open()
    except BaseException:
        recording.writer.discard()
        await instrument.close()
        raise
    try:
        await _record_until_told(instrument, duration_s, inputs, recording)
    except InstrumentError as exc:
        recording.ended_by = str(exc)
    finally:
        try:
            recording.writer.close()
        finally:
            await instrument.close()


async def _record_until_told(
    instrument: TagStreamer | TimeTagger,
    duration_s: float,
    inputs: Sequence[int],
    recording: Recording,
) -> None:
    """Record; SIGINT and SIGTERM end it as if the time were over."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        recording.ended_by = number.name
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        if isinstance(instrument, TagStreamer):
            await _record_stream(instrument, duration_s, inputs, recording.writer)
        else:
            await _record_acquisitions(instrument, duration_s, inputs, recording.writer)
    except asyncio.CancelledError:
        if recording.ended_by is None or task is None or task.uncancel() > 0:
            raise  # somebody else wants an end as well
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _record_stream(
    instrument: TagStreamer, duration_s: float, inputs: Sequence[int], writer: TagWriter
) -> None:
    async with aclosing(instrument.stream(duration_s, inputs)) as blocks:  # type: ignore[type-var] # drivers' streams are generators
        async for block in blocks:
            await _write(writer, block)


async def _record_acquisitions(
    instrument: TimeTagger, duration_s: float, inputs: Sequence[int], writer: TagWriter
) -> None:
    left_s = duration_s
    while left_s > 0:
        tags = await instrument.acquire(min(left_s, LONGEST_ACQUISITION_S), inputs)
        left_s -= max(tags.duration_s, min(left_s, LONGEST_ACQUISITION_S))
        for number, since_ps in sorted(tags.since_sync_ps.items()):
            block = TagBlock(
                np.full(since_ps.size, number, dtype=np.int16), since_ps.astype(np.int64)
            )
            await _write(writer, block)


async def _write(writer: TagWriter, block: TagBlock) -> None:
    written = asyncio.get_running_loop().run_in_executor(None, writer.write, block)
    try:
        await asyncio.shield(written)
    except asyncio.CancelledError:
        await written  # the file is not closed in the middle of a block
        raise


def run_recording(
    instrument: TagStreamer | TimeTagger,
    duration_s: float,
    inputs: Sequence[int],
    writer: TagWriter,
) -> Recording:
    """Record in an event loop of its own; see ``record``."""
    recording = Recording(writer)
    asyncio.run(record(instrument, duration_s, inputs, recording))
    return recording
