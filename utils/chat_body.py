"""The body of a request for a streamed chat completion. Pure: also for whoever only wants to see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from utils.run_context import Parameters, Request

__all__ = ["chat_body", "for_embedded", "structure"]


def chat_body(
    request: Request,
    model: str | None,
    *,
    renamed: Mapping[str, str | None] | None = None,
    is_strict: bool = True,
) -> dict[str, object]:
    """What is sent to ask *model* (None: the server has still to say which one it has) for *request*.

    What a server has refused before: *renamed*, parameters under their other name, or left out (None); *is_strict*:
    False for schemas in strict mode.
    """
    parameters = request.parameters
    body: dict[str, object] = {
        "model": model,
        "messages": request.messages(),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    optional: dict[str, object] = {
        "temperature": parameters.temperature,
        "max_tokens": parameters.max_tokens,
        "seed": parameters.seed,
        "stop": list(parameters.stop) or None,
        "logprobs": True if parameters.logprobs else None,
        "response_format": structure(parameters, is_strict=is_strict),
    }
    body.update({name: value for name, value in optional.items() if value is not None})
    body.update(request.extra_body)
    for name, other in (renamed or {}).items():
        if name in body:
            value = body.pop(name)
            if other is not None:
                body[other] = value
    return body


def for_embedded(request: Request) -> Request:
    """*request* as the embedded model's server is to get it."""
    # A prompt that is read from the cache and one that is computed differ in the last bits, and where two tokens are
    # equally likely that is another answer: then a replay is none. A conversation is read from the cache all the same:
    # without it, every turn would wait until all earlier ones were read again.
    extra_body = {**request.extra_body, "cache_prompt": bool(request.earlier)}
    if request.parameters.logprobs:
        # Its default is 20 alternatives to each token, four fifths of the body; with 0 it sends no logprobs.
        extra_body["top_logprobs"] = 1
    return dataclasses.replace(request, extra_body=extra_body)


def structure(parameters: Parameters, *, is_strict: bool) -> dict[str, Any] | None:
    """The structure that a server is asked for, in the form in which it is sent."""
    wanted = parameters.response_format
    if wanted is None or is_strict or not isinstance(wanted.get("json_schema"), Mapping):
        return dict(wanted) if wanted is not None else None
    return {**wanted, "json_schema": {k: v for k, v in wanted["json_schema"].items() if k != "strict"}}
