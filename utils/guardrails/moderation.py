"""What is shown of an answer whose sentences are judged elsewhere, while the judgements are on their way. Sans I/O.

The modes are those of utils/guardrails/toxicity.py, with a delay:

    flag   text passes at once; `Flagged` comes when it is known, all of them before the end
    stop   text passes at once; the first toxic judgement that arrives ends the answer (how much was shown depends on
           how fast the judges are)
    hold   a sentence is shown when it was judged and all before it were; a toxic one ends the answer

In `hold` other events wait behind the sentences that ended before them, for as long as a judgement may take. They do
not wait for the end of the open sentence: that is up to the model, and `Retrying` would come after the retry.

Every sentence is judged. If the endpoint does not judge one, the local model does, at once: after a failed call for
its sentences, for as long as the endpoint asks to be left alone, and for the rest of the answer after
`failures_max` failures in a row or one that will not go away (a refused key).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from utils.errors import AppError, ProviderError, Stopped
from utils.events import Aborted, Adapted, Blocked, Event, Finished, Flagged, TerminalEvent, TextDelta, TokenLogprob
from utils.guardrails.findings import RANGES_MAX, FindingAction, RuleFindings
from utils.guardrails.stage import guard_failed
from utils.guardrails.toxicity import DEFAULT_THRESHOLD, TOXICITY, ToxicityClassifier, ToxicityMode
from utils.guardrails.toxicity_windows import SentenceWindows, Window

__all__ = [
    "Judgement",
    "Moderation",
    "ModerationPolicy",
    "ModerationStatistics",
    "RemoteClassifier",
    "Sentence",
]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A score from 0 to 1, on the scale of whoever gives it, and what the same one makes of it."""

    score: float
    is_toxic: bool


class RemoteClassifier(Protocol):
    """Judges sentences somewhere else."""

    name: str
    """What people call it."""

    async def judge(self, texts: Sequence[str]) -> Sequence[Judgement]:
        """One judgement for each of *texts*, in order. May be cancelled. Raises: AppError."""
        ...


@dataclass(frozen=True, slots=True)
class ModerationPolicy:
    """*mode*: see above. *threshold*: of the local model. Calls: at most *in_flight_max* at once, with up to
    *batch_max* sentences and *call_timeout_s* seconds each. *failures_max*: failures in a row after which the endpoint
    is given up. *waiting_max*: with so many unjudged sentences the upstream is not read, which bounds the memory.
    """

    mode: ToxicityMode = "flag"
    threshold: float = DEFAULT_THRESHOLD
    call_timeout_s: float = 5.0
    in_flight_max: int = 4
    batch_max: int = 32
    failures_max: int = 3
    waiting_max: int = 256


@dataclass(frozen=True, slots=True)
class ModerationStatistics:
    """What was judged, by whom, and what it cost. Never contains text.

    windows: sentences with a visible character. calls, failures: requests to the endpoint. is_given_up: the rest was
    judged on this machine. The two highest scores are on different scales. held_*: characters and seconds that `hold`
    held shown text.
    """

    classifier: str
    mode: ToxicityMode
    threshold: float
    windows: int
    toxic: int
    judged_remotely: int
    judged_locally: int
    calls: int
    failures: int
    is_given_up: bool
    highest_score_remotely: float | None
    highest_score_locally: float | None
    held_max_chars: int
    held_mean_s: float
    held_max_s: float
    findings: tuple[RuleFindings, ...]


class Sentence:
    """One sentence on its way through the judges, with the text of the stream that it stands for."""

    __slots__ = ("is_toxic", "pieces", "start", "text")

    def __init__(self, window: Window, pieces: list[tuple[TextDelta, float]]) -> None:
        self.text = window.text.strip()
        self.start = window.start + len(window.text) - len(window.text.lstrip())
        self.pieces = pieces
        self.is_toxic: bool | None = None if self.text else False


