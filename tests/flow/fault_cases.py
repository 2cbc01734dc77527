"""Which fault comes where, at which target, how often, and how that has to end. Data; nothing here runs anything.

The expectations are written down from the README's table of failures and from the table of exit codes, not taken from
the code under test: what a fault is called, which exit code it has before any text (after it: 3), and whether the same
target (`retried`), only another one (`final`) or nobody (`refused`) is asked after it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.support.continuing_server import Answer

__all__ = ["NOT_APPLICABLE", "PLACES", "VARIANTS", "WAIT_S", "Case", "Ending", "cases"]

Place = Literal["before headers", "before first content", "mid-stream", "at the end"]
When = Literal["first", "every", "again"]
"""In the first attempt only; in all attempts; in the attempt that goes on with an answer that was cut by a reset."""
Mode = Literal["replay", "words", "fallback"]
"""One target that repeats itself; one that is asked in words to go on; one of either with a good one behind it."""
After = Literal["retried", "final", "refused", "borne"]

PLACES: tuple[Place, ...] = ("before headers", "before first content", "mid-stream", "at the end")
WAIT_S = 0.6
"""The deadlines of runs whose fault is a silence. All others have `PATIENCE_S`, which they must not need."""
PATIENCE_S = 8.0
TAIL_S = 2.0
"""How long usage and `[DONE]` may still take when the answer is known to be whole."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A fault as plans write it, without its place: *spec*, and *options* that stand behind the place.

    *code*: its error with nothing of the body, with events but no text, and with text before it; "" if there is none.
    *exit_code*: before any text; after it, it is 3. *waits_s*: how long an attempt is kept waiting by it (`WAIT_S`:
    until the deadline).
    """

    spec: str
    code: tuple[str, str, str]
    exit_code: int = 69
    after: After = "retried"
    waits_s: float = 0.0
    options: str = ""


def _one(
    spec: str,
    code: str,
    exit_code: int = 69,
    after: After = "retried",
    *,
    waits_s: float = 0.0,
    options: str = "",
) -> Variant:
    return Variant(spec, (code, code, code), exit_code, after, waits_s, options)


def _borne(spec: str, waits_s: float = 0.0) -> Variant:
    return _one(spec, "", 0, "borne", waits_s=waits_s)


_ENDS = ("not_a_stream", "stream_truncated", "stream_truncated")
_SILENCE = ("first_token_timeout", "first_token_timeout", "idle_timeout")
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "refused": (_one("refused", "unreachable"),),
    "dns": (_one("dns", "unreachable"),),
    "tls": (_one("tls", "unreachable"),),
    "connect_timeout": (
        _one("connect_timeout", "unreachable", waits_s=WAIT_S),
        _one("connect_timeout=0.03", "unreachable", waits_s=0.03),
    ),
    "read_timeout": (
        _one("read_timeout", "first_token_timeout", waits_s=WAIT_S),
        _one("read_timeout=0.03", "idle_timeout", waits_s=0.03),
    ),
    "status": (
        _one("status=408", "server_failure"),
        _one("status=409", "server_failure"),
        _one("status=500", "server_failure"),
        _one("status=502", "server_failure"),
        _one("status=503", "server_failure", waits_s=0.06, options=" retry-after-ms=50"),
        _one("status=504", "server_failure", options=" retry-after=0"),
        _one("status=529", "server_failure"),
        _one("status=500", "server_failure", after="final", options=" should-retry=false"),
        _one("status=503", "server_failure", after="final", options=" retry-after=31"),
        _one("status=429", "rate_limited", 75),
        _one("status=429", "rate_limited", 75, waits_s=0.04, options=" retry-after=0.03"),
        _one("status=429", "rate_limited", 75, "final", options=" retry-after=120"),
        _one("status=429", "rate_limited", 75, "final", options=" should-retry=false"),
        _one("status=401", "auth_failed", 77, "final"),
        _one("status=403", "auth_failed", 77, "final"),
        _one("status=404", "model_not_found", 78, "final"),
        _one("status=307", "server_failure", after="final"),
        _one("status=400", "request_refused", 65, "refused"),
        _one("status=413", "request_refused", 65, "refused"),
        _one("status=422", "request_refused", 65, "refused"),
    ),
    "quota": (
        _one("quota", "auth_failed", 77, "final"),
        _one("quota", "auth_failed", 77, "final", options=" retry-after=1"),
    ),
    "html": (_one("html", "not_a_stream"),),
    "json": (_one("json", "not_a_stream"),),
    "empty": (_one("empty", "not_a_stream"),),
    "cut": (Variant("cut", _ENDS),),
    "reset": (_one("reset", "connection_lost"),),
    "incomplete": (_one("incomplete", "connection_lost"),),
    "stall": (
        Variant("stall", _SILENCE, waits_s=WAIT_S),
        _borne("stall=0.05", 0.05),
        Variant("stall=30", _SILENCE, waits_s=WAIT_S),
    ),
    "drip": (
        Variant("drip=20", _SILENCE, waits_s=WAIT_S),
        _borne("drip=50000", 0.5),
        Variant("drip=3", _SILENCE, waits_s=WAIT_S),
    ),
    "onebyte": (_borne("onebyte"),),
    "garbage": (_one("garbage", "protocol_error"),),
    "garbage_line": (_borne("garbage_line"),),
    "null_event": (_one("null_event", "protocol_error"),),
    "invalid_utf8": (_one("invalid_utf8", "protocol_error"),),
    "duplicate": (_borne("duplicate"),),
    "error_object": (
        _one("error_object", "server_failure"),
        _one("error_object=overloaded_error", "server_failure"),
        _one("error_object=rate_limit_exceeded", "rate_limited", 75),
        _one("error_object=insufficient_quota", "auth_failed", 77, "final"),
        _one("error_object=server_error", "server_failure"),
    ),
    "early_done": (Variant("early_done", _ENDS),),
    "no_done": (_borne("no_done"),),
    "no_finish": (_one("no_finish", "stream_truncated"),),
    "content_type": tuple(
        _one(f"content_type={kind}", "not_a_stream")
        for kind in ("text/plain", "text/html", "application/json", "application/x-ndjson", "text/event-streams")
    ),
}

_BEFORE_HEADERS = (
    *("refused", "dns", "tls", "connect_timeout", "read_timeout"),
    *("status", "quota", "html", "json", "empty", "content_type"),
)
_ONLY_PLACE: dict[str, Place] = {
    **dict.fromkeys(_BEFORE_HEADERS, "before headers"),
    "onebyte": "before first content",
    "no_finish": "at the end",
    "no_done": "at the end",
}
"""Faults without a choice: these of one byte per chunk begin with the body; the others change what ends it."""
NOT_APPLICABLE: dict[str, tuple[Place, ...]] = {
    kind: tuple(p for p in PLACES if (p != _ONLY_PLACE[kind] if kind in _ONLY_PLACE else p == "before headers"))
    for kind in VARIANTS
}
"""Places where a kind of fault cannot come."""


# -- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """One way in which a run may end. *text* None: any beginning of the whole one that is not empty."""

    exit_code: int
    code: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One run: the answer, the plan of its failures, and what may come of it."""

    name: str
    kind: str
    place: Place
    plan: str
    mode: Mode
    is_deterministic: bool
    retries: int
    max_tokens: int | None
    deadline_s: float
    limit_s: float
    """All the time that the deadlines leave to it."""
    answer: Answer
    endings: tuple[Ending, ...]
    is_borne: bool
    """Whether the first attempt is to be the only one."""
    duplicates: int
    """How many doubled events are to be shown and flagged."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place in the body: *shown* is the text before it, *is_after_finish* whether the answer is known to be whole."""

    place: Place
    at: str
    shown: str = ""
    events: int = 0
    is_after_finish: bool = False
    max_tokens: int | None = None
    doubled: str = ""
    """The text of the event that stands before it."""


