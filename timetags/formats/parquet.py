"""Our own form: Parquet with two columns, units and provenance.

Columns: ``channel`` (int16) and ``time_ps`` (int64, field metadata ``unit`` = ``ps``), written in
row groups of about a million tags, compressed, with check sums on every page. The file's metadata
has under ``timetags`` a JSON object: ``layout`` is the version of this description, ``time_unit``
is ``ps``, the rest is what is known of where the tags come from. It needs ``pyarrow`` (the extra
``tags``).

A row group that is damaged is left out and noted. The directory of a Parquet file is at its end: of
a file that is cut short nothing can be read.
"""

import json
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from timetags.block import TagBlock
from timetags.errors import TagFileError
from timetags.formats.format import Likeness, Metadata, Source, TagFormat, Target
from timetags.records import BLOCK_RECORDS

if TYPE_CHECKING:
    from pyarrow import parquet

LAYOUT = 1
KEY = b"timetags"
ROW_GROUP_TAGS = 1 << 20
MAGIC = b"PAR1"

_CUT = "its directory is at its end, so it is cut short: copy it again"


def _recognise(head: bytes) -> Likeness:
    return Likeness.CERTAIN if head.startswith(MAGIC) else Likeness.NO


def _pyarrow(error: TagFileError) -> tuple[ModuleType, ModuleType]:
    """Import what the format needs, only when it is used: it is an extra, and slow to import."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as exc:
        raise error from exc
    return arrow, parquet


def _read(source: Source) -> Iterator[TagBlock]:
    arrow, parquet = _pyarrow(source.error("Parquet needs pyarrow", remedy=_INSTALL))
    source.file.seek(0)
    try:
        file = parquet.ParquetFile(source.file, page_checksum_verification=True)
    except (arrow.ArrowException, OSError) as exc:
        raise source.error(
            f"this is no whole Parquet file ({_first_line(exc)})", remedy=_CUT
        ) from exc
    names = file.schema_arrow.names
    if "channel" not in names or "time_ps" not in names:
        raise source.error(
            f"the columns are {', '.join(names)}, and not channel and time_ps",
            remedy="name them so, times in whole picoseconds",
        )
    source.metadata |= _metadata((file.schema_arrow.metadata or {}).get(KEY, b""))
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        done = 0
        try:
            for batch in file.iter_batches(
                BLOCK_RECORDS, row_groups=[group], columns=["channel", "time_ps"], use_threads=False
            ):
                yield TagBlock(
                    _numbers(batch, "channel", np.int16), _numbers(batch, "time_ps", np.int64)
                )
                done += batch.num_rows
        except (arrow.ArrowException, OSError) as exc:
            problem = f"row group {group} cannot be read ({_first_line(exc)})"
            source.damage.add(
                _offset(about), about.num_rows - done, problem, length=about.total_byte_size
            )


def _offset(about: "parquet.RowGroupMetaData") -> int:
    column = about.column(0)
    return int(column.dictionary_page_offset or column.data_page_offset)


def _numbers(batch: Any, name: str, dtype: type[np.generic]) -> "np.ndarray[Any, Any]":
    column = batch.column(name)
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(dtype, copy=False)


def _metadata(text: bytes) -> Metadata:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _first_line(exc: BaseException) -> str:
    return str(exc).partition("\n")[0][:200]


_INSTALL = "install it with: pip install 'qkdctl[tags]'"


class _Sink:
    """Gathers tags into row groups."""

    def __init__(self, target: Target) -> None:
        error = target.error("Parquet needs pyarrow", _INSTALL)
        self._arrow, parquet = _pyarrow(error)
        said = {"layout": LAYOUT, "time_unit": "ps", **target.metadata}
        self._schema = self._arrow.schema(
            [
                self._arrow.field("channel", self._arrow.int16(), nullable=False),
                self._arrow.field(
                    "time_ps", self._arrow.int64(), nullable=False, metadata={"unit": "ps"}
                ),
            ],
            metadata={KEY: json.dumps(said)},
        )
        self._writer = parquet.ParquetWriter(
            target.file,
            self._schema,
            compression="zstd",
            use_dictionary=["channel"],
            column_encoding={"time_ps": "DELTA_BINARY_PACKED"},
            write_page_checksum=True,
        )
        self._waiting: list[TagBlock] = []
        self._count = 0

    def write(self, block: TagBlock) -> None:
        self._waiting.append(block)
        self._count += block.time_ps.size
        if self._count >= ROW_GROUP_TAGS:
            self._write_group()

    def finish(self) -> None:
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._count:
            columns = [
                np.concatenate([block.channel for block in self._waiting]),
                np.concatenate([block.time_ps for block in self._waiting]),
            ]
            table = self._arrow.table(columns, schema=self._schema)
            self._writer.write_table(table, row_group_size=ROW_GROUP_TAGS)
        self._waiting.clear()
        self._count = 0


FORMATS = (
    TagFormat(
        "parquet",
        "Parquet of channel and time_ps, with provenance",
        (".parquet",),
        _recognise,
        _read,
        _Sink,
    ),
)
