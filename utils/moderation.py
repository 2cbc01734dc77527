"""The moderation endpoint of OpenAI and of servers that speak its protocol: `POST {base_url}/moderations`.

The text of the answer leaves this machine, so nothing here is used unless it was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from utils.errors import ConfigError, ProtocolError
from utils.guardrails.moderation import Judgement
from utils.run_context import EMBEDDED
from utils.targets import OPENAI_URL

if TYPE_CHECKING:
    from utils.openai_stream import OpenAIBackend

__all__ = ["MODERATION_MODEL", "JsonServer", "OpenAIModeration", "moderation_backend", "no_key"]

MODERATION_MODEL = "omni-moderation-latest"


class JsonServer(Protocol):
    """The part of `OpenAIBackend` that is needed here."""

    async def post_json(self, path: str, body: dict[str, object]) -> object:
        """The decoded answer to *body*. Raises: AppError."""
        ...


class OpenAIModeration:
    """The classifier (`RemoteClassifier`) behind the endpoint.

    A sentence is toxic if the endpoint flags it, in whatever category: its makers choose a threshold for each, and
    change them with the model. The score, the highest of all categories, is only told.
    """

    name = "openai"

    def __init__(self, server: JsonServer, *, model: str = MODERATION_MODEL) -> None:
        self._server = server
        self._model = model

    async def judge(self, texts: Sequence[str]) -> list[Judgement]:
        """One judgement for each of *texts*. Raises: AppError; ProtocolError if the answer is not what it should be.

        No error quotes what was sent or received.
        """
        answer = await self._server.post_json("/moderations", {"model": self._model, "input": list(texts)})
        results = answer.get("results") if isinstance(answer, Mapping) else None
        if not isinstance(results, list) or len(results) != len(texts):
            raise _nonsense("results")
        return [_judgement(result) for result in results]


def no_key() -> ConfigError:
    """What is wrong if there is no key."""
    return ConfigError(
        "the toxicity classifier openai needs an API key",
        hint="set OPENAI_API_KEY, or use --toxicity-classifier lexical",
    )


def moderation_backend(*, base_url: str | None, api_key: str | None, connect_timeout_s: float = 5.0) -> OpenAIBackend:
    """What to give to `OpenAIModeration`: the server of the user's own key. A key is never sent to another server than
    the one it was given for: to *base_url* if there is one, else to the OpenAI API.

    Raises: ConfigError without a key. The embedded model has none, and what stands in its place is none.
    """
    if api_key is None or not api_key.strip():
        raise no_key()
    from utils.openai_stream import OpenAIBackend

    url = OPENAI_URL if base_url is None or base_url == EMBEDDED else base_url
    return OpenAIBackend(base_url=url, api_key=api_key, connect_timeout_s=connect_timeout_s)


def _judgement(result: object) -> Judgement:
    if not isinstance(result, Mapping):
        raise _nonsense("results")
    is_toxic, scores = result.get("flagged"), result.get("category_scores")
    if not isinstance(is_toxic, bool):
        raise _nonsense("flagged")
    if not isinstance(scores, Mapping) or not scores:
        raise _nonsense("category_scores")
    values = list(scores.values())
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise _nonsense("category_scores")
    return Judgement(max(values), is_toxic)


def _nonsense(field: str) -> ProtocolError:
    return ProtocolError(f"the moderation endpoint sent no usable {field!r}", hint="use --toxicity-classifier lexical")
