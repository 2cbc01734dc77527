"""Responses that stand in for the server's own: what gateways, proxies and captive portals say instead of it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from utils.failures.faults import Fault, number

__all__ = ["Answer", "answer_of", "error_body"]

_STATUSES = {
    400: ("invalid_request_error", None, "The request cannot be understood."),
    401: ("invalid_request_error", "invalid_api_key", "The API key is not valid."),
    403: ("permission_error", None, "The key may not use this endpoint."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist, or the key has no access to it."),
    408: ("server_error", None, "The request took too long."),
    409: ("conflict_error", None, "The request is in conflict with another one."),
    413: ("invalid_request_error", None, "The request is too large."),
    422: ("invalid_request_error", None, "The request has a value that cannot be processed."),
    429: ("requests", "rate_limit_exceeded", "Too many requests for this key; slow down."),
    500: ("server_error", None, "The server failed while it worked on the request."),
    502: ("server_error", None, "The gateway got no valid response."),
    503: ("server_error", None, "The model is overloaded; try again later."),
    504: ("server_error", None, "The gateway got no response in time."),
    529: ("overloaded_error", None, "Overloaded."),
}
_CODES = {
    "server_error": ("server_error", None, "The server failed while it wrote the answer."),
    "overloaded_error": ("overloaded_error", None, "Overloaded."),
    "rate_limit_exceeded": ("requests", "rate_limit_exceeded", "Too many tokens for this key; slow down."),
    "insufficient_quota": ("insufficient_quota", "insufficient_quota", "The account has used its quota up."),
}
_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to this network</h1></body></html>\n"
)
_HEADERS = {
    "retry-after": "retry-after",
    "retry-after-ms": "retry-after-ms",
    "should-retry": "x-should-retry",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def error_body(code: str) -> bytes:
    """The error object of one of `ERROR_CODES`, as JSON on one line."""
    return _error(*_CODES[code])


def answer_of(fault: Fault) -> Answer:
    """The response of *fault*, whose kind must be of the phase `response`."""
    match fault.kind:
        case "status":
            assert isinstance(fault.value, int)
            known = _STATUSES.get(fault.value)
            default = ("server_error" if fault.value >= 500 else "invalid_request_error", None, "The request failed.")
            body = _error(*(known or default))
            return Answer(fault.value, _headers("application/json", body, fault), body)
        case "quota":
            body = error_body("insufficient_quota")
            return Answer(429, _headers("application/json", body, fault), body)
        case "html":
            return Answer(200, _headers("text/html; charset=utf-8", _HTML, fault), _HTML)
        case "json":
            body = _completion()
            return Answer(200, _headers("application/json", body, fault), body)
        case "empty":
            return Answer(200, _headers("text/event-stream", b"", fault))
        case _:
            raise AssertionError(f"{fault.kind} is no response")


def _headers(content_type: str, body: bytes, fault: Fault) -> dict[str, str]:
    options = {_HEADERS[name]: value if isinstance(value, str) else number(value) for name, value in fault.options}
    return {"content-type": content_type, "content-length": str(len(body)), **options}


def _error(kind: str, code: str | None, message: str) -> bytes:
    return _json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _completion() -> bytes:
    message = {"role": "assistant", "content": "An answer that was not streamed."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _json({"id": "chatcmpl-simulated", "object": "chat.completion", "choices": [choice]})


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
