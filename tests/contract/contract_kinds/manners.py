"""The facts about a kind of instrument that its driver does not tell the contract suite."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Instead = bytes | Callable[[re.Match[bytes]], bytes]
"""What the unit hears in a command's place; a template or a function of the match, as in re."""


@dataclass(frozen=True)
class Manners:
    """What the suite has to know of a kind of instrument, beyond what its driver offers.

    Attributes:
        kind: Name in the testbed file.
        instrument: One such instrument as a testbed file would have it, the kind left out.
        impostor: Makes of a reply what another model would say.
        is_safe: Whether ``make_safe`` has done its work, from the outputs that the simulated unit
            really has and the driver's options.
        other: Commands that set an output (regular expressions), and others that it takes instead.
        refused: The same commands, and others that it refuses; empty: it has no way to refuse.
        meddling: What somebody at the front panel might do that ``make_safe`` must undo.
        shifts: What somebody there might do that has an output differ from what the unit shows.
        controls: What somebody there might do that has the unit move its output by itself.
        too_bright: What somebody there might do that lets more light through than the limits allow.
        preset: What makes it power up in another state than its driver needs.
        options: Options that have the driver set it up otherwise than it powers up.
        finds_again: What it is told to find it again after a lost link, beside being asked who it
            is (regular expression).
        gist: What stays of a message when the same is sent again: no running number, no checksum.
        echoes: Whether it may echo what it heard, which then must look like what was sent.
        is_set_up: Whether the driver sets anything up when it opens the link.
        set_up_s: What a measurement needs at most before it begins, s.
        overflow_hz: Full name of the constant of the simulated tagger that is the highest rate
            of which it loses no tag.
        hasty: Settings of the simulated unit that are quicker, for where time is real.
    """

    kind: str
    instrument: Mapping[str, Any]
    impostor: Callable[[bytes], bytes]
    is_safe: Callable[[Mapping[str, Any], Any], bool]
    other: Mapping[bytes, Instead] = field(default_factory=dict)
    refused: Mapping[bytes, Instead] = field(default_factory=dict)
    meddling: Sequence[bytes] = ()
    shifts: Sequence[bytes] = ()
    controls: Sequence[bytes] = ()
    too_bright: Sequence[bytes] = ()
    preset: Sequence[bytes] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    finds_again: bytes = rb"(?!)"
    gist: Callable[[bytes], bytes] = bytes
    echoes: bool = True
    is_set_up: bool = True
    set_up_s: float = 0.2
    overflow_hz: str = "sim.instruments.id900_recorder.OVERFLOW_HZ"
    hasty: Mapping[str, Any] = field(default_factory=dict)


def instead(right: bytes, wrong: bytes) -> Callable[[bytes], bytes]:
    """Return what replaces some bytes of a reply by others."""
    return lambda reply: reply.replace(right, wrong)


@cache
def all_manners() -> dict[str, Manners]:
    """Load what is known of every kind."""
    package = importlib.import_module("contract_kinds")
    modules = [
        importlib.import_module(f"contract_kinds.{each.name}")
        for each in pkgutil.iter_modules(package.__path__)
    ]
    known = [module.MANNERS for module in modules if hasattr(module, "MANNERS")]
    return {each.kind: each for each in known}
