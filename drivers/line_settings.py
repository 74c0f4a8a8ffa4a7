"""One setting of an instrument described in the testbed file: how it is written and read back."""

import math
import re
from string import Formatter
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from drivers.registry import Options

# Digits sent where the template gives no format.
DEFAULT_FORMAT = ".12g"
FORMAT = re.compile(r"[+]?0?[0-9]{0,2}(\.[0-9]{1,2})?[eEfFgGd]?")
NUMBER = re.compile(r"[+-]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
# A longer reply is not matched: a careless expression could take for ever on it.
MAX_REPLY_CHARS = 1000


def _printable(text: str) -> str:
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError(f"{text!r} must be printable ASCII on one line, and not empty")
    return text


def _ascii(text: str) -> str:
    if not text.isascii():
        raise ValueError(f"{text!r} must be ASCII")
    return text


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise ValueError(f"{text!r} is no regular expression: {exc}") from exc
    return text


Command = Annotated[str, AfterValidator(_printable)]
Terminator = Annotated[str, AfterValidator(_ascii)]
Expression = Annotated[str, AfterValidator(_expression)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Setting(Options):
    """How one setting is written, read back and limited."""

    set: Command = Field(description="Command with {value} in it, or {value:FORMAT} for numbers.")
    query: Command = Field(description="Asks for the value in force.")
    reply: Expression | None = Field(
        None, description="Expression with a group named value; default: the whole reply."
    )
    values: tuple[Command, ...] | dict[str, Command] | None = Field(
        None, description="Words it takes; as a table, our word = the instrument's."
    )
    minimum: Number | None = Field(None, description="Smallest number sent.")
    maximum: Number | None = Field(None, description="Largest number sent.")
    unit: str = Field("", description="Unit of the number.")
    resolution: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Step of the instrument; also how far a value read back may lie off."
    )
    set_replies: bool = Field(False, description="The instrument answers the set with one line.")

    @model_validator(mode="after")
    def _template_takes_a_value(self) -> Self:
        try:
            fields = [part[1:] for part in Formatter().parse(self.set) if part[1] is not None]
        except ValueError as exc:
            raise ValueError(f"set {self.set!r}: {exc}") from exc
        match fields:
            case [("value", spec, None)] if spec is not None and FORMAT.fullmatch(spec):
                return self
        raise ValueError(
            f"set {self.set!r} must contain {{value}} once, or {{value:.3f}} and the like; write "
            "other braces twice"
        )

    @model_validator(mode="after")
    def _reply_has_a_group(self) -> Self:
        if self.reply is not None and "value" not in re.compile(self.reply).groupindex:
            raise ValueError(f"reply {self.reply!r} needs a group (?P<value>...)")
        return self

    @model_validator(mode="after")
    def _words_or_limits(self) -> Self:
        limits = (self.minimum, self.maximum)
        if (self.values is None) == (limits == (None, None)):
            raise ValueError("give either values, or minimum and maximum")
        if self.values is not None:
            return self._with_distinct_words()
        if self.minimum is None or self.maximum is None:
            raise ValueError("give both minimum and maximum")
        if not self.minimum < self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        sent_lowest, sent_highest = (
            float(self.number_text(limit)) for limit in (self.minimum, self.maximum)
        )
        if sent_lowest < self.minimum or sent_highest > self.maximum:
            raise ValueError(
                f"the limits are sent as {sent_lowest:g} and {sent_highest:g}, which lies outside "
                "them: write them with no more digits than the template sends"
            )
        return self

    def _with_distinct_words(self) -> Self:
        words = self.words
        if not words or len(set(words.values())) < len(self.values or ()):
            raise ValueError("values must name at least one word, each once")
        if "{value}" not in self.set:
            raise ValueError(f"set {self.set!r}: words take no format, write {{value}}")
        return self

    @property
    def words(self) -> dict[str, str]:
        """The instrument's word by ours; empty for a number."""
        if isinstance(self.values, dict):
            return self.values
        return {word: word for word in self.values or ()}

    def number_text(self, value: float) -> str:
        """A number as the template sends it."""
        spec = next(spec for _, name, spec, _ in Formatter().parse(self.set) if name is not None)
        return format(round(value) if (spec or "").endswith("d") else value, spec or DEFAULT_FORMAT)

    def command(self, text: str) -> str:
        """The command that sends ``text``."""
        return "".join(
            literal + (text if name is not None else "")
            for literal, name, _, _ in Formatter().parse(self.set)
        )

    def text_for(self, value: float | str) -> str:
        """The text that stands for ``value`` on the wire.

        Raises:
            ValueError: Not one of the words, outside the limits, or the wrong kind of value.
        """
        if self.words:
            if not isinstance(value, str) or value not in self.words:
                raise ValueError(f"{value!r} is none of {', '.join(self.words)}")
            return self.words[value]
        if isinstance(value, str) or self.minimum is None or self.maximum is None:
            raise ValueError(f"{value!r} is no number; write it without quotes")
        if not self.minimum <= value <= self.maximum:  # NaN fails this too
            limits = f"{self.minimum:g} to {self.maximum:g} {self.unit}".strip()
            raise ValueError(f"{value} is outside {limits}")
        return self.number_text(value)

    def parse(self, reply: str) -> float | str:
        """Read the value from the reply to ``query``.

        Returns:
            A number, or our word for it.

        Raises:
            ValueError: No match, no number, or a word that is not configured.
        """
        text = self._value_in(reply)
        for word, sent in self.words.items():
            if text == sent:
                return word
        if self.words:
            raise ValueError(f"none of {', '.join(self.words.values())}")
        if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise ValueError("not a number")
        return float(text)

    def agrees(self, value: float | str, read: float | str) -> bool:
        """Whether ``read`` is what setting ``value`` should have led to."""
        if isinstance(value, str) or isinstance(read, str):
            return value == read
        sent = float(self.number_text(value))
        return abs(read - sent) <= self.resolution + 1e-9 * abs(sent)

    def _value_in(self, reply: str) -> str:
        if len(reply) > MAX_REPLY_CHARS:
            raise ValueError(f"longer than {MAX_REPLY_CHARS} characters")
        if self.reply is None:
            return reply.strip()
        found = re.search(self.reply, reply)
        if found is None or found.group("value") is None:
            raise ValueError(f"does not match {self.reply!r}")
        return found.group("value").strip()
