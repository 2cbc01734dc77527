"""The OpenTelemetry names of a run, their units and bucket boundaries: one table for both name sets. Pure.

    current   what instrumentations send today (semantic conventions up to 1.41)
    latest    the names that replace them, in the repository that took the generative AI conventions over

All of these conventions are in development. Whoever needs another name changes it here and nowhere else.

Attributes that hold content (`gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`) are left
out on purpose: an export of prompts or answers is not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = [
    "INSTRUMENTS",
    "OPERATION",
    "SECONDS_BUCKETS",
    "TOKEN_BUCKETS",
    "Attribute",
    "Generation",
    "Instrument",
    "Own",
    "Quantity",
    "generation_in",
    "instruments",
]

Generation = Literal["current", "latest"]
Quantity = Literal[
    "duration",
    "time_to_first_chunk",
    "time_per_output_chunk",
    "token_usage",
    "input_tokens",
    "output_tokens",
    "input_tokens_total",
    "output_tokens_total",
]

OPERATION = "chat"
"""The operation of every run (`gen_ai.operation.name`)."""

SECONDS_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The lowest is 10 ms: above 100 tokens/s all chunks lie in it, and our own percentiles tell more."""
TOKEN_BUCKETS = tuple(4**exponent for exponent in range(14))

_OPT_IN_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"
_OPT_IN = "gen_ai_latest_experimental"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row: what is measured, and its name in either set; None where that set has no such instrument."""

    quantity: Quantity
    kind: Literal["histogram", "counter"]
    unit: str
    current: str | None
    latest: str | None
    buckets: tuple[float, ...]
    description: str

    def name_in(self, generation: Generation) -> str | None:
        """The name in the set *generation*."""
        return self.current if generation == "current" else self.latest


def _seconds(quantity: Quantity, current: str, latest: str, description: str) -> Instrument:
    return Instrument(quantity, "histogram", "s", current, latest, SECONDS_BUCKETS, description)


def _tokens(quantity: Quantity, current: str | None, latest: str | None, description: str) -> Instrument:
    return Instrument(quantity, "histogram", "{token}", current, latest, TOKEN_BUCKETS, description)


def _token_counter(quantity: Quantity, latest: str, description: str) -> Instrument:
    return Instrument(quantity, "counter", "{token}", None, latest, (), description)


INSTRUMENTS: tuple[Instrument, ...] = (
    _seconds(
        "duration",
        "gen_ai.client.operation.duration",
        "gen_ai.client.inference.duration",
        "Duration of the run, from its start to its last event.",
    ),
    _seconds(
        "time_to_first_chunk",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.inference.time_to_first_chunk",
        "Time from the start of the run to the first data event of the stream.",
    ),
    _seconds(
        "time_per_output_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.client.inference.time_per_output_chunk",
        "Time from one chunk of text to the next.",
    ),
    _tokens("token_usage", "gen_ai.client.token.usage", None, "Number of tokens used."),
    _tokens(
        "input_tokens", None, "gen_ai.client.inference.operation.input_tokens", "Tokens of the prompt of an operation."
    ),
    _tokens(
        "output_tokens",
        None,
        "gen_ai.client.inference.operation.output_tokens",
        "Tokens of the answer of an operation.",
    ),
    _token_counter("input_tokens_total", "gen_ai.client.inference.usage.input_tokens", "Tokens of prompts."),
    _token_counter("output_tokens_total", "gen_ai.client.inference.usage.output_tokens", "Tokens of answers."),
)
"""The table."""


class Attribute(StrEnum):
    """Attributes of spans and metrics that the conventions name; both sets have the same."""

    OPERATION_NAME = "gen_ai.operation.name"
    PROVIDER_NAME = "gen_ai.provider.name"
    REQUEST_MODEL = "gen_ai.request.model"
    REQUEST_STREAM = "gen_ai.request.stream"
    REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
    REQUEST_TEMPERATURE = "gen_ai.request.temperature"
    REQUEST_SEED = "gen_ai.request.seed"
    RESPONSE_MODEL = "gen_ai.response.model"
    RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
    RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
    USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
    USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - the name of an attribute
    TOKEN_MODALITY = "gen_ai.token.modality"  # noqa: S105
    OUTPUT_TYPE = "gen_ai.output.type"
    SERVER_ADDRESS = "server.address"
    SERVER_PORT = "server.port"
    ERROR_TYPE = "error.type"


class Own(StrEnum):
    """Attributes of the span that no convention names, under a name space of our own."""

    RUN_ID = "kaygraph.run_id"
    OUTCOME = "kaygraph.outcome"
    EXIT_CODE = "kaygraph.exit_code"
    IS_SIMULATED = "kaygraph.is_simulated"
    TIME_TO_FIRST_TEXT = "kaygraph.time_to_first_text"
    TOKENS_PER_SECOND = "kaygraph.tokens_per_second"
    LONGEST_STALL = "kaygraph.longest_stall"
    TOKEN_SOURCE = "kaygraph.token_source"  # noqa: S105
    ATTEMPTS = "kaygraph.attempts"
    RETRIES = "kaygraph.retries"
    RESUMES = "kaygraph.resumes"
    FALLBACKS = "kaygraph.fallbacks"
    REDACTIONS = "kaygraph.redactions"


def instruments(generation: Generation) -> dict[Quantity, Instrument]:
    """The rows of the table that the set *generation* has."""
    return {row.quantity: row for row in INSTRUMENTS if row.name_in(generation) is not None}


def generation_in(environ: Mapping[str, str]) -> Generation:
    """The set that the environment asks for, by the variable that all instrumentations read."""
    wanted = {part.strip() for part in environ.get(_OPT_IN_VARIABLE, "").split(",")}
    return "latest" if _OPT_IN in wanted else "current"
