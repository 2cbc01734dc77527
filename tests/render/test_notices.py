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
    ValidationFailed,
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
    events: list[Event],
    end: RunReport | None = None,
    *,
    quiet: bool = False,
    color: bool = False,
    width: int | None = None,
    new_start: str = "",
) -> list[str]:
    lines: list[str] = []
    sink = NoticeSink(lines.extend, quiet=quiet, color=color, width=lambda: width, new_start=new_start)
    for event in events:
        sink.handle(event, 0.0)
    if end is not None:
        sink.finish(end)
    sink.close()
    return lines


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Retrying(2, 0.5, LOST), "retrying (attempt 2) in 0.5 s: the connection was reset"),
        (Retrying(3, 12.4, FAKED), "retrying (attempt 3) in 12 s: the connection was reset (simulated)"),
        (Retrying(2, 0.0123, LOST), "retrying (attempt 2) in 12 ms: the connection was reset"),
        (Interrupted(LOST, 120), "interrupted after 120 characters: the connection was reset"),
        (Interrupted(FAKED, 1), "interrupted after 1 character: the connection was reset (simulated)"),
        (Resumed("prefill", 2, 0.42, 0), "resumed by prefilling the answer after 0.4 s"),
        (
            Resumed("replay", 2, 1.0, 1200),
            "resumed by replaying the request after 1.0 s, 1,200 characters received again and left out",
        ),
        (Adapted("idle deadline", "30 s", "12 s", "p99 is 0.4 s"), "adapted idle deadline: 30 s -> 12 s: p99 is 0.4 s"),
    ],
)
def test_what_happens_to_the_run_is_one_line(event: Event, line: str) -> None:
    assert printed([event]) == [line]
    assert printed([event], quiet=True) == []


def test_another_model_than_the_one_asked_for_is_told_even_to_who_wants_quiet() -> None:
    for quiet in (False, True):
        lines = printed([FellBack("a", "b", "no answer")], quiet=quiet)
        assert lines == ["warning: fell back from a to b: no answer"]


def test_a_cause_is_told_once_and_once_more_if_it_ends_the_run() -> None:
    again = ConnectionLost("the connection was reset")
    other = Unreachable("connection refused")
    events: list[Event] = [
        Interrupted(LOST, 120), Retrying(2, 0.2, LOST), Interrupted(again, 120), Retrying(3, 0.4, again),
        Retrying(4, 0.8, other), Retrying(5, 1.6, other), Retrying(6, 1.6, Unreachable("connection refused")),
    ]  # fmt: skip
    end = report(text="x" * 120, outcome="incomplete", error=other)
    assert printed(events, end) == [
        "interrupted after 120 characters: the connection was reset",
        "retrying (attempt 2) in 0.2 s",
        "interrupted after 120 characters: the same failure again",
        "retrying (attempt 3) in 0.4 s",
        "retrying (attempt 4) in 0.8 s: connection refused",
        "retrying (attempt 5) in 1.6 s",
        "retrying (attempt 6) in 1.6 s: the same failure again",
        "error: connection refused (incomplete: 120 characters of the answer shown)",
    ]


def test_a_simulated_cause_reads_as_simulated_exactly_once() -> None:
    marked = ConnectionLost("simulated: the connection was reset", simulated=True)
    for cause in (FAKED, marked):
        events: list[Event] = [Interrupted(cause, 3), Retrying(2, 0.2, cause)]
        (first, second) = printed(events)
        assert (first.count("simulated"), second.count("simulated")) == (1, 0)
        (end,) = printed([], report(text="", outcome="unavailable", error=cause))
        assert end.count("simulated") == 1


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


def caught(counts: dict[str, int], action: str | None = "hidden", **figures: object) -> dict[str, object]:
    """The figures of a guard with *counts* of findings."""
    findings = [{"rule": rule, "count": count, "action": action} for rule, count in counts.items()]
    return {"findings": findings, "held_max_chars": 0, "held_mean_chars": 0.0, **figures}


def test_the_guard_is_counted_at_the_end() -> None:
    events: list[Event] = [Flagged("t", 0, 1), Redacted("email", "x", 0), Flagged("t", 3, 4), Flagged("a", 3, 4)]
    end = report(guard={"prompt": [], "answer": caught({"email": 1})})
    lines = ["hidden: email", "flagged: a, t (2 times)"]
    assert printed(events, end) == lines
    assert printed(events, end, quiet=True) == []


