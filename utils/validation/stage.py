"""Validation as a stage of the stream: it reads the raw answer, before the guard, and ends it where it is invalid."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable

from utils.errors import InternalError, ValidationFailed
from utils.events import Aborted, Blocked, Event, Finished, TerminalEvent, TextDelta, TokenLogprob
from utils.run_context import EventStream
from utils.validation.validators import Validator, Violation

__all__ = ["LIMIT_HINT", "OnViolation", "validated"]

OnViolation = Callable[[Violation], None]
"""Is told of the violation that ended an answer."""

LIMIT_HINT = "raise --max-tokens, or ask for less"
"""What to do about an answer that the token limit cut."""

_HINT = "run again, or let it be asked again with --validate-retries N"


async def validated(
    stream: EventStream, validators: Iterable[Validator], *, on_violation: OnViolation | None = None
) -> AsyncGenerator[Event, None]:
    """Pass *stream* on as long as every validator can still be satisfied.

    At the first place that one of them calls impossible *stream* is closed, so that the server stops writing, the text
    before the place is passed on, and the stream ends with `Aborted(ValidationFailed)`; so it does instead of
    `Finished` if the answer is incomplete, and if a validator raises. Reasoning and other events pass unjudged; an
    answer that ended otherwise is not judged at its end.

    *stream* is closed before the terminal event is passed on, and at every other end of a generator that was started
    (of one that was not, whoever opened *stream* closes it).
    """
    checks = _Checks(tuple(validators), on_violation)
    async with contextlib.aclosing(stream):
        async for event in stream:
            shown, terminal = checks.step(event)
            if terminal is not None:
                break
            if shown is not None:
                yield shown
        else:
            shown, terminal = None, Aborted(InternalError("the stream ended without a terminal event"))
    if shown is not None:
        yield shown
    yield terminal


class _Checks:
    """The validators of one answer: the pure part of the stage, without I/O."""

    def __init__(self, validators: tuple[Validator, ...], on_violation: OnViolation | None) -> None:
        self._validators = validators
        self._on_violation = on_violation
        self._chars = 0

    def step(self, event: Event) -> tuple[Event | None, TerminalEvent | None]:
        """What to pass on for *event*, and the terminal event if this is the end."""
        try:
            match event:
                case TextDelta(text=text):
                    found = _first([validator.feed(text) for validator in self._validators])
                    start, self._chars = self._chars, self._chars + len(text)
                    if found is None:
                        return event, None
                    return _cut(event, found.position - start), self._failed(found)
                case Finished():
                    found = _first([validator.finish() for validator in self._validators])
                    return None, event if found is None else self._failed(found, event.is_cut)
                case Blocked() | Aborted():
                    return None, event
                case _:
                    return event, None
        except Exception as error:
            # the text of a foreign error may quote the answer, so only its class is told
            return None, Aborted(
                ValidationFailed(
                    f"a validator failed ({type(error).__name__}), so the rest of the answer is not shown",
                    hint="run again without the validator that fails, or report this as a bug",
                )
            )

    def _failed(self, violation: Violation, is_cut_by_limit: bool = False) -> Aborted:
        if self._on_violation is not None:
            self._on_violation(violation)
        if is_cut_by_limit:
            said = f"the token limit cut the answer; {violation}"
            return Aborted(ValidationFailed(said, hint=LIMIT_HINT))
        return Aborted(ValidationFailed(f"the answer is not valid: {violation}", hint=_HINT))


def _first(found: list[Violation | None]) -> Violation | None:
    """The violation that comes first in the text; of several at one place that of the first validator."""
    return min((violation for violation in found if violation), key=lambda violation: violation.position, default=None)


def _cut(event: TextDelta, chars: int) -> TextDelta | None:
    """The first *chars* characters of *event*, with the tokens that lie in them whole; None if there are none."""
    if chars <= 0:
        return None
    tokens: list[TokenLogprob] = []
    if "".join(token.text for token in event.tokens) == event.text:
        end = 0
        for token in event.tokens:
            end += len(token.text)
            if end > chars:
                break
            tokens.append(token)
    return TextDelta(event.text[:chars], tuple(tokens))
