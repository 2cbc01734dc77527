import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.render.rendering import FakeClock, opened_pipe, opened_terminal, report, snapshot
from tests.render.screen_emulator import ScreenEmulator
from utils.errors import Cancelled, ConnectionLost
from utils.events import Event, Finished, Retrying, TextDelta
from utils.render.factory import create_sinks, inspect_stream
from utils.render.sink import RenderOptions
from utils.run_report import RunReport

ROOT = Path(__file__).resolve().parents[2]
XTERM = {"TERM": "xterm-256color"}
RETRY = Retrying(2, 0.5, ConnectionLost("lost"))
EVENTS: tuple[Event, ...] = (TextDelta("some **bold"), RETRY, TextDelta("** text\x07"), Finished("stop"))


def run(
    options: RenderOptions,
    stdout_fd: int,
    stderr_fd: int,
    *,
    environ: dict[str, str] = XTERM,
    encoding: str = "utf-8",
    events: Sequence[Event] = EVENTS,
    end: RunReport | None = None,
) -> None:
    clock = FakeClock()
    sinks = create_sinks(
        options,
        clock=clock,
        started_s=clock(),
        snapshot=lambda now: snapshot(),
        on_broken_pipe=lambda: None,
        stdout_fd=stdout_fd,
        stderr_fd=stderr_fd,
        environ=environ,
        encoding=encoding,
    )
    for event in events:
        clock.now += 1
        for sink in sinks:
            sink.handle(event, clock.now)
    for sink in sinks:
        sink.finish(end or report(metrics={"ttft_s": 0.5}))
    for sink in sinks:
        sink.close()


def on_one_terminal(options: RenderOptions, *, columns: int = 60, **arguments: object) -> str:
    with opened_terminal(columns) as (terminal, reader):
        other = os.dup(terminal)
        run(options, terminal, other, **arguments)  # type: ignore[arg-type]
        os.close(terminal)
        os.close(other)
        return reader.text()


def on_screen(output: str, columns: int = 60) -> list[str]:
    emulator = ScreenEmulator(columns)
    emulator.write(output)
    return emulator.lines()


def apart(options: RenderOptions, *, tty: str = "", **arguments: object) -> tuple[str, str]:
    """What comes out of stdout and stderr; *tty* names those that are terminals."""
    kinds = [opened_terminal if name in tty else opened_pipe for name in ("out", "err")]
    with kinds[0]() as (stdout, out), kinds[1]() as (stderr, err):
        run(options, stdout, stderr, **arguments)  # type: ignore[arg-type]
        os.close(stdout)
        os.close(stderr)
        return out.text(), err.text()


def test_pipes_get_the_exact_answer_and_plain_lines() -> None:
    assert apart(RenderOptions()) == (
        "some **bold** text\x07\n",
        "retrying (attempt 2) in 0.5 s: lost\n",
    )


def test_quiet_leaves_stderr_empty() -> None:
    assert apart(RenderOptions(quiet=True))[1] == ""


def test_color_always_colours_our_lines_and_never_the_answer() -> None:
    out, err = apart(RenderOptions(color="always"))
    assert out == "some **bold** text\x07\n"
    assert err == "\x1b[2mretrying (attempt 2) in 0.5 s: lost\x1b[0m\n"


def test_json_keeps_stdout_for_the_object() -> None:
    out, err = apart(RenderOptions(mode="json"))
    assert json.loads(out)["text"] == "hello"
    assert err.startswith("retrying")


def test_events_are_json_lines() -> None:
    out, _ = apart(RenderOptions(mode="events"))
    types = [json.loads(line)["type"] for line in out.splitlines()]
    assert types == ["text_delta", "retrying", "text_delta", "finished", "report"]


def test_the_monitor_without_a_terminal_is_a_table_at_the_end() -> None:
    out, err = apart(RenderOptions(monitor=True))
    assert out == "some **bold** text\x07\n"
    assert "\x1b" not in err
    assert err.splitlines()[:2] == ["retrying (attempt 2) in 0.5 s: lost", "performance of m at http://127.0.0.1/v1"]
    assert "  first token (ttft)  500 ms\n" in err


def test_the_monitor_is_live_on_stderr_while_stdout_is_a_pipe() -> None:
    out, err = apart(RenderOptions(monitor=True), tty="err")
    assert out == "some **bold** text\x07\n"
    assert "tokens/s now" in err
    lines = on_screen(err, 80)
    assert lines[:2] == ["retrying (attempt 2) in 0.5 s: lost", "performance of m at http://127.0.0.1/v1"]
    assert lines[-1] == ""