def test_what_was_hidden_stands_with_how_long_text_was_held() -> None:
    held = {"held_max_chars": 27, "held_mean_chars": 3.14, "held_mean_s": 0.0081, "held_max_s": 0.42}
    answer = caught({"pii.email": 2, "secrets.openai": 1}, **held)
    assert printed([], report(guard={"answer": answer, "reasoning": caught({"own_key": 1})})) == [
        "hidden: pii.email (2 times), secrets.openai",
        "held: 3.1 characters on average, at most 27, for 8 ms on average, at most 0.4 s",
        "hidden in the reasoning: own_key",
    ]


def test_who_judged_is_told_if_the_endpoint_did_not_judge_all() -> None:
    toxicity = {"classifier": "openai", "judged_remotely": 1200, "judged_locally": 3, "failures": 1}
    assert printed([], report(guard={"toxicity": toxicity})) == [
        "toxicity: 1,200 of the sentences judged by openai, 3 on this machine after 1 failed call"
    ]
    assert printed([], report(guard={"toxicity": {**toxicity, "failures": 0}})) == []
    assert printed([], report(guard={"toxicity": {"mode": "flag", "windows": 3}})) == []


@pytest.mark.parametrize("action", ["flagged", "blocked", None])
def test_only_what_was_hidden_is_told_as_hidden(action: str | None) -> None:
    assert printed([], report(guard={"answer": caught({"email": 1}, action, held_max_chars=3)})) == []


@pytest.mark.parametrize(
    ("event", "count", "line"),
    [
        (
            Flagged("duplicated_event", 0, 1),
            21,
            "flagged: 21 events like the one before them (the server may have sent text twice)",
        ),
        (
            Flagged("duplicated_event", 0, 1),
            1,
            "flagged: 1 event like the one before it (the server may have sent text twice)",
        ),
        (Flagged("refusal", 0, 1), 1, "flagged: the model refused"),
    ],
)
def test_a_known_rule_has_words_of_its_own(event: Event, count: int, line: str) -> None:
    assert printed([event] * count, report()) == [line]


def test_what_the_token_limit_left_held_is_told() -> None:
    end = report(finish_reason="length", guard={"answer": caught({}, dropped_chars=9)})
    assert printed([], end)[1:] == ["9 characters of what might have become a match are not shown"]


def test_what_the_prompt_guard_noticed_is_not_told_twice() -> None:
    assert printed([Flagged("prompt.pii.email", 0, 9)], report()) == []


def test_an_answer_that_is_asked_for_again_is_no_failed_connection() -> None:
    cause = ValidationFailed("the answer is not valid: regex: expected 'n' at character 1")
    events: list[Event] = [Retrying(2, 0.0, cause), Retrying(3, 0.0, ValidationFailed(cause.message))]
    assert printed(events, report()) == [
        f"asked again (attempt 2): {cause.message}",
        "asked again (attempt 3): the same failure again",
    ]


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
        "\x1b[2mretrying (attempt 2) in 0.5 s: the connection was reset\x1b[0m"
    ]


def test_on_a_terminal_a_notice_is_cut_between_words_and_coloured_row_by_row() -> None:
    end = report(text="", outcome="unavailable", error=HINTED)
    assert printed([Interrupted(LOST, 120)], end, width=24) == [
        "interrupted after 120",
        "  characters: the",
        "  connection was reset",
        "error: cannot connect to",
        "  http://127.0.0.1:9",
        "hint: is the server",
        "  running?",
    ]
    assert printed([Retrying(2, 0.5, LOST)], width=24, color=True) == [
        "\x1b[2mretrying (attempt 2) in\x1b[0m",
        "\x1b[2m  0.5 s: the connection\x1b[0m",
        "\x1b[2m  was reset\x1b[0m",
    ]


def test_only_the_notice_of_a_stop_starts_its_row_anew() -> None:
    stopped = report(outcome="cancelled", error=Cancelled("Ctrl-C"))
    assert printed([Retrying(2, 0.5, LOST)], stopped, new_start="\r", color=True) == [
        "\x1b[2mretrying (attempt 2) in 0.5 s: the connection was reset\x1b[0m",
        "\r\x1b[33mcancelled:\x1b[0m 5 characters of the answer shown",
    ]
