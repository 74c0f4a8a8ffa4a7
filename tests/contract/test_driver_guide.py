"""The guide for driver authors is true: its code runs, and its example keeps the rules."""

import re
import sys
import tomllib
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType

import pytest

from drivers import registry
from drivers.roles import Instrument
from drivers.transport.connect import Connector
from sim import virtual_time

GUIDE = Path(__file__).parents[2] / "docs" / "drivers.md"
KIND = "example-vs2"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def guide(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The guide's Python as one module; its driver is registered for one test only."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    module = ModuleType("driver_guide")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module)["pytest"] = pytest
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"{GUIDE.name}, block {number}", "exec"), vars(module))  # noqa: S102
    return module


def test_the_tests_in_the_guide_pass(guide: ModuleType) -> None:
    tests = [each for name, each in vars(guide).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        assert iscoroutinefunction(test)
        virtual_time.run(test())


def test_the_example_in_the_guide_is_a_driver(guide: ModuleType) -> None:
    entry = registry.driver_entry(KIND)
    driver = entry.build("bias", "tcp://192.0.2.1:5000", entry.options(), Connector())
    assert isinstance(driver, Instrument)
    assert entry.summary == "Example Instruments VS2 two-channel voltage source."


def test_the_guide_names_the_group_that_the_registry_reads() -> None:
    (toml,) = blocks("toml")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    assert set(groups) == {registry.ENTRY_POINT_GROUP}
    assert KIND in groups[registry.ENTRY_POINT_GROUP]