def test_one_terminal_shows_answer_notices_and_panel_together() -> None:
    output = on_one_terminal(RenderOptions(monitor=True))
    assert "tokens/s now" in output
    lines = on_screen(output)
    assert lines[:3] == [
        "retrying (attempt 2) in 0.5 s: lost",
        "some bold text\\x07",
        "performance of m at http://127.0.0.1/v1",
    ]


@pytest.mark.parametrize("options", [RenderOptions(), RenderOptions(monitor=True), RenderOptions(raw=True)])
def test_the_last_words_are_said_even_if_the_event_loop_ends_at_once(options: RenderOptions) -> None:
    end = report(text="some", outcome="incomplete", exit_code=3, error=ConnectionLost("lost", hint="try again"))

    async def at_once() -> str:
        return on_one_terminal(options, end=end)

    lines = on_screen(asyncio.run(at_once()))
    assert lines[0].startswith(("some", "retrying"))
    assert lines[-3:] == ["error: lost (incomplete: 4 characters of the answer shown)", "hint: try again", ""]


def test_an_answer_terminal_with_stderr_elsewhere_keeps_them_apart() -> None:
    out, err = apart(RenderOptions(), tty="out")
    assert on_screen(out, 80) == ["some bold text\\x07", ""]
    assert err == "retrying (attempt 2) in 0.5 s: lost\n"


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        (RenderOptions(raw=True), XTERM),
        (RenderOptions(), {"TERM": "dumb"}),
        (RenderOptions(), {}),
        (RenderOptions(), {**XTERM, "CI": "true"}),
    ],
)
def test_a_terminal_that_is_not_to_be_drawn_on_gets_plain_text(options: RenderOptions, environ: dict[str, str]) -> None:
    output = on_one_terminal(options, environ={**environ, "NO_COLOR": "1"})
    plain = output.replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert plain == "some **bold\nretrying (attempt 2) in 0.5 s: lost\n** text\\x07\n"
    assert "\x1b[?7l" not in output


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {**XTERM, "CI": "1"}])
def test_the_monitor_on_a_terminal_that_cannot_draw_is_a_table_at_the_end(environ: dict[str, str]) -> None:
    output = on_one_terminal(RenderOptions(monitor=True, color="never"), environ=environ)
    assert "\x1b" not in output
    assert "performance of m at" in output


def test_raw_text_and_the_panel_share_the_terminal() -> None:
    output = on_one_terminal(RenderOptions(raw=True, monitor=True))
    assert "tokens/s now" in output
    assert on_screen(output)[:2] == ["retrying (attempt 2) in 0.5 s: lost", "some **bold** text\\x07"]


def test_json_on_a_terminal_has_no_panel_in_it() -> None:
    output = on_one_terminal(RenderOptions(mode="json", monitor=True, color="never"), columns=200)
    assert "\x1b" not in output
    assert json.loads(output.splitlines()[1])["text"] == "hello"


def test_the_figures_that_were_asked_for_survive_quiet() -> None:
    assert apart(RenderOptions(monitor=True, quiet=True))[1].startswith("performance of m")


LONG_RETRY = Retrying(2, 0.5, ConnectionLost("the server went away without a word of explanation"))
LONG_LINE = "retrying (attempt 2) in 0.5 s: the server went away without a word of explanation"


def test_a_notice_is_cut_between_words_on_a_terminal_and_stays_one_line_in_a_pipe() -> None:
    assert apart(RenderOptions(color="never"), events=[LONG_RETRY])[1] == f"{LONG_LINE}\n"
    for environ in (XTERM, {"TERM": "dumb"}):
        output = on_one_terminal(RenderOptions(color="never"), columns=40, environ=environ, events=[LONG_RETRY])
        assert output.splitlines() == [
            "retrying (attempt 2) in 0.5 s: the",
            "  server went away without a word of",
            "  explanation",
        ]


@pytest.mark.parametrize(
    ("options", "environ", "start"),
    [
        (RenderOptions(), XTERM, "\r\x1b[J"),
        (RenderOptions(monitor=True), XTERM, "\r\x1b[J"),
        (RenderOptions(), {"TERM": "dumb"}, "\r"),
        (RenderOptions(raw=True), {**XTERM, "CI": "1"}, "\r"),
    ],
)
def test_the_notice_of_a_stop_takes_the_place_of_the_echo_of_ctrl_c(
    options: RenderOptions, environ: dict[str, str], start: str
) -> None:
    end = report(text="", outcome="cancelled", error=Cancelled("Ctrl-C"))
    output = on_one_terminal(replace(options, color="never"), environ=environ, events=(), end=end)
    assert f"{start}cancelled: 0 characters of the answer shown\n" in output
    emulator = ScreenEmulator(60)
    emulator.write("^C" + output)
    assert "cancelled: 0 characters of the answer shown" in emulator.lines()
    assert apart(options, events=(), end=end)[1].splitlines()[-1].startswith("cancelled")


