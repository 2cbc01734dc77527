"""`--extract`: stdout gets the code and nothing else, whatever else is shown and however the answer ends."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.render.rendering import FakeClock, cut, deltas, opened_pipe, opened_terminal, report, snapshot
from tests.render.screen_emulator import ScreenEmulator
from utils.code_block import first_code_block
from utils.code_block_stage import requiring_code_block
from utils.errors import ConnectionLost, ValidationFailed
from utils.events import Aborted, Blocked, Event, Finished, Redacted, Retrying, TextDelta
from utils.render.factory import create_sinks
from utils.render.sink import RenderOptions
from utils.run_report import RunReport

ANSWER = "Sure:\n\n1. Code\n   ```python\n   print('a')\n\n     b\n   ```\nMore `text`.\n```\nno\n```\n"
CODE = "print('a')\n\n  b\n"
FINISHED = Finished("stop")


def shown(
    events: list[Event],
    end: RunReport,
    options: RenderOptions | None = None,
    *,
    tty: bool = False,
    is_one: bool = False,
) -> tuple[str, str]:
    """What comes out of stdout and stderr; *is_one*: both are one terminal."""
    with (opened_terminal if tty else opened_pipe)() as (stdout, out), opened_pipe() as (stderr, err):
        clock = FakeClock()
        errors = os.dup(stdout) if is_one else stderr
        sinks = create_sinks(
            options or RenderOptions(raw=True, extract=True),
            clock=clock,
            started_s=clock(),
            snapshot=lambda now: snapshot(),
            on_broken_pipe=lambda: None,
            stdout_fd=stdout,
            stderr_fd=errors,
            environ={"TERM": "xterm-256color"},
            encoding="utf-8",
        )
        for event in events:
            for sink in sinks:
                sink.handle(event, clock())
        for sink in sinks:
            sink.finish(end)
        for sink in sinks:
            sink.close()
        for fd in {stdout, stderr, errors}:
            os.close(fd)
        return out.text(), err.text()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_stdout_has_the_bytes_of_the_code_and_stderr_nothing(positions: list[int]) -> None:
    events = [*deltas(cut(ANSWER, positions)), FINISHED]
    assert shown(events, report(text=ANSWER)) == (CODE, "")


def test_a_terminal_gets_the_same_lines() -> None:
    for options in (RenderOptions(raw=True, extract=True), RenderOptions(raw=True, extract=True, monitor=True)):
        out, _ = shown([TextDelta(ANSWER), FINISHED], report(text=ANSWER), options, tty=True)
        assert out == CODE
    cut = report(text="```\na\n``", outcome="incomplete", error=ConnectionLost("lost"))
    assert shown([TextDelta(cut.text)], cut, tty=True)[0] == "a\n``\n"


def test_beside_the_monitor_on_one_terminal_it_is_the_same() -> None:
    out, _ = shown(
        [TextDelta(ANSWER), FINISHED],
        report(text=ANSWER),
        RenderOptions(raw=True, extract=True, monitor=True),
        tty=True,
        is_one=True,
    )
    emulator = ScreenEmulator(80)
    emulator.write(out)
    assert emulator.lines()[:3] == CODE.splitlines()
    assert not any(word in out for word in ("Sure", "More", "not this"))


def test_what_is_hidden_in_the_code_is_shown_as_its_replacement() -> None:
    events: list[Event] = [TextDelta("```\nmail "), Redacted("pii.email", "[EMAIL]", 9), TextDelta("\n```\n"), FINISHED]
    assert shown(events, report(text="```\nmail [EMAIL]\n```\n"))[0] == "mail [EMAIL]\n"
    # A replacement that looks like a fence is one: what is shown is what counts.
    fenced: list[Event] = [TextDelta("``"), Redacted("r", "`", 2), TextDelta("\nx\n"), FINISHED]
    assert shown(fenced, report(text="```\nx\n"))[0] == "x\n"


@pytest.mark.parametrize(
    ("answer", "outcome", "code", "says"),
    [
        ("```\nabc", "incomplete", "abc", "(incomplete: 3 characters of the answer shown)"),
        ("```\nabc\n``", "incomplete", "abc\n``", "(incomplete: 6 characters of the answer shown)"),
        ("```\nabc", "complete", "abc", "the code block is not closed"),
        ("```\n```\n", "complete", "", "the code block is empty"),
        ("text", "incomplete", "", "(incomplete: 0 characters of the answer shown)"),
    ],
)
def test_an_end_in_the_block_keeps_what_came(answer: str, outcome: str, code: str, says: str) -> None:
    lost = ConnectionLost("lost") if outcome == "incomplete" else None
    end = Aborted(lost) if lost else FINISHED
    final = report(text=answer, outcome=outcome, error=lost, exit_code=3 if lost else 0)
    out, err = shown([TextDelta(answer), end], final)
    assert out == code
    assert says in err


def test_recovery_is_still_told() -> None:
    events: list[Event] = [TextDelta("```\na"), Retrying(2, 0.5, ConnectionLost("lost")), TextDelta("b\n```"), FINISHED]
    assert shown(events, report(text="```\nab\n```")) == ("ab\n", "retrying (attempt 2) in 0.5 s: lost\n")


@pytest.mark.parametrize("mode", ["json", "events"])
@pytest.mark.parametrize("answer", [ANSWER, "no code", "```\n```"])
def test_json_has_the_code_besides_the_text(mode: str, answer: str) -> None:
    options = RenderOptions(mode="json" if mode == "json" else "events", extract=True)
    out, _ = shown([TextDelta(answer), FINISHED], report(text=answer), options)
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[-1]["extracted"] == first_code_block(answer)
    assert "".join(row.get("text", "") for row in rows) == answer
    plain, _ = shown([TextDelta(answer)], report(text=answer), RenderOptions(mode=options.mode))
    assert "extracted" not in json.loads(plain.splitlines()[-1])


def through_stage(events: list[Event]) -> list[Event]:
    async def source() -> AsyncGenerator[Event, None]:
        for event in events:
            yield event

    async def drain() -> list[Event]:
        return [event async for event in requiring_code_block(source())]

    return asyncio.run(drain())


@pytest.mark.parametrize(
    ("events", "fails"),
    [
        ([TextDelta("```\na\n"), FINISHED], False),
        ([TextDelta("``"), TextDelta("`"), FINISHED], False),
        ([TextDelta("``"), Redacted("r", "`", 2), FINISHED], False),
        ([TextDelta("text"), FINISHED], True),
        ([FINISHED], True),
        ([TextDelta("text"), Blocked("r")], False),
        ([TextDelta("text"), Aborted(ConnectionLost("lost"))], False),
    ],
)
def test_only_a_whole_answer_without_a_block_is_refused(events: list[Event], fails: bool) -> None:
    passed = through_stage(events)
    assert passed[:-1] == events[:-1]
    if not fails:
        assert passed[-1] is events[-1]
        return
    last = passed[-1]
    assert isinstance(last, Aborted)
    assert isinstance(last.error, ValidationFailed)
    assert (last.error.message, last.error.hint) == ("the answer has no code block", "")


def test_an_answer_that_the_token_limit_cut_before_its_code_says_so() -> None:
    last = through_stage([TextDelta("text"), Finished("length")])[-1]
    assert isinstance(last, Aborted)
    assert "--max-tokens" in last.error.message
