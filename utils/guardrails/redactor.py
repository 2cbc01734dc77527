"""Shows text while it streams and never shows a character that a match on the whole text covers.

Theory of operation. Every character of the raw text is in one of three places: *decided* (shown, or hidden behind a
replacement), *held*, or not received. The boundary between the first two, `_decided`, moves over a stretch of text

- that a known match covers: at once; its run is replaced once, and what touches a shown run is swallowed;
- that no known match covers: as far as the first live position, since from there on a match may still start.

So a character is held only if a live position lies at or before it (see utils/guardrails/scanners.py). Runs are
maximal: touching matches are one run. Its label is the match that ends first, then starts first, then is known without
the character after it, then stands first in the rules. No match that becomes known later can win by that order, so the
label does not depend on how the text was cut. Scanners read folded text; offsets.py leads back to the raw one. A raw
character that folds to nothing has the fate of the one before it.

Actions. The label's rule decides what is shown for a run: its replacement, or a mask for each covered character as it
is covered. A `block` rule ends the stream at the character by which its match is known: what no live position and no
block match holds back by then is shown, the rest is dropped. So that no later character is taken into account, pieces
are cut at that character. A `flag` rule's matches stay; each run is told once nothing can make it longer.

The cap: with more than `HELD_CHARS_MAX` held characters the held text is replaced by `[held text too long]`, and
everything is swallowed up to the first character after which nothing is live. A feed is read in pieces that cannot
cross the cap unseen, so this, too, depends on the text alone.
"""

from __future__ import annotations

from utils.events import Blocked, Flagged, Redacted, TextDelta
from utils.guardrails.compiled import Reader
from utils.guardrails.findings import RANGES_MAX, Findings, GuardStatistics, RuleFindings
from utils.guardrails.flags import FlagRun, Flags
from utils.guardrails.fold import fold
from utils.guardrails.guard import Guard, GuardEvent, GuardStateError
from utils.guardrails.offsets import Offsets
from utils.guardrails.rules import MASK, RuleSet
from utils.guardrails.scanners import NOT_LIVE, Match

__all__ = [
    "HELD_CHARS_MAX",
    "HELD_TEXT_LIMIT",
    "RANGES_MAX",
    "Guard",
    "GuardEvent",
    "GuardStateError",
    "GuardStatistics",
    "Redactor",
    "RuleFindings",
    "cleaned",
    "warm",
]

HELD_CHARS_MAX = 4096
"""Longest text that may be held, in characters; ordinary text holds a word, a domain or a token header."""

HELD_TEXT_LIMIT = "held_text_limit"
"""The rule id of text that was replaced because too much of it was held."""

_TOO_LONG = "[held text too long]"


_Label = tuple[int, int, bool, int]
_NO_LABEL: _Label = (NOT_LIVE, NOT_LIVE, True, NOT_LIVE)


class _Run:
    """A maximal run [start, end) of covered characters that is not decided yet, with its label."""

    __slots__ = ("end", "label", "start")

    def __init__(self, start: int, end: int, label: _Label) -> None:
        self.start = start
        self.end = end
        self.label = label


