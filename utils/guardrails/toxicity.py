"""Judges streamed text for toxicity, sentence by sentence: a classifier protocol, a lexical model, a window policy.

A classifier has no live positions: no prefix proves that a sentence will not turn toxic. So the guard declares a window
(utils/guardrails/toxicity_windows.py) and the mode says what a reader may see before it is judged:

    flag   text passes at once; a toxic window is reported (`Flagged`) when it ends
    stop   text passes at once; after a toxic window the answer ends (`Blocked`): that window was shown
    hold   text is shown only when its window was judged; a toxic one ends the answer and nothing of it is shown

A sentence of over `WINDOW_CHARS_MAX` characters is judged in parts, so in `hold` a harmless first part is shown.

What the lexical model is worth, on the labelled set in benchmarks/toxicity_sentences.toml (82 toxic sentences, 137
neutral ones that are mostly chosen to fool it), at the default threshold of 0.8: precision 0.73, recall 0.52, F1 0.61.
On the half that did not choose the threshold: 0.79, 0.54, 0.64. About 7 us per sentence. It counts words, so it

- misses what is said without listed words: irony, condescension, threats ("I know where your kids go to school"),
  slurs and dehumanising claims in plain words. Found are 14 of 14 profane insults, 13 of 14 others, 6 of 8 sexual
  ones, 6 of 14 attacks on groups, 1 of 10 threats, 1 of 6 that urge self-harm, 0 of 6 subtle ones;
- misses most spellings that hide a word (2 of 6 found) and every language but English (0 of 4 found);
- cannot tell use from mention: it flags quotations (7 of 10), dictionary entries, anatomy and code with such words;
- weighs a word by its share of the window: an insult inside a long calm sentence may pass.

So it is advisory (`flag`) by default, and no safety guarantee in any mode. Where it is asked for, an endpoint judges
instead, and this model what that does not (utils/guardrails/moderation.py).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol

from utils.events import Blocked, Flagged, TextDelta
from utils.guardrails.redactor import RANGES_MAX, GuardEvent, GuardStateError, GuardStatistics, RuleFindings
from utils.guardrails.toxicity_weights import ToxicityWeights, read_weights
from utils.guardrails.toxicity_windows import SentenceWindows, Window

__all__ = [
    "DEFAULT_THRESHOLD",
    "TOXICITY",
    "LexicalToxicity",
    "ToxicityClassifier",
    "ToxicityGuard",
    "ToxicityMode",
    "ToxicityStatistics",
]

ToxicityMode = Literal["flag", "stop", "hold"]

TOXICITY = "toxicity"
"""The rule id of the events and figures."""

DEFAULT_THRESHOLD = 0.8
"""The step of 0.05 with the highest F0.5 on one half of the labelled set (of equals the higher one). F0.5 counts
precision more than recall: a false alarm ends a good answer in `stop` and `hold`, and teaches readers to ignore `flag`.
Over the whole set 0.5 finds 48 of 82 with 30 false alarms, 0.8 finds 43 with 16, and 0.95 finds 34 with 13.
"""

_TOKEN = re.compile(r"\b\w\w+\b")


class ToxicityClassifier(Protocol):
    """Gives a text a score from 0 (harmless) to 1 (toxic). Must be pure: the same text, the same score."""

    def score(self, text: str) -> float:
        """The score of *text*, one window of an answer."""
        ...


class LexicalToxicity:
    """The TF-IDF and linear support vector model of `alt-profanity-check` 1.9.1, in plain Python.

    The score is the library's to 1e-6 for texts of up to 1,100 different words: the mean of five calibrated models over
    the text's word counts, weighted by inverse document frequency and scaled to length 1. Words are runs of two or more
    letters, digits or underscores, in lower case; a text without a known word scores 0.0364.
    The data (320 kB) is read at the first score, or by `load`. One object may serve any number of streams.
    """

    def __init__(self, weights: ToxicityWeights | None = None) -> None:
        self._weights = weights

    def load(self) -> ToxicityWeights:
        """Read the data now if that was not done yet. Raises: ConfigError if the file is missing or damaged."""
        if self._weights is None:
            self._weights = read_weights()
        return self._weights

    def score(self, text: str) -> float:
        """The score of *text*, 0 to 1; time is linear in its length. Raises: ConfigError as `load` does."""
        weights = self._weights or self.load()
        place_of = weights.index.get
        counts: dict[int, int] = {}
        for token in _TOKEN.findall(text.lower()):
            place = place_of(token)
            if place is not None:
                counts[place] = counts.get(place, 0) + 1
        idf = weights.idf
        vector = [(place, count * idf[place]) for place, count in counts.items()]
        length = math.sqrt(sum(value * value for _, value in vector)) or 1.0
        scale = weights.scale / length
        total = 0.0
        for column, intercept in zip(weights.columns, weights.intercepts, strict=True):
            margin = intercept + scale * sum([column[place] * value for place, value in vector])
            total += 1.0 / (1.0 + math.exp(-margin))
        return total / len(weights.columns)


@dataclass(frozen=True, slots=True)
class ToxicityStatistics:
    """What was judged. Windows are sentences; those without a visible character are not judged nor counted."""

    mode: ToxicityMode
    threshold: float
    windows: int
    toxic: int
    highest_score: float | None


class ToxicityGuard:
    """The guard (utils/guardrails/redactor.py `Guard`) that judges every window of one stream with *classifier*.

    A window is toxic if its score is not below *threshold*; a score that is no number counts as 1. What is decided,
    and in `stop` and `hold` what is shown, depends on the text alone and not on how it was cut. Offsets are those of
    the text that is fed: put this guard in front of one that changes text (utils/guardrails/toxicity_screen.py);
    there it also still sees the words that a profanity rule masks.
    Memory is bounded by `WINDOW_CHARS_MAX`. If the classifier raises, the guard has ended and shows nothing more.
    """

    def __init__(
        self,
        classifier: ToxicityClassifier,
        mode: ToxicityMode = "flag",
        threshold: float = DEFAULT_THRESHOLD,
        window: Literal["sentence"] = "sentence",
    ) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold {threshold!r}, expected above 0 and at most 1")
        if mode not in ("flag", "stop", "hold") or window != "sentence":
            raise ValueError(f"mode {mode!r} with window {window!r} is unknown")
        self._classifier = classifier
        self._mode: ToxicityMode = mode
        self._threshold = threshold
        self._windows = SentenceWindows()
        self._is_ended = False
        self._seen = self._shown = 0
        self._judged = self._toxic = self._cuts = self._dropped = 0
        self._feeds = self._held_sum = self._held_max = 0
        self._highest: float | None = None
        self._ranges: list[tuple[int, int]] = []

    @property
    def held_chars(self) -> int:
        """Characters received, neither shown nor dropped yet; 0 but in `hold`."""
        return self._seen - self._shown

    def feed(self, text: str) -> list[GuardEvent]:
        """Read *text*, the next piece of the stream; returns what may be shown now.

        Raises: GuardStateError after the end; what the classifier raises. State after a raise: ended, nothing held.
        """
        if self._is_ended:
            raise GuardStateError("feed() after the end of the stream")
        events = self._decide(text, self._windows.feed(text))
        held = self.held_chars
        self._feeds += 1
        self._held_sum += held
        self._held_max = max(self._held_max, held)
        return events

    def finish(self) -> list[GuardEvent]:
        """The text is whole: judge the open window and release it.

        Raises: GuardStateError if the stream has ended already; what the classifier raises. State afterwards: ended.
        """
        if self._is_ended:
            raise GuardStateError("finish() after the end of the stream")
        events = self._decide("", self._windows.finish())
        self._is_ended = True
        return events

    def cancel(self) -> int:
        """The text is not whole: drop what is held, judge nothing; how many characters that were (again: 0)."""
        dropped = self.held_chars
        self._dropped += dropped
        self._shown = self._seen
        self._is_ended = True
        return dropped

    def statistics(self) -> GuardStatistics:
        """A snapshot of the figures every guard has. `overflows`: windows that were cut at their greatest length."""
        findings = (RuleFindings(TOXICITY, self._toxic, tuple(self._ranges)),) if self._toxic else ()
        return GuardStatistics(
            rules=(TOXICITY,),
            findings=findings,
            seen_chars=self._seen,
            held_max_chars=self._held_max,
            held_mean_chars=self._held_sum / self._feeds if self._feeds else 0.0,
            overflows=self._cuts,
            dropped_chars=self._dropped,
        )

    def toxicity_statistics(self) -> ToxicityStatistics:
        """A snapshot of what was judged, with the mode and the threshold."""
        return ToxicityStatistics(self._mode, self._threshold, self._judged, self._toxic, self._highest)

    def _decide(self, text: str, windows: list[Window]) -> list[GuardEvent]:
        text_start = self._seen
        self._seen += len(text)
        released: list[str] = []
        flagged: list[GuardEvent] = []
        for window in windows:
            self._cuts += window.is_cut
            try:
                span = self._toxic_span(window)
            except BaseException:
                self.cancel()
                raise
            if span is not None:
                if self._mode != "flag":
                    until = max(0, window.decided_at - text_start)
                    events = self._show("".join(released) if self._mode == "hold" else text[:until])
                    self.cancel()
                    return [*events, Blocked(TOXICITY)]
                flagged.append(Flagged(TOXICITY, *span))
            released.append(window.text)
        return [*self._show("".join(released) if self._mode == "hold" else text), *flagged]

    def _show(self, text: str) -> list[GuardEvent]:
        self._shown += len(text)
        return [TextDelta(text)] if text else []

    def _toxic_span(self, window: Window) -> tuple[int, int] | None:
        """Judge *window*; where its visible text is, if it is toxic."""
        text = window.text.strip()
        if not text:
            return None
        score = self._classifier.score(text)
        if math.isnan(score):
            score = 1.0
        self._judged += 1
        if self._highest is None or score > self._highest:
            self._highest = score
        if score < self._threshold:
            return None
        start = window.start + len(window.text) - len(window.text.lstrip())
        span = start, start + len(text)
        self._toxic += 1
        if len(self._ranges) < RANGES_MAX:
            self._ranges.append(span)
        return span
