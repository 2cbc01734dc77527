"""Bytes of a streamed chat completion to events, sans I/O: what each chunk means, and when an answer is whole.

The completeness rule. An answer is whole only if the server gave a finish_reason that says so (or, for targets where
that is declared optional, sent `[DONE]`). The end of the body proves nothing: proxies and crashed workers end bodies
properly. A finish_reason that we do not know (`abort`, `cancelled`, ...) is no completion. Text after a finish_reason
takes it back; other things after it cannot make the answer incomplete any more, but an error is flagged.

Only the fields that we use are decoded, into typed structs; unknown fields, further choices, `choices: []`,
several deltas in one chunk and padding are normal input. Usage and logprobs are extras: if they are malformed they are
left out, and the answer stays. Logprobs may come ahead of their text, as those of the first bytes of an emoji do: they
wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from utils.errors import AnswerTooLong, ContentFiltered, NotAStream, ProtocolError, ProviderError, StreamTruncated
from utils.events import Aborted, Event, Finished, Flagged, Opened, ReasoningDelta, TextDelta, TokenLogprob, Usage
from utils.provider_errors import Scrub, classify_error_object, named, shortened
from utils.sse import MAX_EVENT_BYTES, ServerSentEvent, SSEDecoder

__all__ = ["MAX_ANSWER_CHARS", "ChatStreamDecoder"]

MAX_ANSWER_CHARS = 1 << 22
"""Eight times the longest answers that models offer (128 k tokens): an answer is kept in memory, this one in 200 MB."""

T = TypeVar("T")

_MIN_DUPLICATE_CHARS = 3
"""Two identical events in a row with less text than this are far more likely two equal tokens ("ha" "ha")."""

_MAX_TOKENS_AHEAD = 256
"""Bounds what waits for its text. A character has at most four bytes, each a token; a held stop word a few tokens."""

_WHOLE = {
    *("stop", "eos", "eos_token", "end", "end_turn", "stop_sequence", "complete", "completed", "done"),
    *("length", "max_tokens", "model_length", "tool_calls", "function_call"),
}
"""The finish_reasons that end an answer as it should end, in the spellings of the servers we know, in lower case."""
_FILTERED = {"content_filter", "safety", "sensitive"}
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Logprob(msgspec.Struct, gc=False):
    token: str = ""
    logprob: float | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Logprob] | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    model: Any = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_usage = msgspec.json.Decoder(_Usage | None).decode
_decode_logprobs = msgspec.json.Decoder(_Logprobs | None).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ChatStreamDecoder:
    """`feed(bytes)` returns events; after it look at `failure`. `finish()` judges the end of the body.

    *scrub* takes the user's key out of what the server says about errors.
    Events up to a failure are still returned, so nothing that arrived is lost. After a failure, after `[DONE]`
    and after `finish()` further bytes are ignored. Offsets of `Flagged` count from the start of this body.
    `feed` raises AnswerTooLong beyond *max_answer_chars*.
    """

    def __init__(
        self,
        *,
        target: str,
        attempt: int,
        finish_reason_optional: bool = False,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_answer_chars: int = MAX_ANSWER_CHARS,
        scrub: Scrub = str,
    ) -> None:
        self.failure: ProviderError | None = None
        self.finish_reason: str | None = None
        self.is_doubtful = False
        """Text came after a finish_reason, so this server's finish_reason alone proves nothing."""
        self.is_done = False
        """`[DONE]` was seen: nothing more is coming."""
        self.chars = 0
        """Code points of answer text so far."""
        self._max_answer_chars = max_answer_chars
        self._target = target
        self._attempt = attempt
        self._finish_reason_optional = finish_reason_optional
        self._scrub = scrub
        self._sse = SSEDecoder(max_event_bytes)
        self._is_opened = False
        self._has_refusal = False
        self._tokens_ahead: deque[TokenLogprob] = deque(maxlen=_MAX_TOKENS_AHEAD)
        """The newest tokens whose text has not come yet; without it they are no part of the answer."""
        self._last_data = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events in *data*; none of them terminal (see `finish`)."""
        if self.is_done or self.failure is not None:
            return []
        events: list[Event] = []
        try:
            for sse_event in self._sse.feed(data):
                self._take(sse_event, events)
                if self.is_done:
                    break
        except ProviderError as error:
            self._fail(error, events)
        return events

    def finish(self) -> tuple[list[Event], Finished | Aborted]:
        """The last events and the verdict, once the body has ended (or nothing more needs to be read).

        The verdict is `Aborted` with StreamTruncated, NotAStream (no data event at all), ContentFiltered,
        or the failure that was found before.
        """
        events: list[Event] = []
        if not self.is_done and self.failure is None:
            for sse_event in self._sse.finish():
                try:
                    self._take(sse_event, events)
                except ProviderError as error:
                    # An event without its empty line that does not parse was cut inside: that is truncation.
                    if not isinstance(error, ProtocolError):
                        self._fail(error, events)
        return events, self._verdict()

    def _verdict(self) -> Finished | Aborted:
        if self.failure is not None:
            return Aborted(self.failure)
        if (self.finish_reason or "").lower() in _FILTERED:
            return Aborted(ContentFiltered("the server's content filter ended the answer", hint="rephrase the prompt"))
        if self.finish_reason is not None:
            if self.finish_reason.lower() in _WHOLE:
                return Finished(self.finish_reason)
            said = f"the server ended the stream with finish_reason {self.finish_reason!r}"
            return Aborted(
                StreamTruncated(f"{said} after {self.chars} characters", hint="the answer is not whole; run again")
            )
        if self.is_done and self._finish_reason_optional and self._is_opened:
            return Finished("stop")
        if not self._is_opened:
            return Aborted(NotAStream(f"{self._target} sent an empty stream", hint="run again, or try another server"))
        if self.is_doubtful:
            said = f"the stream ended after {self.chars} characters, of which some came behind its finish_reason"
            return Aborted(StreamTruncated(said, hint="the answer may not be whole; run again"))
        how = "with [DONE] but without a finish_reason" if self.is_done else "without a finish_reason"
        hint = "the answer is not whole; run again"
        if self.is_done:
            hint += " (for a server that never sends one, such as old Ollama: KAYGRAPH_FINISH_REASON_OPTIONAL=true)"
        return Aborted(StreamTruncated(f"the stream ended {how} after {self.chars} characters", hint=hint))

    def _fail(self, error: ProviderError, events: list[Event]) -> None:
        # A failure behind the finish_reason (a broken usage event, say) takes nothing from the answer.
        if self.finish_reason is None:
            self.failure = error
        else:
            self.is_done = True
            events.append(Flagged("error_after_finish", self.chars, self.chars))

    def _take(self, sse_event: ServerSentEvent, events: list[Event]) -> None:
        data = sse_event.data
        if data == b"[DONE]":
            self.is_done = True
            return
        if sse_event.event == b"error":
            raise classify_error_object(_loosely_decoded(data), self._scrub)
        try:
            chunk = _decode_chunk(data)
        except _UNDECODABLE as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else shortened(error)
            raise ProtocolError(
                f"the server sent an event that cannot be decoded ({len(data)} bytes: {reason})",
                hint="run again; if it stays, the server or a proxy before it is broken",
            ) from error
        if chunk.error is not None:
            raise classify_error_object(chunk.error, self._scrub)
        if not self._is_opened:
            self._is_opened = True
            events.append(Opened(self._target, named(chunk.model, self._scrub), self._attempt))
        for choice in chunk.choices or ():
            # We never ask for more than one choice; a server that sends more is read as far as we asked.
            if choice.index == 0:
                self._take_choice(choice, data, events)
        if chunk.usage:
            usage = _leniently(_decode_usage, chunk.usage)
            if usage is not None:
                events.append(Usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens))
        self._last_data = data

    def _take_choice(self, choice: _Choice, data: bytes, events: list[Event]) -> None:
        # Servers exist that stream whole messages, or the older `text`, in the place of deltas.
        delta = choice.delta or choice.message or (_Delta(choice.text) if choice.text else None)
        if delta is not None:
            reasoning = delta.reasoning_content or delta.reasoning
            if reasoning:
                events.append(ReasoningDelta(reasoning))
                self._tokens_ahead.clear()
            text = (delta.content or "") + (delta.refusal or "")
            if text:
                start, self.chars = self.chars, self.chars + len(text)
                if self.chars > self._max_answer_chars:
                    raise AnswerTooLong(
                        f"{self._target} has written more than {self._max_answer_chars:,} characters",
                        hint="bound the answer with --max-tokens",
                    )
                tokens = _tokens(choice.logprobs) if choice.logprobs else ()
                if self._tokens_ahead:
                    tokens = (*self._tokens_ahead, *tokens)
                    self._tokens_ahead.clear()
                events.append(TextDelta(text, tokens))
                if self.finish_reason is not None:
                    self.finish_reason = None
                    self.is_doubtful = True
                    events.append(Flagged("text_after_finish", start, self.chars))
                if delta.refusal and not self._has_refusal:
                    self._has_refusal = True
                    events.append(Flagged("refusal", start, self.chars))
                if data == self._last_data and len(text.strip()) >= _MIN_DUPLICATE_CHARS:
                    events.append(Flagged("duplicated_event", start, self.chars))
            elif delta.content is not None and choice.logprobs and not reasoning:
                # Where there is no content at all they are those of a tool call, before reasoning those of it.
                self._tokens_ahead.extend(_tokens(choice.logprobs))
        if choice.finish_reason == "error" or choice.error is not None:
            said = choice.error or "the provider ended the answer with finish_reason 'error'"
            raise classify_error_object(said, self._scrub)
        reason = named(choice.finish_reason, self._scrub)
        if reason and reason.lower() not in ("null", "none"):
            self.finish_reason = reason


def _tokens(raw: msgspec.Raw) -> tuple[TokenLogprob, ...]:
    logprobs = _leniently(_decode_logprobs, raw)
    if logprobs is None or not logprobs.content:
        return ()
    return tuple(TokenLogprob(item.token, item.logprob) for item in logprobs.content if item.logprob is not None)


def _leniently(decode: Callable[[msgspec.Raw], T], raw: msgspec.Raw) -> T | None:
    try:
        return decode(raw)
    except _UNDECODABLE:
        return None


def _loosely_decoded(data: bytes) -> object:
    try:
        decoded = msgspec.json.decode(data)
    except _UNDECODABLE:
        return data.decode("utf-8", "replace")
    if isinstance(decoded, dict) and decoded.get("error") is not None:
        return decoded["error"]
    return decoded