def test_a_terminal_with_another_encoding_gets_escapes_and_no_error() -> None:
    events = (TextDelta("- né 漢 \ud800\n"), Finished("stop"))
    for options in (RenderOptions(), RenderOptions(raw=True), RenderOptions(monitor=True), RenderOptions(mode="json")):
        output = on_one_terminal(options, encoding="ascii", events=events, end=report(text="né"))
        assert output.isascii()


def test_a_narrow_terminal_is_used_to_its_width() -> None:
    output = on_one_terminal(RenderOptions(), columns=20, events=(TextDelta("one two three four five six"),))
    assert on_screen(output, 20)[:2] == ["one two three four", "five six"]


@pytest.mark.parametrize(("is_gone", "said"), [(True, ""), (False, "error: cannot write the answer: ")])
def test_a_reader_that_left_is_silent_and_any_other_failure_is_said(is_gone: bool, said: str) -> None:
    calls: list[str] = []
    with opened_pipe() as (stderr, err):
        if is_gone:
            read_end, out = os.pipe()
            os.close(read_end)
        else:
            out = os.open("/dev/full", os.O_WRONLY)
        sinks = create_sinks(
            RenderOptions(),
            clock=lambda: 0.0,
            started_s=0.0,
            snapshot=lambda now: snapshot(),
            on_broken_pipe=lambda: calls.append("gone"),
            stdout_fd=out,
            stderr_fd=stderr,
            environ={},
        )
        for text in ("a", "b"):
            sinks[0].handle(TextDelta(text), 0.0)
        for sink in sinks:
            sink.close()
        os.close(out)
        os.close(stderr)
        lines = err.text()
    assert calls == ["gone"]
    assert lines.startswith(said)
    assert lines.count("\n") == (1 if said else 0)


@pytest.mark.parametrize(
    ("environ", "choice", "is_terminal", "expected"),
    [
        (XTERM, "auto", True, "color"),
        (XTERM, "auto", False, "none"),
        (XTERM, "always", False, "color"),
        (XTERM, "never", True, "none"),
        ({**XTERM, "NO_COLOR": "1"}, "auto", True, "mono"),
        ({**XTERM, "NO_COLOR": ""}, "auto", True, "color"),
        ({**XTERM, "NO_COLOR": "1", "FORCE_COLOR": "1"}, "auto", False, "none"),
        ({**XTERM, "NO_COLOR": "1"}, "always", True, "color"),
        ({"FORCE_COLOR": "1"}, "auto", False, "color"),
        ({"FORCE_COLOR": "0"}, "auto", False, "none"),
        ({"TERM": "dumb"}, "auto", True, "none"),
    ],
)
def test_colour_is_decided_by_option_environment_and_stream(
    environ: dict[str, str], choice: str, is_terminal: bool, expected: str
) -> None:
    with (opened_terminal if is_terminal else opened_pipe)() as (fd, _):
        assert inspect_stream(fd, environ, choice, "utf-8").color == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("options", ["", "mode='json'", "mode='events'", "monitor=True", "raw=True"])
def test_piped_output_imports_neither_rich_nor_asyncio(options: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from utils.render.factory import create_sinks\n"
        "from utils.render.sink import RenderOptions\n"
        "from utils.events import TextDelta\n"
        "from utils.run_report import RunReport\n"
        f"sinks = create_sinks(RenderOptions({options}), clock=lambda: 0.0, started_s=0.0, snapshot=None,\n"
        "                     on_broken_pipe=None)\n"
        "report = RunReport('x', 'complete', 0, 'stop', 'm', 'm', 't', None)\n"
        "for sink in sinks: sink.handle(TextDelta('x'), 0.0)\n"
        "for sink in sinks: sink.finish(report)\n"
        "for sink in sinks: sink.close()\n"
        "sys.exit(str(sorted({'rich', 'asyncio', 'pygments', 'markdown_it'} & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, check=False)
    assert done.stderr.decode().splitlines()[-1] == "[]"
    assert done.stdout
