"""What exporters read of a `RunRecord`: figures, names and codes, never a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from utils.metrics.token_log import TokenLog
from utils.run_record import RunRecord

__all__ = ["MAX_NAME_CHARS", "Server", "chunk_gaps", "counted_tokens", "error_type", "figure", "model_of", "server_of"]

MAX_NAME_CHARS = 200
"""Names of models come from servers; what is longer is no name."""

_PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "api.anthropic.com": "anthropic",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
"""Host, or the domain it lies in -> its name in the conventions."""
_OTHER_PROVIDER = "openai_compatible"
_EMBEDDED_PROVIDER = "embedded"

_EXACT_SOURCES = ("usage", "logprobs", "tokenizer")


@dataclass(frozen=True, slots=True)
class Server:
    """Who was asked. *provider*: its name in the conventions, or `openai_compatible`, or `embedded`."""

    provider: str
    address: str | None = None
    port: int | None = None


def server_of(record: RunRecord) -> Server:
    """The server of the target that answered, or was asked last."""
    target = record.report.get("target") or record.facts.target
    found = re.search(r"(?:^| at )(https?://\S+)$", target)
    if found is None:
        return Server(_EMBEDDED_PROVIDER)
    parts = urlsplit(found[1])
    host = parts.hostname or ""
    name = next((name for known, name in _PROVIDERS.items() if host == known or host.endswith(f".{known}")), None)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Server(name or _OTHER_PROVIDER, host, port)


def model_of(record: RunRecord) -> str:
    """The model that answered, else the one that was asked for; may be empty."""
    name: str = record.report.get("model_used") or record.facts.model_requested
    return name[:MAX_NAME_CHARS]


def error_type(record: RunRecord) -> str | None:
    """The code of what kept the run from an answer that is complete; None if nothing did."""
    outcome: str = record.report["outcome"]
    if outcome == "complete":
        return None
    error: Mapping[str, Any] | None = record.report.get("error")
    # A rule that stops the answer is an outcome without an error.
    return str(error["code"]) if error else outcome


def figure(record: RunRecord, *path: str) -> float | None:
    """A number of the metrics by its keys; None if it is not known."""
    value: Any = record.report.get("metrics")
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def counted_tokens(record: RunRecord) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the answer, None where nobody counted them: the conventions forbid estimates."""
    metrics: Mapping[str, Any] = record.report.get("metrics") or {}
    is_counted = metrics.get("token_source") in _EXACT_SOURCES
    return metrics.get("prompt_tokens"), metrics.get("tokens") if is_counted else None


def chunk_gaps(log: TokenLog) -> Iterator[float]:
    """Seconds from each chunk of text to the next; tokens that came in one chunk share its instant."""
    place: int | None = None
    for token in log:
        if token.start_char != place and token.latency_s is not None:
            yield max(0.0, token.latency_s)
        place = token.start_char
