"""What must survive: one SQLite file with trials, settings, windows, events and runs."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import STATES
from calibration.inversion import BASES, NOTHING, Inverted
from calibration.trials import PastTrial

T = TypeVar("T")

CLEAN = "stopped"
"""Ending of a run that somebody asked to stop."""

KEEP_WINDOWS = 200_000
KEEP_EVENTS = 100_000
KEEP_TRIALS = 100_000
KEEP_SETTINGS = 10_000
KEEP_STUDIES = 10_000
KEEP_LEARNT = 1000
PRUNE_EVERY = 1000
"""Retention: the newest rows kept of each table, and how many inserts lie between two clean-ups."""

INVERTED = "receiver.inverted."
"""Key, followed by the basis, of an inverted basis beside the knobs of a good setting: in the same
row, so that no crash can part the two. Versions that do not know it do not restore such a setting.
"""

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, started_s REAL NOT NULL, ended_s REAL, ending TEXT);
CREATE TABLE IF NOT EXISTS trials (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL,
    params TEXT NOT NULL, value REAL, clicks TEXT, started_s REAL NOT NULL, ended_s REAL,
    UNIQUE (study, number));
CREATE TABLE IF NOT EXISTS settings (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, setting TEXT NOT NULL, posterior TEXT);
CREATE TABLE IF NOT EXISTS calibrated (
    stage TEXT PRIMARY KEY, time_s REAL NOT NULL, setting TEXT NOT NULL, figure REAL);
CREATE TABLE IF NOT EXISTS studies (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stage TEXT NOT NULL, outcome TEXT);
CREATE TABLE IF NOT EXISTS learnt (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, stage TEXT NOT NULL, posterior TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS windows (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
"""


class HistoryError(Exception):
    """The history file cannot be used; the text names the file and the cure."""


@dataclass(frozen=True)
class GoodSetting:
    """A setting that a fresh measurement confirmed.

    Attributes:
        time_s: When, seconds since the epoch.
        setting: Knob values.
        posterior: What the estimator knew, as the stage wrote it, or None.
        inverted: Bases whose bits were inverted.
    """

    time_s: float
    setting: Mapping[str, float]
    posterior: Mapping[str, Any] | None
    inverted: Inverted = NOTHING


@dataclass(frozen=True)
class Calibrated:
    """What a stage left in force when it was run last.

    Attributes:
        time_s: When, seconds since the epoch.
        setting: Values by knob or by key of the testbed file.
        figure: Its figure then, by a fresh measurement, or None.
    """

    time_s: float
    setting: Mapping[str, float]
    figure: float | None


@dataclass(frozen=True)
class LastRun:
    """How the previous run ended, and what it was doing.

    Attributes:
        started_s: When it began, seconds since the epoch.
        is_clean: Whether it was stopped; not killed, not ended by an error.
        ending: What ended it, where that is known.
        state: Its last state, or None if it never had one.
        state_reason: Why it was in that state.
        state_since_s: Since when.
        intent: ``track`` or ``rest``.
        interrupted_trials: Trials that were running.
        interrupted_study: Study of a calibration that was cut short and the time
            of its latest trial, or None.
    """

    started_s: float
    is_clean: bool
    ending: str | None
    state: str | None
    state_reason: str | None
    state_since_s: float | None
    intent: str | None
    interrupted_trials: int
    interrupted_study: tuple[str, float] | None


