"""Drivers by their ``kind``, our own and those that other distributions bring."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Literal, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from drivers.roles import Instrument
from drivers.transport.connect import Connector

ENTRY_POINT_GROUP = "qkdctl.drivers"


class Options(BaseModel):
    """What a driver lets the testbed file say about its instrument."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Build(Protocol):
    """Makes one driver from the testbed file's words; opens nothing."""

    def __call__(
        self, name: str, resource: str, options: Options, connector: Connector
    ) -> Instrument:
        """Make the driver of the instrument ``name`` at ``resource``."""
        ...


Certainty = Literal["high", "medium-high", "medium", "low", "not stated"]
"""How well the facts are founded that a driver was written from, short of a unit on the bench."""


@dataclass(frozen=True)
class DriverEntry:
    """One supported kind of instrument.

    Attributes:
        kind: Name in the testbed file.
        options: What the testbed file may say.
        build: Makes the driver.
        driver: The driver's class.
        summary: First line of the driver's docstring.
        certainty: ``high``: the vendor's manual or code, or two drivers that agree;
            ``medium-high``: one mature driver; ``medium``: one driver or excerpts.
        wires: Schemes of the resources that a real unit has.
    """

    kind: str
    options: type[Options]
    build: Build
    driver: type[Instrument]
    summary: str
    certainty: Certainty
    wires: tuple[str, ...]


_entries: dict[str, DriverEntry] = {}
_D = TypeVar("_D", bound=Instrument)


def register(
    kind: str,
    options: type[Options],
    certainty: Certainty = "not stated",
    wires: tuple[str, ...] = (),
) -> Callable[[type[_D]], type[_D]]:
    """Register a driver class under ``kind``.

    The class is built as ``cls(name, resource, options, connector)``.
    """

    def add(driver: type[_D]) -> type[_D]:
        summary = (driver.__doc__ or kind).strip().splitlines()[0]
        # A protocol says nothing of constructors; the contract tests build every driver so.
        build = cast(Build, driver)
        _entries[kind] = DriverEntry(kind, options, build, driver, summary, certainty, wires)
        return driver

    return add


def driver_entry(kind: str) -> DriverEntry:
    """Look up a driver, importing the module that registers it when first needed.

    Raises:
        KeyError: No installed distribution offers this kind; the text lists those on offer.
    """
    if kind not in _entries:
        for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
            point.load()
    if kind not in _entries:
        raise KeyError(f"no driver of kind {kind!r}; known kinds: {', '.join(driver_kinds())}")
    return _entries[kind]


def driver_kinds() -> list[str]:
    """Kinds on offer, sorted."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} | set(_entries))
