"""The events of a run in words, and the list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from utils.render.figures import counted, duration
from utils.report.figures import known, part
from utils.report.markup import Html, code, sentence, tag, text

__all__ = ["ENDS", "KINDS", "cause_of", "event_list", "words"]

Event = Mapping[str, Any]

ENDS = ("finished", "blocked", "aborted")
KINDS = {
    "opened": "opened",
    "redacted": "guard",
    "flagged": "guard",
    "interrupted": "failure",
    "retrying": "retry",
    "resumed": "resume",
    "fell_back": "fallback",
    "breaker_changed": "breaker",
    "adapted": "adapted",
    "usage": "usage",
    **dict.fromkeys(ENDS, "end"),
}
"""Types of events, and the word for their kind; markers of a kind share a row of the timeline."""

_STRATEGIES = {
    "replay": "by replaying the request",
    "prefill": "by prefilling the answer",
    "continue": "by asking to continue",
    "restart": "by starting again",
}
_OWN_MEMBERS = ("type", "t_s")


def words(event: Event) -> Html:
    """What happened; of a type that is not known, its members as they are."""
    get = event.get
    match event.get("type"):
        case "opened":
            return sentence("first data from ", code(get("target")), _of_model(get("model")), _attempt(get("attempt")))
        case "redacted":
            shown = counted(len(str(get("replacement") or "")), "character")
            return sentence(code(get("rule")), f" hid text; {shown} shown in its place")
        case "flagged":
            place = f"{_number(get('raw_start'))} to {_number(get('raw_end'))}"
            return sentence(code(get("rule")), f" noticed characters {place}; they stay visible")
        case "interrupted":
            return sentence(f"the stream failed after {_characters(get('chars'))}: ", cause_of(get("cause")))
        case "retrying":
            attempt, delay = _number(get("attempt")), duration(known(get("delay_s")))
            return sentence(f"attempt {attempt} starts after {delay}: ", cause_of(get("cause")))
        case "resumed":
            how = _STRATEGIES.get(str(get("strategy"))) or str(get("strategy"))
            repeated = known(get("overlap_chars"))
            again = f", {_characters(repeated)} received again and left out" if repeated else ""
            gap = duration(known(get("gap_s")))
            return text(f"the answer goes on {how} after {gap} without text{again}")
        case "fell_back":
            return sentence(code(get("to_target")), " answers in the place of ", code(get("from_target")))
        case "breaker_changed":
            return _breaker(event)
        case "adapted":
            change = sentence(": ", code(get("before")), " to ", code(get("after")))
            return sentence(code(get("what")), change, f" ({get('reason') or 'no reason recorded'})")
        case "usage":
            prompt, answer = _number(get("prompt_tokens")), _number(get("completion_tokens"))
            return text(f"the server counted {prompt} tokens of the prompt and {answer} of the answer")
        case "finished":
            return sentence("the server ended the answer, finish_reason ", code(get("finish_reason")))
        case "blocked":
            return sentence("the rule ", code(get("rule")), " stopped the answer")
        case "aborted":
            return sentence("the run ended: ", cause_of(get("error")))
        case _:
            members = (f"{key}={value}" for key, value in event.items() if key not in _OWN_MEMBERS)
            return text(" ".join(members))


def cause_of(error: Any) -> Html:
    """The code of an error, and its message where it was kept; both are foreign words."""
    if not isinstance(error, Mapping):
        return code(error) if error else text("no cause recorded")
    simulated = " (simulated)" if error.get("simulated") else ""
    message = error.get("message")
    return sentence(code(error.get("code")), f": {message}" if message else "", simulated)


def event_list(events: Sequence[Event], left_out: int) -> Html:
    """All events, one line each, equal ones that follow each other in one line; *left_out* were not kept."""
    lines: list[Html] = []
    index = 0
    gap_at = len(events) // 2 if left_out else -1
    while index < len(events):
        if index == gap_at:
            lines.append(_line("", "…", f"{counted(left_out, 'event')} between these were not kept"))
        event = events[index]
        stop = index + 1
        while stop < len(events) and stop != gap_at and _is_like(event, events[stop]):
            stop += 1
        last = events[stop - 1]
        times = stop - index
        more = f" ({times:,} times, until {_time(last)})" if times > 1 else ""
        lines.append(_line(_time(event), KINDS.get(str(event.get("type")), ""), sentence(words(event), more)))
        index = stop
    return tag("ol", *lines, class_="events")


def _line(at: str, kind: str, said: str) -> Html:
    cells = (("at", at), ("kind", kind), ("words", said))
    return tag("li", *(tag("span", content, class_=name) for name, content in cells))


def _is_like(one: Event, other: Event) -> bool:
    """A mask is shown character by character: hundreds of events that differ in their place only."""
    if one.get("type") != "redacted" or other.get("type") != "redacted":
        return False
    return one.get("rule") == other.get("rule") and one.get("replacement") == other.get("replacement")


def _breaker(event: Event) -> Html:
    get = event.get
    states = (str(get(name) or "unknown").replace("_", "-") for name in ("before", "after"))
    open_for = known(get("open_for_s"))
    until = f" for {duration(open_for)}" if open_for else ""
    return sentence(
        "circuit breaker of ", code(get("target")), f": {' to '.join(states)}", until, f" ({get('reason')})"
    )


def _of_model(model: Any) -> Html:
    return sentence(", model ", code(model)) if model else Html("")


def _attempt(attempt: Any) -> str:
    return f", attempt {_number(attempt)}" if known(attempt) is not None else ""


def _characters(value: Any) -> str:
    number = known(value)
    return "an unknown number of characters" if number is None else counted(int(number), "character")


def _number(value: Any) -> str:
    number = known(value)
    return "n/a" if number is None else f"{number:,.0f}"


def _time(event: Event) -> str:
    t_s = known(part(event).get("t_s"))
    return "n/a" if t_s is None else f"{t_s:.3f} s"
