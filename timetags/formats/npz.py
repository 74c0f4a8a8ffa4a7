"""NumPy archive: arrays ``channel`` (int16) and ``time_ps`` (int64), and ``metadata`` (JSON text).

Both arrays are read and written piece by piece, whatever their size. The directory of an archive is
at its end: of a file that is cut short nothing can be read.
"""

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from timetags.block import TagBlock
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.records import BLOCK_RECORDS

CHANNEL, TIME, METADATA = "channel.npy", "time_ps.npy", "metadata.npy"
UNREADABLE = "the arrays end here: the archive is damaged"

_ZIP = b"PK\x03\x04"
_COPY_BYTES = 1 << 20


def _recognise(head: bytes) -> Likeness:
    return Likeness.CERTAIN if head.startswith(_ZIP) and b".npy" in head[:128] else Likeness.NO


def _read(source: Source) -> Iterator[TagBlock]:
    try:
        archive = zipfile.ZipFile(source.file)
    except zipfile.BadZipFile as exc:
        remedy = "its directory is at its end, so it is cut short: copy it again"
        raise source.error(f"this is no whole NumPy archive ({exc})", remedy=remedy) from exc
    with archive:
        missing = {CHANNEL, TIME} - set(archive.namelist())
        if missing:
            raise source.error(
                f"the archive has no array {' and no '.join(sorted(missing))}",
                remedy="save it with numpy.savez(path, channel=..., time_ps=...)",
            )
        if METADATA in archive.namelist():
            source.metadata |= _metadata(source, archive)
        with archive.open(CHANNEL) as channels, archive.open(TIME) as times:
            channel, time = _Array(source, channels, CHANNEL), _Array(source, times, TIME)
            if channel.left != time.left:
                raise source.error(
                    f"the arrays are of different length: {channel.left} channels, "
                    f"{time.left} times"
                )
            yield from _blocks(source, channel, time)


class _Array:
    """One array of the archive, read from its start to its end."""

    def __init__(self, source: Source, file: IO[bytes], name: str) -> None:
        self._file = file
        try:
            version = npy.read_magic(file)
            read_header = (
                npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            )
            shape, _, self._dtype = read_header(file)
        except (ValueError, zipfile.BadZipFile, zlib.error) as exc:
            raise source.error(f"{name} is no array: {exc}") from exc
        if len(shape) != 1 or self._dtype.kind not in "iu":
            raise source.error(
                f"{name} is not one-dimensional whole numbers: {shape} {self._dtype}"
            )
        self.left: int = shape[0]

    def read(self, count: int) -> "np.ndarray[Any, np.dtype[Any]]":
        count = min(count, self.left)
        data = self._file.read(count * self._dtype.itemsize)
        values = np.frombuffer(
            data[: len(data) // self._dtype.itemsize * self._dtype.itemsize], self._dtype
        )
        self.left -= count
        return values


def _blocks(source: Source, channel: _Array, time: _Array) -> Iterator[TagBlock]:
    while time.left:
        left = time.left
        try:
            channels, times = channel.read(BLOCK_RECORDS), time.read(BLOCK_RECORDS)
        except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
            source.damage.add(source.file.tell(), left, f"{UNREADABLE} ({exc})", length=0)
            return
        count = min(channels.size, times.size)
        yield TagBlock(
            channels[:count].astype(np.int16), times[:count].astype(np.int64, copy=False)
        )
        if count < min(left, BLOCK_RECORDS):
            source.damage.add(source.file.tell(), left - count, UNREADABLE, length=0)
            return


def _metadata(source: Source, archive: zipfile.ZipFile) -> dict[str, str | int | float]:
    """What the archive says about itself; text that is no JSON object is kept as it is."""
    try:
        with archive.open(METADATA) as file:
            array = npy.read_array(file, allow_pickle=False)
    except (ValueError, zipfile.BadZipFile, zlib.error) as exc:
        source.damage.add(0, 0, f"the metadata cannot be read ({exc})", length=0)
        return {}
    text = str(array)
    try:
        said = json.loads(text)
    except ValueError:
        return {"metadata": text}
    return said if isinstance(said, dict) else {"metadata": text}


class _Sink:
    """Keeps the arrays in two temporary files until their length is known."""

    def __init__(self, target: Target) -> None:
        self._target = target
        folder = target.path.parent
        self._channels = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 # until finish
        self._times = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 # until finish
        self._count = 0

    def write(self, block: TagBlock) -> None:
        self._channels.write(block.channel.astype("<i2", copy=False).tobytes())
        self._times.write(block.time_ps.astype("<i8", copy=False).tobytes())
        self._count += block.time_ps.size

    def finish(self) -> None:
        with zipfile.ZipFile(self._target.file, "w", zipfile.ZIP_STORED) as archive:
            self._copy(archive, CHANNEL, "<i2", self._channels)
            self._copy(archive, TIME, "<i8", self._times)
            if self._target.metadata:
                with archive.open(METADATA, "w") as file:
                    npy.write_array(file, np.array(json.dumps(self._target.metadata)))

    def _copy(self, archive: zipfile.ZipFile, name: str, dtype: str, data: IO[bytes]) -> None:
        data.seek(0)
        with data, archive.open(name, "w", force_zip64=True) as file:
            header = {"descr": dtype, "fortran_order": False, "shape": (self._count,)}
            npy.write_array_header_1_0(file, header)
            while piece := data.read(_COPY_BYTES):
                file.write(piece)


FORMATS = (
    TagFormat("npz", "NumPy archive of channel and time_ps", (".npz",), _recognise, _read, _Sink),
)
