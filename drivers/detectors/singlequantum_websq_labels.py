"""Reading and setting the labels of a WebSQ in one dialogue; nothing there is acknowledged."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from drivers.detectors.singlequantum_websq_messages import (
    ALL_LABELS,
    BIAS,
    ENABLE,
    NEEDED,
    PERIOD,
    TRIGGER,
    Label,
    State,
    number,
    numbers,
    parse_message,
    parse_state,
    truth,
)
from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.outputs import unknown_if_lost
from drivers.transport.transport import Dialogue

BIAS_TOLERANCE_UA = 0.1  # weak
TRIGGER_TOLERANCE_MV = 1.0  # weak
# What the unit is sent has no end mark: time for it to tell two objects apart [weak].
GAP_S = 0.02

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Labels:
    """The labels of one unit, for the length of one dialogue.

    A set is confirmed by the label's broadcast with the value that was set; broadcasts of what
    other clients set may come in between. Where a label has the value already no broadcast would
    come, and nothing is sent.

    Args:
        link: The dialogue.
        timeout_s: Longest wait for a label, s.
    """

    def __init__(self, link: Dialogue, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._instrument = link.instrument
        self._is_first = True

    async def state(self, after: str | None = None) -> State:
        """Ask for all labels and wait for those that matter.

        Args:
            after: Command that was just sent, and to which a fault is put down.

        Raises:
            ReplyError: Some do not come: another instrument.
            RejectedError: The unit reports a fault after that command.
            TransportError: Link lost, or no answer.
        """
        await self._link.write(ALL_LABELS)
        deadline_s = self._deadline_s()
        found: dict[str, Label] = {}
        fault: Label | None = None
        while not found.keys() >= NEEDED:
            try:
                labels = await self._read(deadline_s)
            except TransportError as exc:
                if found and isinstance(exc.__cause__, TimeoutError):
                    return parse_state(self._instrument, found)  # says what is missing
                raise
            found |= {label.name: label for label in labels if not label.is_broadcast}
            fault = next((each for each in labels if each.fault and each.is_broadcast), fault)
        self._report(fault, after)
        return parse_state(self._instrument, found)

    async def set_bias(self, state: State, changes: Mapping[int, float]) -> tuple[float, ...]:
        """Set bias currents by detector, uA; return those of all detectors."""
        wanted = _changed(state.bias_ua, changes, decimals=2)
        setting = "SetAllBiasCurrents", BIAS, wanted
        return await self._set_list(setting, state.bias_ua, BIAS_TOLERANCE_UA)

    async def set_trigger(self, state: State, changes: Mapping[int, float]) -> tuple[float, ...]:
        """Set trigger levels by detector, mV; return those of all detectors."""
        wanted = _changed(state.trigger_mv, changes, decimals=1)
        setting = "SetAllTriggerLevels", TRIGGER, wanted
        return await self._set_list(setting, state.trigger_mv, TRIGGER_TOLERANCE_MV)

    async def set_period(self, state: State, period_ms: int) -> None:
        """Set the measurement period, ms."""
        if state.period_ms != period_ms:
            await self._set(
                ("SetMeasurementPeriod", PERIOD, period_ms),
                partial(number, self._instrument),
                lambda read_ms: read_ms == period_ms,
            )

    async def switch(self, state: State, *, is_on: bool) -> bool:
        """Switch the bias of all detectors on or off."""
        if state.is_on is is_on:
            return is_on
        return await self._set(
            ("DetectorEnable", ENABLE, is_on),
            partial(truth, self._instrument),
            lambda read: read is is_on,
        )

    async def switch_off(self) -> None:
        """Switch the bias off whatever it seems to be: before anything is asked."""
        sent = _command("DetectorEnable", ENABLE, value=False)
        with unknown_if_lost(self._instrument, ENABLE):
            await self.send(sent)
            state = await self.state(after=sent)
        if state.is_on:
            raise ReplyError(self._instrument, "the bias is still on", sent=sent)

    async def send(self, text: str) -> None:
        """Send what has no answer of its own."""
        await self._link.write(text)
        await asyncio.sleep(GAP_S)

    async def ask(self, name: str) -> Label:
        """Ask for the value of one label; raises as ``state`` does."""
        question = json.dumps({"request": name})
        await self._link.write(question)
        return await self._wait(question, lambda label: label.name == name, is_set=False)

    async def _set_list(
        self, setting: tuple[str, str, list[float]], before: Sequence[float], tolerance: float
    ) -> tuple[float, ...]:
        wanted = setting[2]
        if list(before) == wanted:
            return tuple(before)
        return await self._set(
            setting,
            partial(numbers, self._instrument),
            lambda read: (
                len(read) == len(wanted)
                and all(abs(r - w) <= tolerance for r, w in zip(read, wanted, strict=True))
            ),
        )

    async def _set(
        self,
        setting: tuple[str, str, Any],
        read: Callable[[Label], _T],
        agrees: Callable[[_T], bool],
    ) -> _T:
        """Set a label and wait until the unit says that it has the value.

        Args:
            setting: Command, label and value.
            read: Reads the label's value.
            agrees: Whether a value that was read confirms the setting.
        """
        command, name, value = setting
        sent = _command(command, name, value)
        with unknown_if_lost(self._instrument, name):
            await self._link.write(sent)
            confirmed = await self._wait(
                sent,
                lambda label: label.name == name and label.is_broadcast,
                lambda label: agrees(read(label)),
            )
        return read(confirmed)

    async def _wait(
        self,
        sent: str,
        concerns: Callable[[Label], bool],
        confirms: Callable[[Label], bool] = lambda label: True,
        *,
        is_set: bool = True,
    ) -> Label:
        """Wait for a label that concerns what was sent, and confirms it."""
        deadline_s = self._deadline_s()
        other: Label | None = None
        while True:
            try:
                labels = await self._read(deadline_s)
            except TransportError as exc:
                if other is not None and isinstance(exc.__cause__, TimeoutError):
                    raise ReplyError(
                        self._instrument,
                        f"{other.name} reads another value than was set",
                        sent=sent,
                        received=repr(other.value)[:200],
                    ) from exc
                raise
            for label in labels:
                if label.fault and label.is_broadcast:
                    self._report(label, sent if is_set else None)
                if concerns(label):
                    if confirms(label):
                        return label
                    other = label

    async def _read(self, deadline_s: float) -> list[Label]:
        """Read one message; what is left of one whose beginning was dropped is passed over."""
        left_s = deadline_s - asyncio.get_running_loop().time()
        text = (await self._link.read(timeout_s=max(left_s, 0.0))).strip()
        is_remnant = self._is_first and not text.startswith("{")
        self._is_first = False
        return [] if is_remnant else parse_message(self._instrument, text)

    def _report(self, fault: Label | None, after: str | None) -> None:
        if fault is None:
            return
        if after is not None:
            problem = f"refused: {fault.name}"
            raise RejectedError(self._instrument, problem, sent=after, received=fault.fault)
        log.warning("%s: it reports %s: %s", self._instrument, fault.name, fault.fault)

    def _deadline_s(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


def _command(command: str, label: str, value: Any) -> str:
    return json.dumps({"command": command, "label": label, "value": value})


def _changed(before: Sequence[float], changes: Mapping[int, float], decimals: int) -> list[float]:
    """The values of all detectors with some changed; rounding stays inside limits on the grid."""
    rounded = {detector: round(value, decimals) for detector, value in changes.items()}
    return [rounded.get(detector, value) for detector, value in enumerate(before, start=1)]