class Moderation:
    """The judgement of one answer. Instants are seconds of one clock that never goes backwards.

    `take` reads an event of the stream; what `next_batch` returns must come back by `judged` or `failed`; `released`
    hands out what may be passed on, and `end` is the terminal event once it may be. Reasoning is not judged here.
    """

    def __init__(self, policy: ModerationPolicy, local: ToxicityClassifier, *, name: str) -> None:
        self._policy = policy
        self._local = local
        self._name = name
        self._windows = SentenceWindows()
        self._open: deque[tuple[TextDelta, float]] = deque()
        """Text of the open sentence with its arrival; only in `hold`."""
        self._open_offset = 0
        self._queue: deque[Sentence | Event] = deque()
        """What waits for its turn; only in `hold`."""
        self._waiting: deque[Sentence] = deque()
        self._unjudged = 0
        self._released: list[Event] = []
        self._terminal: TerminalEvent | None = None
        self._end: TerminalEvent | None = None
        self._is_toxic = False
        self._failures_in_a_row = 0
        self._is_given_up = False
        self._paused_until = -math.inf
        self._held = self._held_max = self._shown = 0
        self._held_char_s = self._held_max_s = 0.0
        self._windows_judged = self._toxic = self._remotely = self._locally = self._calls = self._failures = 0
        self._highest_remotely: float | None = None
        self._highest_locally: float | None = None
        self._ranges: list[tuple[int, int]] = []

    @property
    def end(self) -> TerminalEvent | None:
        """The last event, once everything before it was released."""
        if self._end is None and self._terminal is not None and not self._unjudged:
            self._end = self._terminal
        return self._end

    @property
    def wants_more(self) -> bool:
        """Whether the upstream should be read on."""
        is_over = self._terminal is not None or self._end is not None or self._is_toxic
        return not is_over and self._unjudged < self._policy.waiting_max

    def released(self) -> list[Event]:
        """What may be passed on now, in order; each event is handed out once."""
        released, self._released = self._released, []
        return released

    def take(self, event: Event, now: float) -> None:
        """Read the next *event* of the stream; after the end nothing happens."""
        if self._end is not None:
            return
        if isinstance(event, TextDelta):
            if self._policy.mode == "hold":
                self._open.append((event, now))
                self._held += len(event.text)
                self._held_max = max(self._held_max, self._held)
            else:
                self._released.append(event)
            self._close(self._windows.feed(event.text), now)
        elif isinstance(event, Finished):
            self._terminal = event
            self._close(self._windows.finish(), now)
        elif isinstance(event, TerminalEvent):
            if isinstance(event, Aborted) and isinstance(event.error, Stopped):
                self.stop(event)
            self._terminal = event
        elif self._queue:
            self._queue.append(event)
        else:
            self._released.append(event)

    def next_batch(self, now: float) -> tuple[Sentence, ...]:
        """Sentences to be sent to the endpoint now; () if there are none, or it must be left alone."""
        if self._is_given_up or now < self._paused_until:
            while self._waiting:
                self._judge_here(self._waiting.popleft(), now)
            return ()
        count = min(len(self._waiting), self._policy.batch_max)
        self._calls += bool(count)
        return tuple(self._waiting.popleft() for _ in range(count))

    def judged(self, batch: Sequence[Sentence], judgements: Sequence[Judgement], now: float) -> None:
        """The endpoint has answered. As many *judgements* as sentences, or the call counts as failed."""
        if len(judgements) != len(batch):
            self.failed(batch, "as many judgements as sentences were expected", now)
            return
        self._failures_in_a_row = 0
        for sentence, judgement in zip(batch, judgements, strict=True):
            self._remotely += 1
            self._highest_remotely = max(self._highest_remotely or 0.0, judgement.score)
            self._decide(sentence, judgement.is_toxic, now)

    def failed(self, batch: Sequence[Sentence], cause: Exception | str, now: float) -> None:
        """The endpoint has not judged *batch*: the local model does. The words of a server are not repeated: they may
        quote the text."""
        self._failures += 1
        self._failures_in_a_row += 1
        if self._failures == 1:
            reason = f"{_words(cause, self._policy)}; what the endpoint does not judge is judged on this machine"
            self._released.append(Adapted("toxicity classifier", self._name, "lexical", reason))
        if isinstance(cause, AppError):
            if not (isinstance(cause, ProviderError) and cause.is_retryable):
                self._is_given_up = True
            elif cause.retry_after_s is not None:
                self._paused_until = max(self._paused_until, now + cause.retry_after_s)
        if self._failures_in_a_row >= self._policy.failures_max:
            self._is_given_up = True
        for sentence in batch:
            self._judge_here(sentence, now)

    def stop(self, end: TerminalEvent) -> None:
        """End with *end* at once; what is held is dropped."""
        if self._end is None:
            self._end = end
        self._open.clear()
        self._queue.clear()
        self._waiting.clear()
        self._unjudged = self._held = 0

    def statistics(self) -> ModerationStatistics:
        """A snapshot of the figures."""
        action: FindingAction = "flagged" if self._policy.mode == "flag" else "blocked"
        findings = (RuleFindings(TOXICITY, self._toxic, tuple(self._ranges), action),) if self._toxic else ()
        return ModerationStatistics(
            classifier=self._name,
            mode=self._policy.mode,
            threshold=self._policy.threshold,
            windows=self._windows_judged,
            toxic=self._toxic,
            judged_remotely=self._remotely,
            judged_locally=self._locally,
            calls=self._calls,
            failures=self._failures,
            is_given_up=self._is_given_up,
            highest_score_remotely=self._highest_remotely,
            highest_score_locally=self._highest_locally,
            held_max_chars=self._held_max,
            held_mean_s=self._held_char_s / self._shown if self._shown else 0.0,
            held_max_s=self._held_max_s,
            findings=findings,
        )

    def _close(self, windows: list[Window], now: float) -> None:
        """Sentences have ended."""
        is_held = self._policy.mode == "hold"
        for window in windows:
            sentence = Sentence(window, self._cut_off(window.end - window.start) if is_held else [])
            if is_held:
                self._queue.append(sentence)
            if sentence.text:
                self._windows_judged += 1
                self._unjudged += 1
                self._waiting.append(sentence)
        if is_held:
            self._settle(now)

    def _cut_off(self, size: int) -> list[tuple[TextDelta, float]]:
        """The first *size* characters of the open text. A piece that is cut loses its tokens' texts, and their
        probabilities go on with its last part."""
        pieces: list[tuple[TextDelta, float]] = []
        while size:
            delta, arrived = self._open[0]
            begin = self._open_offset
            end = min(len(delta.text), begin + size)
            size -= end - begin
            if end < len(delta.text):
                pieces.append((TextDelta(delta.text[begin:end]), arrived))
                self._open_offset = end
                continue
            self._open.popleft()
            self._open_offset = 0
            if begin:
                delta = TextDelta(delta.text[begin:], tuple(TokenLogprob("", token.logprob) for token in delta.tokens))
            pieces.append((delta, arrived))
        return pieces

    def _judge_here(self, sentence: Sentence, now: float) -> None:
        try:
            score = self._local.score(sentence.text)
        except Exception as error:
            self.stop(guard_failed(error))
            return
        score = 1.0 if math.isnan(score) else score
        self._locally += 1
        self._highest_locally = max(self._highest_locally or 0.0, score)
        self._decide(sentence, score >= self._policy.threshold, now)

    def _decide(self, sentence: Sentence, is_toxic: bool, now: float) -> None:
        if self._end is not None:
            return
        sentence.is_toxic = is_toxic
        self._unjudged -= 1
        if is_toxic:
            span = sentence.start, sentence.start + len(sentence.text)
            self._toxic += 1
            if len(self._ranges) < RANGES_MAX:
                self._ranges.append(span)
            if self._policy.mode == "flag":
                self._released.append(Flagged(TOXICITY, *span))
            else:
                self._is_toxic = True
                if self._policy.mode == "stop":
                    self.stop(Blocked(TOXICITY))
        if self._policy.mode == "hold":
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Release what no unjudged sentence stands before."""
        while self._queue:
            item = self._queue[0]
            if isinstance(item, Sentence):
                if item.is_toxic is None:
                    return
                if item.is_toxic:
                    self.stop(Blocked(TOXICITY))
                    return
                for delta, arrived in item.pieces:
                    self._show(delta, now - arrived)
            else:
                self._released.append(item)
            self._queue.popleft()

    def _show(self, delta: TextDelta, waited_s: float) -> None:
        size = len(delta.text)
        self._held -= size
        self._shown += size
        self._held_char_s += size * waited_s
        self._held_max_s = max(self._held_max_s, waited_s)
        self._released.append(delta)


def _words(cause: Exception | str, policy: ModerationPolicy) -> str:
    match cause:
        case str():
            return cause
        case TimeoutError():
            return f"no judgement within {policy.call_timeout_s:g} s"
        case ProviderError(status=int(status)):
            return f"{cause.code.replace('_', ' ')} ({status})"
        case AppError():
            return cause.code.replace("_", " ")
        case _:
            return f"failed ({type(cause).__name__})"