class Redactor:
    """The guard that does what the rules of *rules* say. Cheap to create: the set is compiled already.

    Invariant: the shown text with each replacement put back is the raw text, up to a block. Time is linear, memory is
    bounded by `HELD_CHARS_MAX` and the state of the rules.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules.rules
        self._hiding = Reader(rules.hiding)
        self._scan = self._hiding.scan
        self._flags = Flags(Reader(rules.flagging))
        self._has_flags = bool(self._flags)
        self._blocking = Reader(rules.blocking)
        self._has_blocks = bool(self._blocking)
        self._offsets = Offsets()
        self._is_even = True  # every raw character folded to one so far: folded positions are raw positions
        self._found: list[Match] = []
        self._held = ""
        self._decided = 0
        self._live = NOT_LIVE  # the first raw live position after what was read last
        self._runs: list[_Run] = []
        self._block: _Label | None = None
        self._block_start = NOT_LIVE
        self._in_shown_run = False  # what was decided last is hidden: text that touches it belongs to the same run
        self._mask_rule = self._mask = ""  # of the run shown last, if it is masked
        self._is_swallowing = False
        self._is_ended = False
        self._text: list[str] = []
        self._events: list[GuardEvent] = []
        self._findings = Findings()
        self._feeds = self._held_sum = self._held_max = self._overflows = self._dropped = 0

    @property
    def held_chars(self) -> int:
        """Characters received, neither shown nor hidden yet."""
        return len(self._held)

    def feed(self, text: str) -> list[GuardEvent]:
        """Read *text*, the next piece of the raw stream; returns what may be shown now, `Blocked` last if it ends.

        Raises: GuardStateError after the end of the stream; any error of a rule. State after a raise: ended, the held
        text dropped, so that nothing more can be shown.
        """
        if self._is_ended:
            raise GuardStateError("feed() after the end of the stream")
        try:
            if len(text) + len(self._held) <= HELD_CHARS_MAX and not (self._has_blocks or self._is_swallowing):
                self._read(text)
            else:
                self._read_in_pieces(text)
        except BaseException:
            self.cancel()
            raise
        held = len(self._held)
        self._feeds += 1
        self._held_sum += held
        if held > self._held_max:
            self._held_max = held
        return self._take_events()

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        """The stream ends: decide what waits for a trailing boundary and release the tail.

        *is_cut*: a limit ended it, so what is live stays a secret that nobody finished: it is dropped.

        Raises: GuardStateError if the stream has ended already; any error of a rule. State afterwards: ended.
        """
        if self._is_ended:
            raise GuardStateError("finish() after the end of the stream")
        try:
            found = self._found
            self._hiding.finish(self._offsets.folded, found)
            self._collect()
            self._tell(self._flags.finish(self._offsets))
            self._release(min(self._block_start, self._live) if is_cut else self._block_start)
            if self._block is not None:
                self._end_blocked(self._block)
            elif is_cut:
                self._drop()
        except BaseException:
            self.cancel()
            raise
        self._is_ended = True
        return self._take_events()

    def cancel(self) -> int:
        """The stream is not whole: drop what is held; the number of characters dropped. May be called again (0)."""
        dropped = len(self._held)
        self._tell(self._flags.close())
        self._drop()
        self._text.clear()
        self._events.clear()
        return dropped

    def statistics(self) -> GuardStatistics:
        """A snapshot of the figures."""
        return GuardStatistics(
            rules=tuple(rule.id for rule in self._rules),
            findings=tuple(self._findings.snapshot()),
            seen_chars=self._decided + len(self._held),
            held_max_chars=self._held_max,
            held_mean_chars=self._held_sum / self._feeds if self._feeds else 0.0,
            overflows=self._overflows,
            dropped_chars=self._dropped,
        )

    def _read_in_pieces(self, text: str) -> None:
        """Read *text* so that neither a block nor the cap is passed unseen."""
        i = 0
        while i < len(text) and not self._is_ended:
            room = 1 if self._is_swallowing else max(1, HELD_CHARS_MAX - len(self._held))
            piece = text[i : i + room]
            if self._has_blocks:
                piece = self._up_to_block(piece)
            self._read(piece)
            i += len(piece)

    def _read(self, piece: str) -> None:
        offsets, found = self._offsets, self._found
        base = offsets.folded
        if piece.isascii():
            folded = piece
            size = len(piece)
            offsets.folded = base + size
            offsets.raw += size
        else:
            folded = self._fold(piece)
        live = self._scan(folded, base, found)
        if live != NOT_LIVE and not self._is_even:
            live = offsets.start(live)
        self._live = live
        self._held += piece
        if found:
            self._collect()
            if self._block_start < live:
                live = self._block_start
        if self._has_flags:
            self._tell(self._flags.read(folded, base, self._offsets))
        if self._runs or self._is_swallowing:
            self._decide(live, len(piece))
        else:
            self._show_until(offsets.raw if live == NOT_LIVE else live)
        if self._block is not None:
            self._end_blocked(self._block)
        elif len(self._held) > HELD_CHARS_MAX:
            self._overflow()
        if not self._is_even:
            offsets.forget(min(self._decided, self._flags.oldest))

    def _fold(self, piece: str) -> str:
        parts = fold(piece)
        folded = "".join(parts)
        if len(folded) == len(parts) and "" not in parts:
            self._offsets.folded += len(parts)
            self._offsets.raw += len(parts)
            return folded
        dropped = next((n for n, part in enumerate(parts) if part), len(parts))
        end = self._offsets.raw
        if dropped and (self._runs[-1].end == end if self._runs else self._in_shown_run and self._decided == end):
            self._add(_Run(end, end + dropped, _NO_LABEL))
        self._flags.extend(end, end + dropped)
        self._is_even = False
        self._offsets.add(parts)
        return folded

    def _up_to_block(self, piece: str) -> str:
        """*piece* up to the character by which a block match is known, if there is one."""
        parts = fold(piece)
        found: list[Match] = []
        self._blocking.scan("".join(parts), self._offsets.folded, found)
        if not found:
            return piece
        missing = min(match.first_end + match.is_late for match in found) - self._offsets.folded
        raw = 0
        while missing > 0:
            missing -= len(parts[raw])
            raw += 1
        return piece[:raw]

    def _decide(self, live: int, length: int) -> None:
        if self._is_swallowing:
            self._is_swallowing = live != NOT_LIVE
            if self._is_swallowing:  # if not, this piece, a single character, is the first that is not swallowed
                self._hide_until(self._decided + len(self._held))
            self._runs = [run for run in self._runs if run.end > self._decided]
        self._release(live)

    def _overflow(self) -> None:
        self._overflows += 1
        start, end = self._decided, self._decided + len(self._held)
        self._flush_text()
        self._events.append(Redacted(HELD_TEXT_LIMIT, _TOO_LONG, start))
        self._findings.note(HELD_TEXT_LIMIT, start, start, grows=True)
        self._mask = ""
        self._in_shown_run = True
        self._hide_until(end)
        self._runs.clear()
        self._is_swallowing = True

    def _collect(self) -> None:
        """Join what the hiding rules found with the runs that are not decided; note a block apart from them."""
        for start, first_end, end, order, is_late in self._found:
            if not self._is_even:
                start, end = self._offsets.start(start), self._offsets.end(end)
            # The raw start: what starts inside one character starts with it, so no label waits for a part of it.
            label = first_end, start, is_late, order
            if self._rules[order].action == "block":
                self._block = min(self._block or _NO_LABEL, label)
                self._block_start = min(self._block_start, start)
            else:
                self._add(_Run(start, end, label))
        self._found.clear()

    def _add(self, run: _Run) -> None:
        after: list[_Run] = []
        while self._runs and self._runs[-1].end >= run.start:
            other = self._runs.pop()
            if other.start > run.end:
                after.append(other)
                continue
            run.start, run.end = min(run.start, other.start), max(run.end, other.end)
            run.label = min(run.label, other.label)
        self._runs.append(run)
        self._runs.extend(reversed(after))

    def _release(self, live: int) -> None:
        """Decide everything that can be decided when *live* is the first live position."""
        for run in self._runs:
            if run.start > self._decided:
                self._show_until(min(live, run.start))
                if self._decided < run.start:
                    break
            if not self._in_shown_run:
                if run.start < self._decided:
                    raise GuardStateError("a match covers text that was released")
                self._replace(run)
            self._hide_until(run.end)
        if self._runs:
            self._runs = [run for run in self._runs if run.end > self._decided]
        if not self._runs:
            self._show_until(min(live, self._decided + len(self._held)))

    def _show_until(self, end: int) -> None:
        shown = end - self._decided
        if shown > 0:
            if shown == len(self._held):
                self._text.append(self._held)
                self._held = ""
            else:
                self._text.append(self._held[:shown])
                self._held = self._held[shown:]
            self._decided = end
            self._in_shown_run = False

    def _hide_until(self, end: int) -> None:
        hidden = end - self._decided
        if hidden <= 0:
            return
        if self._mask:
            self._flush_text()
            self._events.append(Redacted(self._mask_rule, self._mask * hidden, self._decided))
        self._held = self._held[hidden:]
        self._decided = end
        self._findings.grow(end)

    def _replace(self, run: _Run) -> None:
        rule = self._rules[run.label[3]]
        self._in_shown_run = True
        self._findings.note(rule.id, run.start, run.start, grows=True)
        if rule.action == "mask":
            self._mask_rule, self._mask = rule.id, rule.replacement or MASK
            return
        self._mask = ""
        self._flush_text()
        self._events.append(Redacted(rule.id, rule.replacement, run.start))

    def _tell(self, runs: list[FlagRun]) -> None:
        for order, start, end in runs:
            rule = self._rules[order].id
            self._findings.note(rule, start, end)
            self._flush_text()
            self._events.append(Flagged(rule, start, end))

    def _end_blocked(self, label: _Label) -> None:
        rule = self._rules[label[3]].id
        self._findings.note(rule, self._block_start, self._offsets.end(label[0]))
        self._tell(self._flags.close())
        self._flush_text()
        self._drop()
        self._events.append(Blocked(rule))

    def _drop(self) -> None:
        dropped = len(self._held)
        self._held = ""
        self._runs.clear()
        self._found.clear()
        self._decided += dropped
        self._dropped += dropped
        self._is_ended = True

    def _flush_text(self) -> None:
        if self._text:
            self._events.append(TextDelta("".join(self._text)))
            self._text.clear()

    def _take_events(self) -> list[GuardEvent]:
        if not self._events:
            if not self._text:
                return []
            shown, self._text = self._text, []
            return [TextDelta(shown[0] if len(shown) == 1 else "".join(shown))]
        self._flush_text()
        events, self._events = self._events, []
        return events


def warm(rules: RuleSet) -> None:
    """Build what the first words of a stream need (some 30 ms for the default packs), while nobody waits for them."""
    if rules.rules:
        redactor = Redactor(rules)
        redactor.feed("The sky is blue; I think. 1 ")
        redactor.finish()


def cleaned(text: str, rules: RuleSet) -> str:
    """The finished *text* as a reader would get it: what *rules* hide is replaced. A rule that blocks ends it."""
    redactor = Redactor(rules)
    shown: list[str] = []
    for event in (*redactor.feed(text), *redactor.finish()):
        match event:
            case TextDelta():
                shown.append(event.text)
            case Redacted():
                shown.append(event.replacement)
            case Blocked():
                break
            case _:
                pass
    return "".join(shown)
