"""``qkdctl tags`` on files that it is given."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from drivers.errors import TransportError
from drivers.roles import TagStreamer
from qkdctl.cli.main import main
from qkdctl.tag_recording import Recording, record
from timetags.block import TagBlock
from timetags.files import TagWriter, open_tags, write_tags
from timetags.formats.format import Conventions

SECOND_PS = 10**12


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["tags", *map(str, arguments)])


def found(*arguments: str | Path) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def poissonian(rng: np.random.Generator, rate_hz: float, duration_s: float) -> Any:
    return np.sort(rng.integers(0, round(duration_s * SECOND_PS), round(rate_hz * duration_s)))


def merged(times: dict[int, Any]) -> TagBlock:
    channel = np.concatenate([np.full(len(t), c, np.int16) for c, t in times.items()])
    time_ps = np.concatenate(list(times.values())).astype(np.int64)
    order = np.argsort(time_ps, kind="stable")
    return TagBlock(channel[order], time_ps[order])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two channels at 50 kHz, a fifth of them pairs, the second 12.5 ns later, for 2 s."""
    rng = np.random.default_rng(7)
    first = poissonian(rng, 50_000, 2)
    partners = first[rng.random(first.size) < 0.2] + 12_500
    jitter = np.rint(rng.normal(0, 100, partners.size)).astype(np.int64)
    second = np.concatenate([partners + jitter, poissonian(rng, 40_000, 2)])
    write_tags(tmp_path / "pairs.npz", [merged({1: first, 2: second})])
    return tmp_path / "pairs.npz"


def test_info_tells_channels_times_and_format(pairs: Path) -> None:
    [file] = found("info", pairs)["files"]
    assert file["format"] == "npz"
    assert file["channels"]["1"] == 100_000
    assert file["is_in_order"]
    assert file["duration_s"] == pytest.approx(2, rel=1e-3)
    assert file["damage"] == []


def test_info_tells_damage_and_reads_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("channel,time_ps\n1,10\n1,oops\n2,30\n")
    [file] = found("info", path)["files"]
    assert file["tags"] == 2
    assert [(place["offset"], place["count"]) for place in file["damage"]] == [(21, 1)]
    assert "DAMAGE" in run("info", path).stdout


