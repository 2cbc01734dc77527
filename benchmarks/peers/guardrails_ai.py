"""Guardrails AI: `Guard(..., stream=True)` with a validator of ours, since its hub needs a network and a token."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import CARD_REGEX, EMAIL_REGEX, KEY_REGEX, KEYWORD, Setting, Show, serve

_FORBIDDEN = re.compile(rf"\b{KEYWORD}\b|{CARD_REGEX}|{EMAIL_REGEX}|{KEY_REGEX}")
_PROMPT = [{"role": "user", "content": "Tell me about the harbour."}]


def _validator() -> Any:
    guardrails: Any = importlib.import_module("guardrails")
    results: Any = importlib.import_module("guardrails.classes.validation.validation_result")

    def check(value: str, _: dict[str, Any]) -> Any:
        fixed = _FORBIDDEN.sub("[REDACTED]", value)
        if fixed == value:
            return results.PassResult()
        return results.FailResult(error_message="a secret", fix_value=fixed)

    return guardrails.register_validator(name="benchmark/secrets", data_type="string")(check)


class _Guard(Setting):
    def __init__(self, validator: Any, on_fail: str | None, label: str, note: str) -> None:
        self._guardrails: Any = importlib.import_module("guardrails")
        self._error: Any = importlib.import_module("guardrails.errors").ValidationError
        self._validator, self._on_fail = validator, on_fail
        self.label, self.note = label, note

    def stream(self, source: Iterator[Any], show: Show) -> bool:
        def model(*, messages: object = None, **_: object) -> Iterator[Any]:
            yield from source

        validator = self._validator() if self._on_fail is None else self._validator(on_fail=self._on_fail)
        guard = self._guardrails.Guard().use(validator)
        try:
            for result in guard(model, stream=True, messages=_PROMPT):
                if result.validated_output:
                    show(result.validated_output)
        except self._error:
            return False
        return True


def load() -> list[Setting]:
    os.environ["OTEL_SDK_DISABLED"] = "true"
    validator = _validator()
    return [
        _Guard(validator, None, "on_fail: exception (default)", "shows each token at once, checks sentences later"),
        _Guard(validator, "fix", "on_fail: fix", "holds a sentence"),
    ]


if __name__ == "__main__":
    serve(load, ("guardrails-ai",))
