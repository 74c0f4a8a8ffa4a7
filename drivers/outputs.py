"""What every driver does around a write: limits before it, doubt after it, safety in any state."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from drivers.errors import InstrumentError, RejectedError, SettingError, TransportError
from drivers.transport.transport import Dialogue, Transport

SafetyStep = Callable[[Dialogue], Awaitable[object]]
# The second round starts on a line that was opened again.
ROUNDS = 2


def check_within(
    instrument: str, what: str, value: float, minimum: float, maximum: float, unit: str
) -> None:
    """Refuse a value outside ``minimum`` to ``maximum``.

    Raises:
        SettingError: Outside, or not a number; nothing was sent.
    """
    if not minimum <= value <= maximum:  # NaN fails this too
        limits = f"{minimum:g} to {maximum:g} {unit}".strip()
        raise SettingError(instrument, f"{what} {value} {unit}".strip() + f" is outside {limits}")


@contextmanager
def unknown_if_lost(instrument: str, what: str) -> Iterator[None]:
    """Say in a lost exchange's error that the write may or may not have arrived.

    Raises:
        TransportError: The block's own, with that remark added.
    """
    try:
        yield
    except TransportError as exc:
        raise TransportError(
            instrument,
            f"{exc.problem}; state unknown: {what} may have changed",
            sent=exc.sent,
            received=exc.received,
        ) from exc


async def carry_out_all(transport: Transport, steps: Sequence[SafetyStep]) -> None:
    """Carry out every step in order, whatever becomes of the others.

    All steps share one dialogue, so that each command is still sent where replies are lost. After
    a lost link it starts as soon as the instrument is identified, set up or not. Steps that failed
    are tried once more on a line opened again: they set absolute values, which may arrive twice.

    Raises:
        InstrumentError: The first step that failed for good, after all were tried.
    """
    failed: list[tuple[SafetyStep, InstrumentError]] = []
    for _ in range(ROUNDS):
        failed = await _carry_out(transport, steps)
        if not failed:
            return
        steps = [step for step, _ in failed]
    raise failed[0][1]


async def _carry_out(
    transport: Transport, steps: Sequence[SafetyStep]
) -> list[tuple[SafetyStep, InstrumentError]]:
    failed: list[tuple[SafetyStep, InstrumentError]] = []
    try:
        async with transport.exclusive(is_urgent=True) as link:
            for step in steps:
                try:
                    await step(link)
                except InstrumentError as exc:
                    failed.append((step, exc))
            _leave_dirty_if_in_doubt([exc for _, exc in failed])
    except InstrumentError as exc:
        return failed or [(step, exc) for step in steps]
    return failed


def _leave_dirty_if_in_doubt(errors: Sequence[InstrumentError]) -> None:
    """Raise what tells the transport that the line needs recovery: anything but a refusal."""
    for error in errors:
        if not isinstance(error, RejectedError):
            raise error