def test_info_goes_on_after_a_file_that_cannot_be_read(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.ptu").touch()
    result = run("info", tmp_path / "empty.ptu", pairs)
    assert result.exit_code == 1
    assert "pairs.npz" in result.stdout
    assert f"error: {tmp_path}/empty.ptu: at byte 0: the file is empty" in result.stderr


def test_info_answers_at_once_on_five_gigabytes_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tags.bin"
    path.touch()
    os.truncate(path, 5 * 10**9)
    [file] = found("info", path)["files"]
    assert file["tags"] == 0
    assert file["damage"][0]["count"] == 5 * 10**9 // 8


def test_rates_come_for_each_channel_and_bin(pairs: Path, tmp_path: Path) -> None:
    report = found("rates", pairs, "--bin", "0.5s", "--plot", tmp_path / "rates.png")
    assert report["channels"][0]["rate_hz"] == pytest.approx(50_000, rel=0.01)
    assert len(report["channels"][0]["rates_hz"]) == 4
    assert (tmp_path / "rates.png").stat().st_size > 1000


def test_several_files_are_one_measurement(tmp_path: Path) -> None:
    ones = TagBlock(np.ones(100, np.int16), np.arange(100, dtype=np.int64) * 1000)
    for name in ("a.bin", "b.bin"):
        write_tags(tmp_path / name, [ones])
    report = found("rates", tmp_path / "a.bin", tmp_path / "b.bin")
    assert [(each["channel"], each["tags"]) for each in report["channels"]] == [(1, 100), (2, 100)]


@pytest.mark.parametrize(
    "what", [("--between", "1"), ("--start", "1", "--stop", "2"), ("--g2", "1,2")]
)
def test_histograms_have_their_bins(what: tuple[str, ...], pairs: Path, tmp_path: Path) -> None:
    arguments: tuple[str | Path, ...] = (
        "histogram",
        pairs,
        *what,
        "--bin",
        "1ns",
        "--range",
        "100ns",
    )
    report = found(*arguments, "--plot", tmp_path / "histogram.png")
    assert len(report["counts"]) == (201 if "--g2" in what else 100)
    assert (tmp_path / "histogram.png").exists()
    assert run(*arguments).exit_code == 0


def test_the_delay_within_one_file_is_found(pairs: Path, tmp_path: Path) -> None:
    report = found("coincidences", pairs, "--window", "1ns", "--plot", tmp_path / "pairs.png")
    assert report["delay_ps"] == pytest.approx(12_500, abs=20)
    assert report["true_pairs"] == pytest.approx(20_000, rel=0.05)
    assert (tmp_path / "pairs.png").exists()
    assert "visibility" in run("coincidences", pairs, "--delay", "12.5ns").stdout


def test_two_receivers_are_brought_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first = poissonian(rng, 100_000, 3)
    partners = first[rng.random(first.size) < 0.05]
    second = np.sort(np.concatenate([partners, poissonian(rng, 90_000, 3)]))
    second = second + 300_000_000_000 + np.rint(second * 1e-6).astype(np.int64)
    ones = np.ones(first.size, np.int16)
    write_tags(tmp_path / "alice.npz", [TagBlock(ones, first)])
    write_tags(tmp_path / "bob.npz", [TagBlock(np.full(second.size, 4, np.int16), second)])
    arguments = ("coincidences", tmp_path / "alice.npz", tmp_path / "bob.npz")
    options = ("--channels", "1,4", "--max-offset", "500ms", "--max-drift-ppm", "2")
    report = found(*arguments, *options)
    assert report["clock"]["drift_ppm"] == pytest.approx(1, abs=1e-3)
    assert report["true_pairs"] == pytest.approx(15_000, rel=0.05)


def test_a_channel_without_tags_is_named_with_those_that_have_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name in ("alice.npz", "bob.npz"):
        write_tags(tmp_path / name, [merged({1: poissonian(rng, 1000, 1)})])
    result = run("coincidences", tmp_path / "alice.npz", tmp_path / "bob.npz")
    assert result.exit_code == 1
    assert "bob.npz: channel 2 has no tags; channels with tags: 1" in result.stderr


def test_no_peak_is_no_coincidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    block = merged({1: poissonian(rng, 1000, 1), 2: poissonian(rng, 1000, 1)})
    write_tags(tmp_path / "tags.npz", [block])
    result = run("coincidences", tmp_path / "tags.npz")
    assert result.exit_code == 1
    assert "stands out of chance" in result.stderr


def test_a_pattern_folds_into_the_table(tmp_path: Path) -> None:
    slots = np.arange(4000, dtype=np.int64)
    detector = np.array([1, 3, 2, 4], np.int16)[slots % 4]
    write_tags(tmp_path / "tags.npz", [TagBlock(detector, slots * 10_000 + 5_000 + 700)])
    arguments = ("fold", tmp_path / "tags.npz", "--clock-hz", "1e8", "--pattern", "HDVA")
    delays = [word for channel in range(1, 5) for word in ("--delay", f"{channel}=0.7ns")]
    report = found(*arguments, *delays, "--plot", tmp_path / "fold.png")
    assert report["table"] == (1000 * np.eye(4)).tolist()
    assert "SENT" in run(*arguments).stdout


def test_convert_keeps_tags_and_says_where_they_come_from(pairs: Path, tmp_path: Path) -> None:
    target = tmp_path / "pairs.ptu"
    assert run("convert", pairs, target, "--channels", "2").exit_code == 0
    [file] = found("info", target)["files"]
    assert list(file["channels"]) == ["2"]
    assert "source: pairs.npz" in file["metadata"]["File_Comment"]


def test_convert_says_what_a_format_cannot_hold(pairs: Path, tmp_path: Path) -> None:
    result = run("convert", pairs, tmp_path / "pairs.bin")
    assert result.exit_code == 1
    assert "holds one input" in result.stderr
    assert not (tmp_path / "pairs.bin").exists()


def test_start_times_become_absolute_with_the_period(tmp_path: Path) -> None:
    times = TagBlock(np.ones(50, np.int16), np.arange(50, dtype=np.int64) * 7000)
    conventions = Conventions(reference_period_ps=12_500, has_index=True)
    write_tags(tmp_path / "tags.bin", [times], conventions=conventions)
    [file] = found("info", tmp_path / "tags.bin", "--reference-period", "12.5ns")["files"]
    assert file["last_ps"] == 49 * 7000


@pytest.mark.parametrize(
    "arguments",
    [
        ("histogram", "{}"),
        ("histogram", "{}", "--start", "1"),
        ("fold", "{}", "--slot", "1ns"),
        ("fold", "{}", "--slot", "1ns", "--pattern", "HX"),
        ("rates", "{}", "--bin", "1 parsec"),
        ("coincidences", "{}", "{}", "{}"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], pairs: Path) -> None:
    result = run(*(word.format(pairs) for word in arguments))
    assert result.exit_code == 2


class Streamer:
    """Streams a block now and then, until it fails or for ever."""

    name = "tagger"

    def __init__(self, blocks: int, failure: Exception | None = None) -> None:
        self._blocks = blocks
        self._failure = failure
        self.streaming = asyncio.Event()
        self.is_closed = False

    async def stream(self, duration_s: float, inputs: Sequence[int]) -> AsyncIterator[TagBlock]:
        for at in range(self._blocks):
            times = np.arange(10, dtype=np.int64) + 10 * at
            yield TagBlock(np.full(10, inputs[0], np.int16), times)
        self.streaming.set()
        if self._failure is not None:
            raise self._failure
        await asyncio.Event().wait()

    async def open(self) -> None: ...

    async def close(self) -> None:
        self.is_closed = True

    async def identify(self) -> None: ...

    async def make_safe(self) -> None: ...

    def health(self) -> None: ...

    def actuators(self) -> dict[str, Any]:
        return {}


def count(path: Path) -> int:
    with open_tags(path) as file:
        return sum(block.time_ps.size for block in file)


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".ptu", ".csv"])
async def test_ctrl_c_ends_the_file_well(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"live{suffix}"
    streamer, recording = Streamer(3), Recording(TagWriter(path))
    assert isinstance(streamer, TagStreamer)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(record(streamer, 60, (1,), recording))
        await streamer.streaming.wait()
        os.kill(os.getpid(), signal.SIGINT)
    assert recording.ended_by == "SIGINT"
    assert count(path) == 30
    assert streamer.is_closed


async def test_an_instrument_that_fails_leaves_what_was_recorded(tmp_path: Path) -> None:
    streamer = Streamer(2, TransportError("tagger", "link lost"))
    recording = Recording(TagWriter(tmp_path / "live.csv"))
    await record(streamer, 60, (1,), recording)  # type: ignore[arg-type] # a little of a driver
    assert recording.ended_by == "tagger: link lost"
    assert count(tmp_path / "live.csv") == 20


async def test_a_cancelled_recording_ends_the_file_and_is_cancelled(tmp_path: Path) -> None:
    streamer, recording = Streamer(2), Recording(TagWriter(tmp_path / "live.csv"))

    async def supervised() -> None:
        await record(streamer, 60, (1,), recording)  # type: ignore[arg-type] # a little of a driver

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(supervised())
        await streamer.streaming.wait()
        task.cancel()
    assert task.cancelled()
    assert count(tmp_path / "live.csv") == 20


def test_help_does_not_import_what_is_slow() -> None:
    code = """
        import sys
        from click.testing import CliRunner
        from qkdctl.cli.main import main
        assert CliRunner().invoke(main, ["tags", "--help"]).exit_code == 0
        print(sorted({"numpy", "pyarrow", "matplotlib"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
