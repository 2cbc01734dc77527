import pytest

from tests.render.rendering import report
from utils.errors import (
    AnswerBlocked,
    Cancelled,
    ConnectionLost,
    OutputClosed,
    PromptRejected,
    RateLimited,
    StreamTruncated,
    Terminated,
    Unreachable,
)
from utils.events import (
    Adapted,
    Blocked,
    Event,
    FellBack,
    Finished,
    Flagged,
    Interrupted,
    Opened,
    ReasoningDelta,
    Redacted,
    Resumed,
    Retrying,
    TextDelta,
    Usage,
)
from utils.render.notices import NoticeSink
from utils.run_report import RunReport

LOST = ConnectionLost("the connection was reset")
FAKED = ConnectionLost("the connection was reset", simulated=True)


def printed(
    events: list[Event], end: RunReport | None = None, *, quiet: bool = False, color: bool = False
) -> list[str]:
    lines: list[str] = []
    sink = NoticeSink(lines.append, quiet=quiet, color=color)
    for event in events:
        sink.handle(event, 0.0)
    if end is not None:
        sink.finish(end)
    sink.close()
    return lines


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Retrying(2, 0.5, LOST), "retrying: attempt 2 in 0.50 s: the connection was reset"),
        (Retrying(3, 12.4, FAKED), "retrying: attempt 3 in 12 s: the connection was reset (simulated)"),
        (Interrupted(LOST, 120), "interrupted after 120 characters: the connection was reset"),
        (Interrupted(FAKED, 1), "interrupted after 1 character: the connection was reset (simulated)"),
        (Resumed("prefill", 2, 0.42, 0), "resumed by prefilling the answer after 0.42 s"),
        (
            Resumed("replay", 2, 1.0, 1200),
            "resumed by replaying the request after 1.00 s, 1,200 characters received again and left out",
        ),
        (FellBack("a", "b", "no answer"), "warning: fell back from a to b: no answer"),
        (Adapted("idle deadline", "30 s", "12 s", "p99 is 0.4 s"), "adapted idle deadline: 30 s -> 12 s: p99 is 0.4 s"),
    ],
)
def test_what_happens_to_the_run_is_one_line(event: Event, line: str) -> None:
    assert printed([event]) == [line]
    assert printed([event], quiet=True) == []


@pytest.mark.parametrize(
    "event",
    [
        Opened("t", "m", 1),
        TextDelta("secret"),
        ReasoningDelta("secret"),
        Usage(1, 2, 3),
        Finished("stop"),
        Flagged("toxicity", 0, 4),
        Redacted("email", "[EMAIL]", 3),
        Blocked("r"),
    ],
)
def test_other_events_have_no_line_of_their_own(event: Event) -> None:
    assert printed([event]) == []


def test_the_guard_is_counted_at_the_end() -> None:
    events: list[Event] = [Flagged("t", 0, 1), Redacted("email", "x", 0), Flagged("t", 3, 4), Flagged("a", 3, 4)]
    assert printed(events, report()) == ["hidden: email 1", "flagged: a 1, t 2"]
    assert printed(events, report(), quiet=True) == []


HINTED = Unreachable("cannot connect to http://127.0.0.1:9", hint="is the server running?")
ENDS: list[tuple[str, RunReport, list[str], bool]] = [
    ("complete", report(), [], False),
    (
        "token limit",
        report(finish_reason="length"),
        ["the answer ends at the token limit (finish_reason length); --max-tokens raises it"],
        False,
    ),
    ("other reason", report(finish_reason="tool_calls"), ["the answer ends with finish_reason tool_calls"], False),
    ("no reason needed", report(finish_reason=None), [], False),
    ("empty", report(text=""), ["warning: the answer is empty (finish_reason stop)"], False),
    (
        "unavailable",
        report(text="", outcome="unavailable", error=HINTED),
        ["error: cannot connect to http://127.0.0.1:9", "hint: is the server running?"],
        True,
    ),
    (
        "no hint",
        report(text="", outcome="unavailable", error=RateLimited("too many\nrequests")),
        ["error: too many requests"],
        True,
    ),
    (
        "incomplete",
        report(
            text="x" * 1234, outcome="incomplete", error=StreamTruncated("the stream ended early", hint="try again")
        ),
        ["error: the stream ended early (incomplete: 1,234 characters of the answer shown)", "hint: try again"],
        True,
    ),
    (
        "simulated",
        report(outcome="unavailable", text="", error=FAKED),
        ["error: the connection was reset (simulated)"],
        True,
    ),
    ("rejected", report(text="", outcome="rejected", error=PromptRejected("no")), ["error: no"], True),
    ("validator", report(outcome="blocked", error=AnswerBlocked("not JSON")), ["error: not JSON"], True),
    ("blocked", report(outcome="blocked"), ["blocked: a rule stopped the answer; 5 characters shown"], True),
    (
        "cancelled",
        report(outcome="cancelled", error=Cancelled("Ctrl-C", hint="x")),
        ["cancelled: 5 characters of the answer shown"],
        True,
    ),
    (
        "terminated",
        report(text="", outcome="cancelled", error=Terminated("SIGTERM")),
        ["terminated: 0 characters of the answer shown"],
        True,
    ),
    ("reader gone", report(outcome="cancelled", error=OutputClosed("stdout")), [], True),
]


@pytest.mark.parametrize(("end", "lines", "stays"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS])
def test_the_end_of_a_run_is_at_most_two_lines(end: RunReport, lines: list[str], stays: bool) -> None:
    assert printed([], end) == lines
    assert printed([], end, quiet=True) == (lines if stays else [])


def test_a_blocking_rule_is_named() -> None:
    lines = printed([Blocked("secrets.key")], report(outcome="blocked", text=""))
    assert lines == ["blocked: rule 'secrets.key' stopped the answer; 0 characters shown"]


def test_text_of_others_in_a_line_is_harmless() -> None:
    assert printed([FellBack("a", "b", "server said \x1b[2J\nno")]) == [
        "warning: fell back from a to b: server said \\x1b[2J no"
    ]


def test_only_the_label_of_an_error_is_coloured() -> None:
    end = report(text="", outcome="unavailable", error=HINTED)
    assert printed([], end, color=True) == [
        "\x1b[1;31merror:\x1b[0m cannot connect to http://127.0.0.1:9",
        "\x1b[36mhint:\x1b[0m is the server running?",
    ]
    assert printed([Retrying(2, 0.5, LOST)], color=True) == [
        "\x1b[2mretrying: attempt 2 in 0.50 s: the connection was reset\x1b[0m"
    ]
