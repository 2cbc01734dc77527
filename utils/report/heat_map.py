"""The answer with the model's confidence: in its text where that was kept, else as blocks in its order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from utils.render.figures import counted, duration
from utils.report.figures import Glossary, count, figure, known, na, part, table
from utils.report.markup import Html, TextBudget, joined, sentence, tag, text
from utils.report.pieces import LIMITS, Piece, grouped, pieces_of, steps_counted, why_no_places
from utils.run_record import RunRecord

__all__ = ["MAX_MARKS", "MAX_TEXT_BYTES", "MAX_TITLED", "answer_part"]

MAX_TEXT_BYTES = 1_800_000
"""Of the answer on the page, escapes included; what is longer is cut, and the page says so."""
MAX_TITLED = 10_000
"""Up to so many pieces each say their own figures when pointed at."""
MAX_MARKS = 50_000
"""Coloured pieces of a text; with more, neighbours share one."""
MAX_BLOCKS = 2_000

_SHOWN_PROBABILITIES = 8
_CAVEAT = (
    "Confidence is how probable the model itself found each token that it chose. It is not the truth of the answer: a "
    "model can be certain and wrong, or unsure how to word what is right."
)
_RANGES = (
    f"{LIMITS[0]:.0%} and more",
    *(f"{low:.0%} to {high:.0%}" for high, low in pairwise(LIMITS)),
    f"under {LIMITS[-1]:.0%}",
)
_LOOKS: dict[int | None, tuple[str, str]] = {
    0: ("plain", "lowest"),
    1: ("dotted", "low"),
    2: ("dashed", "middle"),
    3: ("thick", "high"),
    4: ("double", "highest"),
    None: ("slanted", "flat"),
}
"""What tells the steps apart without colour: how text is underlined, how high a block is."""


def answer_part(record: RunRecord, glossary: Glossary) -> Html:
    """The figures of confidence, the steps with their counts, and the text or the blocks."""
    confidence = part(record.report, "quality", "confidence")
    has_any = any(value is not None for value in record.tokens.probability)
    lowest = part(confidence, "lowest_window")
    is_placed = why_no_places(record) is None
    parts = [_figures(confidence, glossary) if confidence else tag("p", "Confidence: ", na(_why_none(record)))]
    if has_any:
        parts += [tag("p", _CAVEAT, class_="note"), _steps(record, in_text=is_placed)]
    if record.text is not None and not is_placed:
        parts.append(tag("p", f"{why_no_places(record)}.".capitalize(), class_="note"))
    if is_placed and record.text is not None:
        parts.append(_in_text(record, record.text, lowest) if record.text else tag("p", "No text was shown."))
    else:
        parts.append(_as_blocks(record, lowest) if has_any else Html(""))
        parts.append(_plain(record.text) if record.text else Html(""))
    if record.text is None and known(part(record.report, "metrics").get("chars")):
        chars = int(known(part(record.report, "metrics").get("chars")) or 0)
        parts.append(tag("p", "Text: ", na(f"not kept; {counted(chars, 'character')} were shown"), class_="note"))
    return joined(parts)


def _why_none(record: RunRecord) -> str:
    return "the server sent no logprobs" if len(record.tokens) else "no text was shown"


def _figures(confidence: Mapping[str, Any], glossary: Glossary) -> Html:
    mean, lowest = known(confidence.get("mean_logprob")), part(confidence, "lowest_window")
    low = known(lowest.get("mean_logprob"))
    tokens = known(lowest.get("tokens"))
    window = "lowest window" if tokens is None else f"lowest {counted(int(tokens), 'token')} in a row"
    rows: list[tuple[Html, Html]] = [
        (glossary.term("confidence.mean_logprob", "mean probability (geometric)"), _share(mean, is_log=True)),
        (glossary.term("confidence.perplexity", "perplexity"), _two_places(confidence.get("perplexity"))),
        (
            glossary.term("confidence.low_probability_share", "tokens under 50%"),
            _share(known(confidence.get("low_probability_share"))),
        ),
        (glossary.term("confidence.lowest_window", window), sentence(_share(low, is_log=True), _place(lowest))),
        (glossary.term("confidence.tokens", "tokens with a logprob"), count(confidence.get("tokens"))),
    ]
    if known(confidence.get("left_out")):
        rows.append((glossary.term("confidence.left_out", "left out"), count(confidence["left_out"])))
    return tag("dl", *(sentence(tag("dt", name), tag("dd", value)) for name, value in rows), class_="facts")


def _place(lowest: Mapping[str, Any]) -> str:
    start, end = known(lowest.get("start_char")), known(lowest.get("end_char"))
    return "" if start is None or end is None else f", characters {start:,.0f} to {end:,.0f}"


def _share(value: float | None, *, is_log: bool = False) -> Html:
    """As per cent; the markup keeps what the record has."""
    share = math.exp(min(value, 0.0)) if value is not None and is_log else value
    return figure(value, "" if share is None else f"{share:.1%}")


def _two_places(value: Any) -> Html:
    number = known(value)
    return figure(number, "" if number is None else f"{number:,.2f}")


def _steps(record: RunRecord, *, in_text: bool) -> Html:
    counts = steps_counted(record)
    total = sum(counts.values())
    steps = (*range(len(_RANGES)), *([None] if counts[None] else []))
    body = []
    for step in steps:
        words, look = _LOOKS[step]
        class_ = "none" if step is None else f"c{step}"
        block = tag("span", tag("i", class_=class_), class_="blocks")
        key = sentence(tag("span", "abc", class_=f"key {class_}"), " ", words) if in_text else sentence(block, look)
        range_ = "no logprob" if step is None else _RANGES[step]
        body.append([key, text(range_), count(counts[step]), text(f"{counts[step] / total:.1%}")])
    return table(("mark", "probability", "tokens", "share"), body, "Steps of confidence")


def _in_text(record: RunRecord, answer: str, lowest: Mapping[str, Any]) -> Html:
    pieces = pieces_of(record)
    window = _window(lowest)
    is_titled = len(pieces) <= MAX_TITLED
    has_any = any(piece.probabilities for piece in pieces)
    size, looks = _fitting(pieces, window, has_any, _titled if is_titled else _look)
    budget = TextBudget(MAX_TEXT_BYTES)
    shown = Html("".join(_marked(looks, answer, window, budget, is_titled=is_titled)))
    notes = []
    metrics = part(record.report, "metrics")
    if known(metrics.get("redactions")) and known(metrics.get("events_left_out")):
        notes.append("What the guard put there is not set apart: its events were left out of the record. ")
    if any(piece.kind == "hidden" for piece in pieces):
        notes.append("Text in a dashed box was put there by the guard; the model did not write it. ")
    if any(len(piece.probabilities) > 1 for piece in pieces) or size > 1:
        notes.append("Several tokens that came as one piece, or share a mark, take their geometric mean. ")
    if is_titled:
        notes.append(
            "Point at a piece for its probability (p), when it was shown, the time since the piece before (+), and how "
            "long the guard had held it. "
        )
    else:
        each = "Neighbours of one step share a mark" if size < 2 else f"Every {size} pieces share a mark"
        notes.append(f"{each}, since there are {len(pieces):,} pieces; figures of single pieces are left out. ")
    return sentence(
        tag("p", *notes, class_="note"),
        tag("div", shown, class_="answer", dir="auto"),
        _left_out(budget),
    )


def _fitting(
    pieces: Sequence[Piece], window: tuple[int, ...], has_any: bool, look: Callable[[Piece, bool], str]
) -> tuple[int, list[tuple[Piece, str]]]:
    """As few chunks in one as make no more than 50,000 marks, and each piece with its look."""
    size = 1
    while True:
        looks = [(piece, look(piece, has_any)) for piece in grouped(pieces, size, window)]
        if sum(1 for _ in groupby(words for _, words in looks)) <= MAX_MARKS:
            return size, looks
        size += 1


def _marked(
    looks: Iterable[tuple[Piece, str]], answer: str, window: tuple[int, ...], budget: TextBudget, *, is_titled: bool
) -> Iterator[str]:
    """The markup of pieces, the lowest window inside `mark`. Unless titled, neighbours that look alike share a tag."""
    is_open = False
    before = ""
    for piece, look in looks:
        is_inside = bool(window) and window[0] <= piece.start < window[1]
        if before and (is_titled or look != before or is_inside != is_open):
            yield "</i>"
            before = ""
        if is_inside != is_open:
            yield "<mark>" if is_inside else "</mark>"
            is_open = is_inside
        if look and not before:
            yield f"<i{look}>"
        before = look
        yield budget.take(answer[piece.start : piece.end])
        if budget.left_out:
            budget.take(answer[piece.end :])
            break
    yield "</i>" if before else ""
    yield "</mark>" if is_open else ""


def _look(piece: Piece, has_any: bool) -> str:
    """The attributes that say what *piece* is; "" if it needs none. *has_any*: other pieces have probabilities."""
    if piece.kind != "chunk":
        return ' class="hid"' if piece.kind == "hidden" else ""
    if piece.step is None:
        return ' class="none"' if has_any else ""
    return f' class="c{piece.step}"' if piece.step else ""


def _titled(piece: Piece, has_any: bool) -> str:
    title = f' title="{_title(piece)}"' if piece.kind == "chunk" else ""
    return _look(piece, has_any) + title


def _title(piece: Piece) -> str:
    """Only figures of ours: nothing to escape."""
    words = []
    if piece.probabilities:
        shown = [f"{value:.2g}" for value in piece.probabilities[:_SHOWN_PROBABILITIES]]
        words.append(f"p {' '.join(shown)}{' …' if len(piece.probabilities) > _SHOWN_PROBABILITIES else ''}")
    if piece.t_s is not None:
        words.append(f"{piece.t_s:.3f} s")
    if piece.latency_s is not None:
        words.append(f"+{duration(piece.latency_s)}")
    if piece.held_s:
        words.append(f"held {duration(piece.held_s)}")
    return ", ".join(words)


def _as_blocks(record: RunRecord, lowest: Mapping[str, Any]) -> Html:
    pieces = [piece for piece in pieces_of(record) if piece.kind == "chunk"]
    window = _window(lowest)
    size = math.ceil(len(pieces) / MAX_BLOCKS)
    blocks = []
    for piece in grouped(pieces, size, window):
        step = piece.step
        is_low = bool(window) and window[0] <= piece.start < window[1]
        names = f"{'none' if step is None else f'c{step}'}{' low' if is_low else ''}"
        blocks.append(f'<i class="{names}" title="{_title(piece)}"></i>')
    each = "A block is a piece of the answer" if size < 2 else f"A block is {size} pieces of the answer in a row"
    said = (
        f"{each}, in order; the higher, the less confident the model was. Several tokens in a block take their "
        "geometric mean. The lowest window is underlined."
    )
    spoken = f"{counted(len(blocks), 'block')} of confidence; the table above has their counts"
    drawing = tag("div", Html("".join(blocks)), class_="blocks", role="img", aria_label=spoken)
    return tag("figure", drawing, tag("figcaption", said))


def _window(lowest: Mapping[str, Any]) -> tuple[int, ...]:
    """[start, end) in characters; () if there is none."""
    start, end = known(lowest.get("start_char")), known(lowest.get("end_char"))
    return (int(start), int(end)) if start is not None and end is not None and end > start else ()


def _plain(words: str) -> Html:
    budget = TextBudget(MAX_TEXT_BYTES)
    return sentence(tag("div", budget.take(words), class_="answer", dir="auto"), _left_out(budget))


def _left_out(budget: TextBudget) -> Html:
    if not budget.left_out:
        return Html("")
    return tag("p", f"{counted(budget.left_out, 'more character')} would make the page too large.", class_="note")