def cases(seed: int) -> Iterator[Case]:
    """All cases of *seed*: every kind at every place where it can come, for every target, once and for ever."""
    rng = random.Random(seed)
    answer = _answer(seed)
    for kind, variants in VARIANTS.items():
        # Five seeds play them all.
        chosen = variants[seed % 5 :: 5] or (variants[seed % len(variants)],)
        for variant in chosen:
            for spot in _spots(kind, answer, seed, rng):
                for mode in ("replay", "words", "fallback"):
                    for when in ("first", "every", "again"):
                        if when != "again" or (spot.place in PLACES[:2] and variant.after != "borne"):
                            yield _case(kind, variant, spot, mode, when, answer, seed)


def _spots(kind: str, answer: Answer, seed: int, rng: random.Random) -> Iterator[_Spot]:
    pieces, body = answer.pieces(), answer.events()
    count = len(pieces)
    if kind in _ONLY_PLACE:
        yield _Spot(_ONLY_PLACE[kind], "", answer.text if kind == "no_finish" else "")
        return
    if kind == "duplicate":
        yield _Spot("before first content", "@0%", events=1)
    else:
        yield _Spot("before first content", rng.choice(("@0e", "@0b", "@0%")))
    yield _Spot("before first content", rng.choice(("@1e", f"@{len(body[0])}b")), events=1)
    # Three characters at least, or it could be two equal tokens.
    middle = [n for n in range(count // 3, 2 * count // 3) if len(pieces[n - 1].strip()) >= 3]
    number = rng.choice(middle)
    before, doubled = "".join(pieces[:number]), pieces[number - 1]
    size = len(b"".join(body[: 1 + number]))
    places: list[tuple[str, int | None]] = [(f"@{1 + number}e", None), (f"@{size}b", None)]
    if count < 100:
        # Rounded down, as the plan's own count rounds up.
        places.append((f"@{100 * (1 + number) // count}%", count))
    at, max_tokens = places[seed % len(places)]
    if at.endswith("%") and -(-count * int(at[1:-1]) // 100) != 1 + number:
        at, max_tokens = f"@{1 + number}e", count
    yield _Spot("mid-stream", at, before, 1 + number, False, max_tokens, doubled)
    # Of longer answers only a hundred events are expected.
    last = rng.choice((f"@{1 + count}e", "@100%" if count < 100 else f"@{1 + count}e"))
    yield _Spot("at the end", last, answer.text, 1 + count, doubled=pieces[-1])
    done = rng.choice((2 + count, len(body) - 1))
    yield _Spot("at the end", f"@{done}e", answer.text, done, is_after_finish=True)


def _case(kind: str, variant: Variant, spot: _Spot, mode: Mode, when: When, answer: Answer, seed: int) -> Case:
    is_deterministic = mode == "replay" or (mode == "fallback" and bool(seed % 2))
    retries = {"first": 1 + seed % 2, "every": seed % 3, "again": 2}[when]
    if mode == "fallback" and when == "first":
        retries = seed % 2
    fault = f"{variant.spec}{spot.at}{variant.options}"
    cut = f"reset@{2 + len(answer.pieces()) // 2}e"
    plan = {"first": fault, "every": f"{fault} forever", "again": f"{cut}, {fault}"}[when]
    is_doubled = kind == "duplicate" and len(spot.doubled.strip()) >= 3
    is_borne = variant.after == "borne" or spot.is_after_finish
    if is_borne:
        text = answer.text
        if is_doubled:
            text = spot.shown + spot.doubled + answer.text[len(spot.shown) :]
        endings: tuple[Ending, ...] = (Ending(0, text=text),)
    else:
        endings = _endings(variant, spot, mode, when, answer.text, retries, is_deterministic=is_deterministic)
    tail_s = TAIL_S if spot.is_after_finish and variant.waits_s >= WAIT_S else 0.0
    return Case(
        name=f"seed {seed}, {kind} {spot.place}, {mode}, {when}",
        kind=kind,
        place=spot.place,
        plan=plan,
        mode=mode,
        is_deterministic=is_deterministic,
        retries=retries,
        max_tokens=spot.max_tokens,
        deadline_s=WAIT_S if variant.waits_s == WAIT_S else PATIENCE_S,
        limit_s=variant.waits_s * (1 + retries) + tail_s,
        answer=answer,
        endings=endings,
        is_borne=is_borne,
        duplicates=int(is_doubled),
    )


def _endings(
    variant: Variant, spot: _Spot, mode: Mode, when: When, whole: str, retries: int, *, is_deterministic: bool
) -> tuple[Ending, ...]:
    """How a run may end whose fault breaks an attempt."""
    complete = Ending(0, text=whole)
    asks_in_words = mode == "words" or (mode == "fallback" and not is_deterministic)
    code = variant.code[2 if spot.shown else min(spot.events, 1)]
    if when == "again":
        if variant.after == "retried":
            return (complete,)
        if mode == "fallback" and (variant.after == "final" or asks_in_words):
            # Refused is only the request to go on, which another target may take.
            return (complete,)
        if variant.after == "refused" and asks_in_words:
            return (Ending(3, "resume_diverged"),)
        return (Ending(3, code),)
    if variant.after == "retried" and when == "first" and retries:
        return (complete,)
    if mode == "fallback" and variant.after != "refused":
        return (complete,)
    if not spot.shown:
        return (Ending(variant.exit_code, code, ""),)
    failed = Ending(3, code, spot.shown if spot.at[-1:] != "b" else None)
    if not asks_in_words or not retries:
        return (failed,)
    # The rest is shorter than the answer: the fault may come earlier in it, or not any more. What the second attempt
    # brought before it broke may have been held for the seam, or have been no text at all.
    return (complete, *(Ending(3, said) for said in dict.fromkeys(variant.code)))


# -- answers ---------------------------------------------------------------------------------------------------------

_PROSE = (
    "The harbour of {a} was built in {n}, long before the railway came to {b}.",
    "Nobody in {b} remembers who planted the {n} lime trees along the river.",
    "A café near the bridge still sells the soup for which {a} was once famous.",
    "When it rains, the market moves into the old hall behind the theatre of {a}.",
    "Its windows were broken {n} times, and each time other hands repaired them.",
    "Travellers who came from {b} brought salt, glass and a great many stories.",
)
_LINES = (
    "Check that the valve at {a} is closed before anybody opens the tank.",
    "Write down the pressure; {n} is the most that this pipe can bear.",
    "Call the office in {b}, and wait until somebody has answered.",
    "Turn the wheel slowly, a quarter each minute, until the bell rings.",
    "Look at the level once more, then lock the door and bring back the key.",
)
_CODE = (
    "def load_{n}(path):\n    rows = read(path, limit={n})\n    return [row.strip() for row in rows]\n",
    "def merge_{n}(first, second):\n    for key, value in second.items():\n        first.setdefault(key, value)\n",
    "class Town{n}:\n    name = '{a}'\n\n    def road(self):\n        return '{b}'\n",
)
_GERMAN = (
    "Der Bürgermeister von {a} eröffnete am {n}. Tag die neue Straße nach {b}.",
    "Über den Fluss führt seit {n} Jahren eine Brücke aus grünem Holz.",
    "Größere Schiffe müssen deshalb draußen warten, bis das Wasser steigt.",
    "Am Abend hört man in {b} die Glocken, wenn der Wind von Süden weht.",
)
_CHINESE = (
    "{a}的港口建于{n}年，比铁路早了很多年。",  # noqa: RUF001
    "河边的{n}棵树是谁种的，现在已经没有人记得了。",  # noqa: RUF001
    "下雨的时候，市场就搬到剧院后面的旧大厅里去。",  # noqa: RUF001
    "从{b}来的旅客带来了盐、玻璃和许多故事。",
    "晚上风从南边吹来，人们能听见远处的钟声。",  # noqa: RUF001
)
_NAMES = ("Lisbon", "Tromsø", "Valparaíso", "Kyoto", "Gdańsk", "Mombasa", "Quito")


def _answer(seed: int) -> Answer:
    """What is answered with *seed*: the kind of text, its words, pieces and frames."""
    rng = random.Random(f"server {seed}")
    sizes = ((1, 9), (3, 12), (2, 6), (1, 20), (1, 4))[seed % 5]
    frames = (None, (1, 40), (200, 900), None, (5_000, 9_000))[seed % 5]
    return Answer(_text(seed, rng), sizes=sizes, frames=frames, has_usage=seed % 2 == 0, seed=seed)


def _text(seed: int, rng: random.Random) -> str:
    lines = [*(_PROSE, _LINES, _CODE, _GERMAN, _CHINESE)[seed % 5]]
    rng.shuffle(lines)
    # No two numbers are equal, so that no two sentences are.
    numbers = rng.sample(range(12, 999), len(lines))
    filled = [
        line.format(a=(names := rng.sample(_NAMES, 2))[0], b=names[1], n=n)
        for line, n in zip(lines, numbers, strict=True)
    ]
    match seed % 5:
        case 1:
            return "Do this:\n\n" + "\n".join(f"{n}. {line}" for n, line in enumerate(filled, 1)) + "\n\nThat is all."
        case 2:
            return "Here it is:\n\n```python\n" + "\n".join(filled) + "```\n\nCall `load` first."
        case 3:
            return "\n\n".join(" ".join(filled[at : at + 2]) for at in range(0, len(filled), 2))
        case 4:
            return "".join(filled)
        case _:
            return " ".join(filled)
