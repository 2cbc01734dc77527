"""What a server's error means to us: status codes and error objects to our own errors. Pure.

Sources for the codes: OpenAI's error code guide, llama.cpp server's `error.type`, vLLM's `error.type`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from utils.errors import (
    AuthFailed,
    ModelNotFound,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerFailure,
)

__all__ = [
    "Scrub",
    "classify_error_object",
    "classify_status",
    "key_scrubber",
    "named",
    "parse_retry_after",
    "scrubbed",
    "shortened",
]

_MAX_MESSAGE_CHARS = 300
_HINT_KEY = "check OPENAI_API_KEY or --api-key, and that the key belongs to this server"
_HINT_QUOTA = "the account has no credit left: check its plan and billing"
_HINT_MODEL = "check --model and --base-url; the server's list of models is at /models"
_HINT_REQUEST = "change the prompt or the parameters; the same request will be refused again"
_HINT_CONTEXT = "shorten the prompt, or choose a model with a longer context"
_HINT_BUSY = "wait and run again, or raise --retries"
_HINT_DOWN = "run again later, or use another --base-url"

_FILLERS = "\u115f\u1160\u3164\uffa0"
"""Letters without a shape."""
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
_TOO_LONG_MESSAGE = re.compile(r"(?i)maximum context|context (length|size|window)|too many tokens|prompt is too long")
_UNSUPPORTED_PARAMETER = re.compile(
    r"\b(temperature|top_logprobs|logprobs|seed|stop|max_completion_tokens|max_tokens|stream_options)\b"
)


Scrub = Callable[[str], str]
"""Takes the user's key out of a text."""


_MAX_SCRUBBED_CHARS = 65_536
"""What is longer is cut: it is shown to nobody, and looking through 17 million characters takes memory and time."""

_KEY_BEGINNING = 12
"""So many characters of a longer key are enough to be taken for it."""


def key_scrubber(key: str | None) -> Scrub:
    """Replaces *key* by `[key]`, also percent-encoded, in other case, or broken by what a person does not see.

    Of a long key every part of 12 characters or more is replaced, too.

    The search runs on the visible characters alone, so no set of separators has to be complete.
    """
    bare_key = "".join(filter(_is_visible, key or ""))
    if not bare_key:
        return str
    written = [f"(?:{re.escape(c)}|{''.join(f'%{b:02x}' for b in c.encode('utf-8', 'replace'))})" for c in bare_key]
    # Servers shorten keys: the beginning of a long one goes, with what looks like the rest of it.
    shown = _KEY_BEGINNING if len(bare_key) >= _KEY_BEGINNING + 4 else len(bare_key)
    pattern = re.compile("".join(written) + "|" + "".join(written[:shown]) + r"[\w-]*", re.IGNORECASE)
    parts = {bare_key[n : n + shown].lower() for n in range(len(bare_key) - shown + 1)}

    def without(text: str, spans: Callable[[str], list[tuple[int, int]]]) -> str:
        places = [place for place, c in enumerate(text) if _is_visible(c)]
        for start, end in reversed(spans("".join(text[place] for place in places))):
            text = f"{text[: places[start]]}[key]{text[places[end - 1] + 1 :]}"
        return text

    def whole(visible: str) -> list[tuple[int, int]]:
        return [match.span() for match in pattern.finditer(visible)]

    def in_part(visible: str) -> list[tuple[int, int]]:
        visible = visible.lower() if len(visible.lower()) == len(visible) else visible
        spans: list[tuple[int, int]] = []
        for start in range(len(visible) - shown + 1):
            if visible[start : start + shown] in parts:
                begin = spans.pop()[0] if spans and spans[-1][1] >= start else start
                spans.append((begin, start + shown))
        return spans

    def scrub(text: str) -> str:
        return without(without(text[:_MAX_SCRUBBED_CHARS], whole), in_part)

    return scrub


def _is_visible(c: str) -> bool:
    if c.isascii():
        return "!" <= c <= "~"
    return c.isprintable() and not c.isspace() and unicodedata.category(c) not in ("Mn", "Me") and c not in _FILLERS


def scrubbed(body: object, scrub: Scrub) -> object:
    """A decoded body with *scrub* applied to every string in it: before anything is cut off, or a part would stay."""
    match body:
        case str():
            return scrub(body)
        case Mapping():
            return {scrubbed(name, scrub): scrubbed(value, scrub) for name, value in body.items()}
        case list():
            return [scrubbed(item, scrub) for item in body]
        case _:
            return body


