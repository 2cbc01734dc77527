"""An answer that is shown only if it is valid, asked for again if it is not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable

from utils.errors import ValidationFailed
from utils.events import Aborted, Event, Finished, Retrying, TextDelta
from utils.run_context import EventStream, Request
from utils.validation.plan import ValidationPlan
from utils.validation.stage import LIMIT_HINT, OnViolation, validated
from utils.validation.validators import Violation

__all__ = ["Reopen", "checked", "request_again"]

Reopen = Callable[[Request], Awaitable[EventStream]]
"""Sends a request and returns its answer, as `Opener.open` does."""


async def checked(
    stream: EventStream,
    request: Request,
    plan: ValidationPlan,
    reopen: Reopen,
    *,
    on_violation: OnViolation | None = None,
) -> AsyncGenerator[Event, None]:
    """The answer *stream* to *request*, judged as *plan* says.

    Without retries it flows as it comes and ends at its first impossible place. With retries nothing of it is passed
    on until it is valid; then all its events follow in their order, the text between two of them in one piece: that
    is how its reader gets it, so no rate of tokens can be read off it. An invalid one is closed and dropped,
    `Retrying` is passed on with the violation as its cause (attempts count answers that were judged, from 1), and
    *reopen* is awaited. The last attempt's failure ends the stream without text. Time limits are those of the streams:
    the run's own deadline covers all attempts.

    *stream*, and each one that *reopen* returned, is closed as `validated` does it.
    """
    attempt = 1
    while True:
        found: list[Violation] = []

        def take(violation: Violation, found: list[Violation] = found) -> None:
            found.append(violation)
            if on_violation is not None:
                on_violation(violation)

        judged = validated(stream, [make() for make in plan.factories], on_violation=take)
        async with contextlib.aclosing(judged):
            if plan.retries == 0:
                async for event in judged:
                    yield event
                return
            held = [event async for event in judged]
        terminal = held[-1]
        if not found:
            if not isinstance(terminal, Finished):  # blocked, cut or failed: an answer that is not whole is not valid
                held = [terminal]
            for event in _joined(held):
                yield event
            return
        assert isinstance(terminal, Aborted)
        if attempt > plan.retries:
            yield Aborted(_exhausted(terminal, attempt))
            return
        attempt += 1
        yield Retrying(attempt, 0.0, terminal.error)
        stream = await reopen(request_again(request, found[0], attempt))


def request_again(request: Request, violation: Violation, attempt: int) -> Request:
    """*request* for attempt number *attempt*: told why the answer before was refused, with another seed if it has one.

    The refused answer is not quoted: it would be paid for once more, and models repeat what they read.
    """
    note = f"[An earlier answer to this was refused: {violation}. {violation.advice}".rstrip()
    parameters = request.parameters
    if parameters.seed is not None:
        parameters = dataclasses.replace(parameters, seed=parameters.seed + attempt - 1)
    return dataclasses.replace(request, prompt=f"{request.prompt}\n\n{note}]", parameters=parameters)


def _exhausted(terminal: Aborted, attempts: int) -> ValidationFailed:
    error = terminal.error
    return ValidationFailed(
        f"no valid answer in {attempts} attempts; the last one: {error.message}",
        hint=error.hint if error.hint == LIMIT_HINT else "change the prompt or the model, or raise --validate-retries",
    )


def _joined(events: list[Event]) -> list[Event]:
    """*events* with neighbouring text deltas in one."""
    joined: list[Event] = []
    deltas: list[TextDelta] = []
    for event in (*events, None):
        if isinstance(event, TextDelta):
            deltas.append(event)
            continue
        if deltas:
            tokens = tuple(token for delta in deltas for token in delta.tokens)
            joined.append(TextDelta("".join(delta.text for delta in deltas), tokens))
            deltas = []
        if event is not None:
            joined.append(event)
    return joined
