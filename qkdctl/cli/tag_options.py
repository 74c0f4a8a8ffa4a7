"""Options that the commands on time tags share; nothing slow is imported here."""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

if TYPE_CHECKING:
    from qkdctl.tag_files import Input

PS_IN = {"ps": 1, "ns": 10**3, "us": 10**6, "µs": 10**6, "ms": 10**9, "s": 10**12}

P = ParamSpec("P")


class Duration(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.3
    """A time with its unit, such as ``1.5ns``; without unit in picoseconds. Exact."""

    name = "time"

    def __init__(self, *, is_signed: bool = False) -> None:
        self._is_signed = is_signed

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        """Turn the text into picoseconds."""
        if isinstance(value, Fraction):
            return value
        found = re.fullmatch(
            r"\s*([+-]?\d+(?:\.\d*)?(?:e[+-]?\d{1,2})?)\s*([a-zµ]*)\s*", str(value)
        )
        if found is None or (found[2] or "ps") not in PS_IN:
            self.fail(f"{value!r} is not a time; write 500ps, 1.5ns, 2us, 3ms or 4s", param, ctx)
        duration_ps = Fraction(found[1]) * PS_IN[found[2] or "ps"]
        if duration_ps < 0 and not self._is_signed:
            self.fail(f"{value!r} is negative", param, ctx)
        return duration_ps


class Channels(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.3
    """Channel numbers with commas between; as many as ``count`` says, if it does."""

    name = "channels"

    def __init__(self, count: int | None = None) -> None:
        self._count = count

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Turn the text into numbers."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(re.fullmatch(r"\s*-?\d{1,5}\s*", part) for part in parts):
            self.fail(f"{value!r} is not channels; write 1,2", param, ctx)
        if self._count is not None and len(parts) != self._count:
            self.fail(f"{value!r} is not {self._count} channels", param, ctx)
        return tuple(int(part) for part in parts)


class Delay(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.3
    """A channel and when its pattern begins, such as ``3=1.2ns``."""

    name = "channel=time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, Fraction]:
        """Turn the text into a channel and picoseconds."""
        channel, equals, delay = str(value).partition("=")
        if not (equals and re.fullmatch(r"\s*-?\d{1,5}\s*", channel)):
            self.fail(f"{value!r} is not a delay; write 3=1.2ns", param, ctx)
        return int(channel), Duration(is_signed=True).convert(delay, param, ctx)


def tag_files(command: "Callable[Concatenate[Input, P], None]") -> Callable[P, None]:
    """Add the files, and what they do not say of themselves; pass them first as one input."""

    @click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
    @click.option("--format", "format_", metavar="FORMAT", help="Format, instead of looking.")
    @click.option(
        "--channel",
        "first_channel",
        type=int,
        default=1,
        show_default=True,
        help="Input of the first file where files do not say it; further files count on.",
    )
    @click.option("--tick", type=Duration(), help="Tick of the counter, where the file is silent.")
    @click.option(
        "--reference-period", type=Duration(), help="Period of START, for times since START."
    )
    @click.option("--index/--no-index", default=None, help="ID900 binary: with reference index?")
    @wraps(command)
    def with_files(*args: P.args, **kwargs: P.kwargs) -> None:
        from qkdctl.tag_files import Input
        from timetags.formats.format import Conventions

        options: dict[str, Any] = kwargs
        conventions = Conventions(
            channel=options.pop("first_channel"),
            tick_ps=options.pop("tick"),
            reference_period_ps=whole_ps(options.pop("reference_period")),
            has_index=options.pop("index"),
        )
        given = Input(options.pop("files"), options.pop("format_"), conventions)
        command(given, *args, **kwargs)

    return with_files


def whole_ps(duration_ps: Fraction | None) -> int | None:
    """Round to whole picoseconds; None stays None."""
    return None if duration_ps is None else round(duration_ps)