def shortened(text: object) -> str:
    """*text* on one line, control characters replaced, at most 300 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= _MAX_MESSAGE_CHARS else line[: _MAX_MESSAGE_CHARS - 1] + "…"


def parse_retry_after(headers: Mapping[str, str], *, now_epoch_s: float) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms` or `retry-after` (seconds or HTTP date).

    None if absent or unreadable; never negative. Source: RFC 9110, 10.2.3.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
            return float(value) * scale
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now_epoch_s)
    except (TypeError, ValueError, OverflowError):
        return None


def classify_status(
    status: int, body: object, *, target: str, retry_after_s: float | None = None, should_retry: bool | None = None
) -> ProviderError:
    """The error for an HTTP *status* outside 2xx; *body* is the decoded error object, text, or None.

    *should_retry* is the server's own `x-should-retry`, if it sent one: it turns a retryable error into a final one.
    """
    message, codes, parameter = _parts(body)
    said = f": {message}" if message else ""
    what = f"{target} answered {status}{said}"
    if "insufficient_quota" in codes or status == 402:
        return AuthFailed(what, hint=_HINT_QUOTA, status=status)
    if status in (401, 403):
        return AuthFailed(what, hint=_HINT_KEY, status=status)
    if status == 404:
        return ModelNotFound(what, hint=_HINT_MODEL, status=status)
    if status == 429:
        error: ProviderError = RateLimited(what, hint=_HINT_BUSY, status=status, retry_after_s=retry_after_s)
    elif status in (408, 409) or status >= 500:
        error = ServerFailure(what, hint=_HINT_DOWN, status=status, retry_after_s=retry_after_s)
    elif 300 <= status < 400:
        moved = ServerFailure(what, hint="the server redirects; give its final address with --base-url", status=status)
        moved.is_retryable = False
        return moved
    else:
        if parameter is None and status in (400, 422):
            found = _UNSUPPORTED_PARAMETER.search(message)
            parameter = found.group(1) if found else None
        return _refused(what, codes, message, status=status, parameter=parameter)
    if should_retry is False:
        error.is_retryable = False
    return error


def classify_error_object(body: object, scrub: Scrub = str) -> ProviderError:
    """The error for an error object (or string) that arrived inside a stream, where there is no status.

    *scrub* is applied before the message is shortened, which could cut a key in two, and after it, which could join
    one; the same order as everywhere: see `named`.
    """
    error = _of_object(scrubbed(body, scrub))
    error.message = scrub(error.message)
    return error


def named(text: object, scrub: Scrub) -> str:
    """A name or reason of the server's, fit for people and free of the user's key; "" if it is no text."""
    return scrub(shortened(scrub(text))) if isinstance(text, str) else ""


def _of_object(body: object) -> ProviderError:
    message, codes, _ = _parts(body)
    what = f"the server reported an error in the stream: {message or 'no message'}"
    if "insufficient_quota" in codes:
        return AuthFailed(what, hint=_HINT_QUOTA)
    if any("rate_limit" in code for code in codes) or "429" in codes:
        return RateLimited(what, hint=_HINT_BUSY)
    if codes & {"invalid_api_key", "authentication_error", "permission_error", "401", "403"}:
        return AuthFailed(what, hint=_HINT_KEY)
    if codes & {"model_not_found", "404"}:
        return ModelNotFound(what, hint=_HINT_MODEL)
    if codes & {*_TOO_LONG, "invalid_request_error", "400", "422"}:
        return _refused(what, codes, message)
    return ServerFailure(what, hint=_HINT_DOWN)


def _refused(
    what: str, codes: set[str], message: str, *, status: int | None = None, parameter: str | None = None
) -> RequestRefused:
    # Servers of local models often have no code for it, but all of them say "context".
    is_too_long = bool(codes & _TOO_LONG) or _TOO_LONG_MESSAGE.search(message) is not None
    hint = _HINT_CONTEXT if is_too_long else _HINT_REQUEST
    error = RequestRefused(what, hint=hint, status=status, parameter=None if is_too_long else parameter)
    error.is_too_long = is_too_long
    return error


def _parts(body: object) -> tuple[str, set[str], str | None]:
    """(message, lower-case codes and types, offending parameter) of an error body in any of its usual shapes."""
    if isinstance(body, Mapping):
        inner = body.get("error")
        if inner is not None and inner is not body:
            return _parts(inner)
        codes = {str(body[key]).lower() for key in ("code", "type", "status") if body.get(key) is not None}
        parameter = body.get("param")
        message = body.get("message") or body.get("detail") or ""
        if isinstance(message, list):
            message = "".join(part for part in message if isinstance(part, str))
        return shortened(message), codes, parameter if isinstance(parameter, str) and parameter else None
    if body is None:
        return "", set(), None
    text = str(body)
    # An HTML page of a proxy says nothing to a person.
    return ("" if text.lstrip().startswith("<") else shortened(text)), set(), None
