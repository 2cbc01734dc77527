"""Bytes as servers write them: chat completion chunks, server-sent events, HTTP responses.

Pure functions. A *payload* becomes the data of one event: a mapping is encoded as JSON, text and bytes go
out as they are. An *event* is the bytes of one whole server-sent event, its blank line included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

__all__ = [
    "DONE",
    "EVENT_STREAM",
    "LAST_CHUNK",
    "MODEL",
    "Json",
    "Payload",
    "chunk",
    "chunked",
    "comment",
    "completion",
    "delta",
    "deltas",
    "error_response",
    "finish",
    "head",
    "json_response",
    "reasoning",
    "role",
    "sse",
    "stream_response",
    "usage",
]

Json = dict[str, Any]
Payload = Mapping[str, Any] | str | bytes
Newline = Literal["\n", "\r\n", "\r"]
ChunkedEnd = Literal["proper", "missing", "bad_header"]

DONE = "[DONE]"
MODEL = "scripted-model"
EVENT_STREAM = "text/event-stream; charset=utf-8"
LAST_CHUNK = b"0\r\n\r\n"
_BAD_CHUNK_HEADER = b"zz\r\nnot a chunk size\r\n"
_BOM = b"\xef\xbb\xbf"
_CREATED = 1_700_000_000


def _as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# -- chat completion chunks ------------------------------------------------------------------------------------------


def _chunk_of(choices: list[Json], model: str, **more: object) -> Json:
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": _CREATED, "model": model}
    return {**base, "choices": choices, **more}


def _choice(index: int, content: Json, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": content, "finish_reason": finish_reason}


def delta(
    text: str,
    *,
    index: int = 0,
    model: str = MODEL,
    logprobs: Sequence[tuple[str, float]] | None = None,
    obfuscation: str | None = None,
) -> Json:
    """A chunk with *text* for choice *index*; *logprobs* are (token, natural-log probability) pairs."""
    choice = _choice(index, {"content": text})
    if logprobs is not None:
        choice["logprobs"] = {
            "content": [
                {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": []}
                for token, value in logprobs
            ],
            "refusal": None,
        }
    padding = {} if obfuscation is None else {"obfuscation": obfuscation}
    return _chunk_of([choice], model, **padding)


def deltas(texts: Mapping[int, str], *, model: str = MODEL) -> Json:
    """One chunk that carries text for several choices."""
    return _chunk_of([_choice(index, {"content": text}) for index, text in texts.items()], model)


def role(*, content: str | None = "", model: str = MODEL) -> Json:
    """The first chunk that most servers send: a role and no text (*content* is "" or null)."""
    return _chunk_of([_choice(0, {"role": "assistant", "content": content})], model)


def reasoning(text: str, *, field: str = "reasoning_content", model: str = MODEL) -> Json:
    """A chunk of the model's reasoning channel."""
    return _chunk_of([_choice(0, {field: text})], model)


def finish(reason: str = "stop", *, index: int = 0, model: str = MODEL) -> Json:
    """The chunk that says why choice *index* ended."""
    return _chunk_of([_choice(index, {}, reason)], model)


def usage(prompt_tokens: int = 9, completion_tokens: int = 12, *, model: str = MODEL) -> Json:
    """The chunk of `stream_options.include_usage`: token counts and no choices."""
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return _chunk_of([], model, usage=counts)


def completion(text: str, *, finish_reason: str = "stop", model: str = MODEL) -> Json:
    """A whole answer in one object, as servers send it to clients that did not ask for a stream."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }


# -- server-sent events ----------------------------------------------------------------------------------------------


def sse(*payloads: Payload, newline: Newline = "\n", name: str | None = None, bom: bool = False) -> bytes:
    """One event per payload, each with the event *name* if given; *bom* puts a byte order mark before them all.

    Text with line feeds becomes several `data:` lines, as the format demands.
    """
    end = newline.encode()
    out = [_BOM] if bom else []
    for payload in payloads:
        data = payload.encode() if isinstance(payload, str) else payload
        data = data if isinstance(data, bytes) else _as_json(data)
        lines = [] if name is None else [b"event: " + name.encode()]
        lines += [b"data: " + line for line in data.split(b"\n")]
        out.append(b"".join(line + end for line in lines) + end)
    return b"".join(out)


def comment(text: str = "keep-alive", *, newline: Newline = "\n") -> bytes:
    """A comment line and a blank line: the usual keep-alive."""
    return f": {text}{newline}{newline}".encode()


# -- HTTP ------------------------------------------------------------------------------------------------------------


def head(
    status: int = 200,
    *,
    content_type: str | None = EVENT_STREAM,
    length: int | Literal["chunked", "until_close"] = "chunked",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Status line and headers. *length* is a Content-Length, or how the end of the body is told instead."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded"
    fields = {"Connection": "close"}
    if content_type is not None:
        fields["Content-Type"] = content_type
    if length == "chunked":
        fields["Transfer-Encoding"] = "chunked"
    elif length != "until_close":
        fields["Content-Length"] = str(length)
    fields.update(headers or {})
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """*data* as one HTTP chunk. *data* must not be empty: an empty chunk is the end of the body."""
    if not data:
        raise ValueError("an empty chunk would end the body; use LAST_CHUNK")
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chunked(*parts: bytes, end: ChunkedEnd = "proper") -> bytes:
    """A chunked body with one chunk per part, ended properly, not at all, or by a malformed chunk header."""
    ends = {"proper": LAST_CHUNK, "missing": b"", "bad_header": _BAD_CHUNK_HEADER}
    return b"".join(chunk(part) for part in parts) + ends[end]


def stream_response(*events: bytes, end: ChunkedEnd = "proper", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole 200 response that streams *events*, one HTTP chunk each."""
    return head(headers=headers) + chunked(*events, end=end)


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole JSON response with its length."""
    body = _as_json(value)
    return head(status, content_type="application/json", length=len(body), headers=headers) + body


def error_response(
    status: int,
    message: str = "",
    *,
    kind: str = "server_error",
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole error response of the OpenAI form."""
    error = {"message": message or f"scripted {status}", "type": kind, "param": param, "code": code}
    return json_response({"error": error}, status=status, headers=headers)