class History:
    """The daemon's record; every call runs on one thread of its own, every write is durable."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        """Args: path of the file (made where missing); ``now`` tells seconds since the epoch."""
        self._path = path
        self._now = now
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._inserts = 0
        self._run_id: int | None = None

    async def open(self) -> LastRun | None:
        """Open the file, end what a crash left open, start a run; return the previous run."""
        return await self._call(self._open)

    async def close(self, ending: str = CLEAN) -> None:
        """Mark the run as ended, cleanly or by an error that ``ending`` names; close the file."""
        await self._call(self._close, ending)
        self._thread.shutdown(wait=False)

    def now_s(self) -> float:
        """Tell the time, seconds since the epoch."""
        return self._now()

    async def begin(self, study: str, number: int, params: Mapping[str, float]) -> None:
        """Record a trial before anything is done for it."""
        await self._write(
            "INSERT INTO trials (study, number, state, params, started_s) VALUES (?,?,?,?,?)",
            (study, number, "running", json.dumps(dict(params)), self._now()),
        )

    async def finish(
        self,
        study: str,
        number: int,
        state: Literal["complete", "failed"],
        value: float | None,
        clicks: NDArray[np.int64] | None,
    ) -> None:
        """Record how a trial ended, before the study is told."""
        table = None if clicks is None else json.dumps(clicks.tolist())
        await self._write(
            "UPDATE trials SET state=?, value=?, clicks=?, ended_s=? WHERE study=? AND number=?",
            (state, value, table, self._now(), study, number),
        )

    async def past(self, study: str) -> list[PastTrial]:
        """Return the ended trials of a study, in order."""
        rows = await self._read(
            "SELECT number, state, params, value, clicks, ended_s FROM trials "
            "WHERE study=? AND state != 'running' ORDER BY number",
            (study,),
        )
        return [
            PastTrial(
                number=row["number"],
                state=row["state"],
                params=json.loads(row["params"]),
                value=row["value"],
                clicks=_table(row["clicks"]),
                time_s=row["ended_s"],
            )
            for row in rows
        ]

    async def begin_study(self, study: str, stage: str) -> None:
        """Record that a stage begins a study, or goes on with one."""
        await self._write(
            "INSERT INTO studies (name, stage) VALUES (?,?) "
            "ON CONFLICT (name) DO UPDATE SET outcome=NULL",
            (study, stage),
        )

    async def end_study(self, study: str, outcome: str) -> None:
        """Record how a stage ended a study."""
        await self._write("UPDATE studies SET outcome=? WHERE name=?", (outcome, study))

    async def unfinished_study(self, stage: str) -> str | None:
        """Return the newest study of a stage that was cancelled, cut short or failed.

        Only studies with counts, and newer than the last one that ended well, are of use.
        """
        rows = await self._read(
            "SELECT name FROM studies WHERE stage=? AND IFNULL(outcome, '') NOT IN "
            "('accepted', 'rolled-back') AND id > (SELECT IFNULL(MAX(id), 0) FROM studies "
            "WHERE stage=? AND outcome='accepted') AND EXISTS (SELECT 1 FROM trials "
            "WHERE study=name AND trials.state='complete') ORDER BY id DESC LIMIT 1",
            (stage, stage),
        )
        return str(rows[0]["name"]) if rows else None

    async def add_good_setting(
        self,
        setting: Mapping[str, float],
        posterior: Mapping[str, Any] | None,
        inverted: Inverted = NOTHING,
    ) -> None:
        """Record a confirmed setting, and the bases inverted with it: what to go back to."""
        kept = {**setting, **{INVERTED + basis: 1.0 for basis in inverted}}
        await self._write(
            "INSERT INTO settings (time_s, setting, posterior) VALUES (?,?,?)",
            (
                self._now(),
                json.dumps(kept),
                None if posterior is None else json.dumps(dict(posterior)),
            ),
        )

    async def last_good_setting(self) -> GoodSetting | None:
        """Return the newest confirmed setting."""
        rows = await self._read("SELECT * FROM settings ORDER BY id DESC LIMIT 1", ())
        if not rows:
            return None
        row = rows[0]
        posterior = None if row["posterior"] is None else json.loads(row["posterior"])
        kept = json.loads(row["setting"])
        inverted = tuple(basis for basis in BASES if kept.pop(INVERTED + basis, 0.0))
        return GoodSetting(row["time_s"], kept, posterior, inverted)

    async def add_learnt(self, stage: str, posterior: Mapping[str, Any]) -> None:
        """Record what an accepted calibration learnt; unlike settings, once per calibration."""
        await self._write(
            "INSERT INTO learnt (time_s, stage, posterior) VALUES (?,?,?)",
            (self._now(), stage, json.dumps(dict(posterior))),
        )

    async def learnt(self, stage: str, limit: int) -> list[dict[str, Any]]:
        """Return what the newest accepted calibrations of a stage learnt, oldest first."""
        rows = await self._read(
            "SELECT posterior FROM learnt WHERE stage=? ORDER BY id DESC LIMIT ?", (stage, limit)
        )
        return [json.loads(row["posterior"]) for row in reversed(rows)]

    async def keep_calibrated(
        self, stage: str, setting: Mapping[str, float], figure: float | None
    ) -> None:
        """Record what a stage left in force; it replaces what the stage left before."""
        await self._write(
            "INSERT OR REPLACE INTO calibrated (stage, time_s, setting, figure) VALUES (?,?,?,?)",
            (stage, self._now(), json.dumps(dict(setting)), figure),
        )

    async def calibrated(self) -> dict[str, Calibrated]:
        """Return what each stage left in force when it was run last."""
        rows = await self._read("SELECT * FROM calibrated", ())
        return {
            row["stage"]: Calibrated(row["time_s"], json.loads(row["setting"]), row["figure"])
            for row in rows
        }

    async def add_window(self, time_s: float, data: Mapping[str, Any]) -> None:
        """Record one measurement window."""
        await self._write(
            "INSERT INTO windows (time_s, data) VALUES (?,?)", (time_s, json.dumps(data))
        )

    async def add_event(self, time_s: float, kind: str, data: Mapping[str, Any]) -> None:
        """Record one event."""
        await self._write(
            "INSERT INTO events (time_s, kind, data) VALUES (?,?,?)",
            (time_s, kind, json.dumps(data)),
        )

    async def rows(self, kind: str, limit: int, since_s: float) -> list[dict[str, Any]]:
        """Return the newest ``limit`` rows since a time, oldest first.

        Args:
            kind: ``windows``, ``events``, ``trials`` or ``calibrations``.
            limit: Largest number of rows.
            since_s: Earliest time, seconds since the epoch.
        """
        query = {
            "windows": "SELECT time_s, data FROM windows WHERE time_s >= ?",
            "events": "SELECT time_s, kind, data FROM events WHERE time_s >= ?",
            "calibrations": (
                "SELECT time_s, kind, data FROM events WHERE time_s >= ? AND kind = 'calibration'"
            ),
            "trials": (
                "SELECT started_s AS time_s, study, number, state, params, value, ended_s "
                "FROM trials WHERE started_s >= ?"
            ),
        }[kind]
        found = await self._read(f"{query} ORDER BY id DESC LIMIT ?", (since_s, limit))
        return [_flat(row) for row in reversed(found)]

    async def _write(self, statement: str, values: Sequence[Any]) -> None:
        await self._call(self._execute, statement, values)

    async def _read(self, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        return await self._call(self._select, statement, values)

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, function, *arguments)
        except sqlite3.Error as exc:
            raise HistoryError(
                f"history file {self._path}: {exc}; check free space and permissions, or move "
                "the file away to begin a new one"
            ) from exc

    def _open(self) -> LastRun | None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self._path, check_same_thread=False, timeout=5)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        with self._db:
            self._db.executescript(SCHEMA)
        last = self._last_run()
        with self._db:
            self._db.execute(
                "UPDATE trials SET state='failed', ended_s=? WHERE state='running'", (self._now(),)
            )
            self._db.execute(
                "UPDATE runs SET ended_s=?, ending='crashed' WHERE ended_s IS NULL", (self._now(),)
            )
            cursor = self._db.execute("INSERT INTO runs (started_s) VALUES (?)", (self._now(),))
        self._run_id = cursor.lastrowid
        return last

    def _last_run(self) -> LastRun | None:
        runs = self._select("SELECT * FROM runs ORDER BY id DESC LIMIT 1", ())
        if not runs:
            return None
        states = self._select(
            "SELECT time_s, data FROM events WHERE kind='state' ORDER BY id DESC LIMIT 1", ()
        )
        state = json.loads(states[0]["data"]) if states else {}
        running = self._select("SELECT COUNT(*) AS n FROM trials WHERE state='running'", ())
        newest = self._select("SELECT study, started_s FROM trials ORDER BY id DESC LIMIT 1", ())
        is_interrupted = newest and state.get("state") in {"calibrating", "paused"}
        return LastRun(
            started_s=runs[0]["started_s"],
            is_clean=runs[0]["ending"] == CLEAN,
            ending=runs[0]["ending"],
            state=state.get("state"),
            state_reason=state.get("reason"),
            state_since_s=states[0]["time_s"] if states else None,
            intent=state.get("intent"),
            interrupted_trials=running[0]["n"],
            interrupted_study=tuple(newest[0]) if is_interrupted else None,
        )

    def _close(self, ending: str) -> None:
        with self._db:
            self._db.execute(
                "UPDATE runs SET ended_s=?, ending=? WHERE id=?",
                (self._now(), ending, self._run_id),
            )
        self._db.close()

    def _execute(self, statement: str, values: Sequence[Any]) -> None:
        with self._db:
            self._db.execute(statement, values)
        self._inserts += 1
        if self._inserts % PRUNE_EVERY == 0:
            self._prune()

    def _prune(self) -> None:
        with self._db:
            for table, keep in (
                ("windows", KEEP_WINDOWS),
                ("events", KEEP_EVENTS),
                ("trials", KEEP_TRIALS),
                ("settings", KEEP_SETTINGS),
                ("studies", KEEP_STUDIES),
                ("learnt", KEEP_LEARNT),
            ):
                self._db.execute(
                    f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?",  # noqa: S608
                    (keep,),
                )

    def _select(self, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        return self._db.execute(statement, values).fetchall()


def _table(text: str | None) -> NDArray[np.int64] | None:
    if text is None:
        return None
    return np.array(json.loads(text), dtype=np.int64).reshape(len(STATES), len(STATES))


def _flat(row: sqlite3.Row) -> dict[str, Any]:
    """Lay a row's JSON data beside its columns."""
    flat = dict(row)
    for column in ("data", "params"):
        if column in flat:
            flat |= json.loads(flat.pop(column))
    return flat
