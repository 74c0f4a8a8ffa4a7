"""Drivers by their ``kind``, our own and those that other distributions bring."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, TypeVar, cast

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


@dataclass(frozen=True)
class DriverEntry:
    """One supported kind of instrument."""

    kind: str
    options: type[Options]
    build: Build
    summary: str


_entries: dict[str, DriverEntry] = {}
_D = TypeVar("_D", bound=Instrument)


def register(kind: str, options: type[Options]) -> Callable[[type[_D]], type[_D]]:
    """Register a driver class under ``kind``.

    The class is built as ``cls(name, resource, options, connector)``.
    """

    def add(driver: type[_D]) -> type[_D]:
        summary = (driver.__doc__ or kind).strip().splitlines()[0]
        # A protocol says nothing of constructors; the contract tests build every driver so.
        _entries[kind] = DriverEntry(kind, options, cast(Build, driver), summary)
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
