"""The OpenAI stream wrapper: the only importer of `openai`, and the one place where foreign errors become ours.

AsyncOpenAI does authentication, URLs and headers; its retries are off (there is one retry layer, ours) and its
chunk models are never built: the unread raw response is read as bytes and decoded by `chat_stream`, which also sees
what the SDK hides (`[DONE]`, the content type, an empty body).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, cast

import httpx2
import msgspec
import openai

from utils.chat_stream import ChatStreamDecoder
from utils.errors import (
    AppError,
    FirstTokenTimeout,
    IdleTimeout,
    ModelNotFound,
    NotAStream,
    ProviderError,
    RequestRefused,
)
from utils.events import Aborted, Adapted, Event, ReasoningDelta, TextDelta
from utils.provider_errors import classify_error_object, scrubbed, shortened
from utils.run_context import Request, Target
from utils.transport_errors import error_of_response, error_of_transport
from utils.watchdog import Watchdog

__all__ = ["ChatStream", "OpenAIBackend"]

TransportWrapper = Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]

_TAIL_S = 2.0
"""How long usage and [DONE] may still take after the finish_reason: the answer is already whole."""
_MAX_FOREIGN_BODY_BYTES = 65_536
"""How much of a body that is not a stream is read, to find an error message in it."""
_MODELS_TIMEOUT_S = 5.0
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


class OpenAIBackend:
    """One server: a connection pool, and what was learnt about the parameters that it refuses.

    *wrap_transport* puts a transport (the failure simulator's) around the real one; the proxy settings of the
    environment are not used then. *closes_connections* sends `Connection: close`, for servers that break when a
    connection is used again at once.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        connect_timeout_s: float = 10.0,
        wrap_transport: TransportWrapper | None = None,
        closes_connections: bool = False,
    ) -> None:
        self.base_url = base_url
        self._api_key = api_key
        self._models: list[str] | None = None
        self._renamed: dict[str, str | None] = {}
        """Parameters that this server refused: their other name, or None if they are left out."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
        transport = wrap_transport(httpx2.AsyncHTTPTransport(limits=limits)) if wrap_transport else None
        headers: dict[str, Any] = {"Accept-Encoding": "identity"}
        if closes_connections:
            headers["Connection"] = "close"
        if not api_key:
            headers["Authorization"] = openai.omit
        self._headers = headers
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            # Reads are bounded by our own deadlines, which know content from keep-alive.
            timeout=httpx2.Timeout(None, connect=connect_timeout_s),
            http_client=httpx2.AsyncClient(
                transport=transport, limits=limits, follow_redirects=True, timeout=httpx2.Timeout(None)
            ),
        )

    async def aclose(self) -> None:
        """Close the pool; idempotent."""
        await self._client.close()

    async def list_models(self, watchdog: Watchdog, deadline_s: float) -> list[str]:
        """The names that the server's /models lists, in its order. Raises AppError."""
        if self._models is None:
            try:
                response = await watchdog.wait(
                    self._client.get("/models", cast_to=httpx2.Response, options={"headers": self._headers}),
                    deadline_s,
                    lambda: FirstTokenTimeout(f"{self.base_url}/models did not answer in time"),
                )
                rows = msgspec.json.decode(response.content)["data"]
                self._models = [str(row["id"]) for row in rows]
            except (KeyError, TypeError, ValueError) as error:
                raise NotAStream(
                    f"{self.base_url}/models did not list any models", hint="name one with --model"
                ) from error
            except Exception as error:
                raise self._translated(error, self.base_url) from error
        return self._models

    async def resolved(self, target: Target, watchdog: Watchdog, emit: Callable[[Event], None]) -> str:
        """The model to ask for: the target's, or the first that the server lists if none was named."""
        if target.model:
            return target.model
        is_known = self._models is not None
        models = await self.list_models(watchdog, watchdog.now() + _MODELS_TIMEOUT_S)
        if not models:
            raise ModelNotFound(f"{self.base_url} lists no models", hint="name one with --model")
        if not is_known:
            count = "its only model" if len(models) == 1 else f"the first of its {len(models)} models"
            emit(Adapted("model", "(none named)", models[0], f"{self.base_url} lists it as {count}"))
        return models[0]

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatStream:
        """Send the request; the stream whose headers have arrived and are good.

        A parameter that the server refuses by name is left out, or sent under its other name, once; an `Adapted`
        event says so. Raises AppError; nothing stays open then.
        """
        emit = request.context.emit
        model = await self.resolved(target, watchdog, emit)
        while True:
            body = self._body(request, model)
            try:
                response = await watchdog.wait(
                    self._post(body), first_token_deadline_s, lambda: _first_token_timeout(request, target)
                )
            except AppError:
                raise
            except Exception as caught:
                error = self._translated(caught, target.name)
                if isinstance(error, RequestRefused) and self._adapt(error, body, emit):
                    continue
                if isinstance(error, ModelNotFound):
                    await self._suggest_model(error, model, watchdog)
                raise error from caught
            stream = ChatStream(response, self, request, target, attempt, watchdog, first_token_deadline_s)
            try:
                await stream.check_content_type()
            except BaseException:
                await stream.aclose()
                raise
            return stream

    async def _post(self, body: dict[str, object]) -> httpx2.Response:
        headers = {**self._headers, "Accept": "text/event-stream"}
        raw = await self._client.post(
            "/chat/completions",
            body=body,
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=openai.AsyncStream[Any],
            options={"headers": headers},
        )
        # The overloads promise an AsyncStream; with this cast_to the SDK hands out the unread response itself.
        return cast(httpx2.Response, raw)

    def _body(self, request: Request, model: str) -> dict[str, object]:
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
        }
        body.update({name: value for name, value in optional.items() if value is not None})
        for name, other in self._renamed.items():
            if name in body:
                value = body.pop(name)
                if other is not None:
                    body[other] = value
        return body

    def _adapt(self, error: RequestRefused, body: dict[str, object], emit: Callable[[Event], None]) -> bool:
        """Learn from a refusal that names a parameter; whether the request is worth sending again."""
        name = error.parameter
        if name == "top_logprobs":
            name = "logprobs"
        if name is None or name in ("model", "messages", "stream") or name not in body:
            return False
        original = next((old for old, new in self._renamed.items() if new == name), None)
        if original is not None:  # refused under its other name too
            self._renamed[original] = None
            other = None
        else:
            other = _OTHER_NAMES.get(name)
            self._renamed[name] = other
        after = f"sent as {other}" if other else "left out"
        emit(Adapted(f"request.{name}", shortened(body[name]), after, f"{self.base_url} refused it"))
        return True

    async def _suggest_model(self, error: ModelNotFound, model: str, watchdog: Watchdog) -> None:
        try:
            known = await self.list_models(watchdog, watchdog.now() + _MODELS_TIMEOUT_S)
        except ProviderError:
            return
        near = difflib.get_close_matches(model, known, n=3, cutoff=0.5) or known[:3]
        if near and model not in known:
            error.hint = (
                f"the server has {', '.join(near)}{' and more' if len(known) > len(near) else ''}: --model NAME"
            )

    def scrub(self, text: str) -> str:
        """*text* without the key, which some servers repeat in their messages."""
        return text.replace(self._api_key, "[key]") if self._api_key else text

    def _translated(self, error: Exception, target: str) -> AppError:
        """Our error for one of openai, httpx2, the decoder or the system. Never passes the key on."""
        if isinstance(error, openai.APIStatusError):
            response = error.response
            body = error.body if error.body is not None else response.text
            body = scrubbed(body, self.scrub)
            ours: AppError = error_of_response(response.status_code, response.headers, body, target)
        else:
            ours = error_of_transport(error, target)
        ours.message = self.scrub(ours.message)
        return ours


class ChatStream:
    """One streamed answer: batches of events, as they arrive together. Close it with `aclose`."""

    def __init__(
        self,
        response: httpx2.Response,
        backend: OpenAIBackend,
        request: Request,
        target: Target,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> None:
        self._response = response
        self._backend = backend
        self._request = request
        self._target = target
        self._watchdog = watchdog
        self._first_token_deadline_s = first_token_deadline_s
        self._has_content = False
        self._error: AppError | None = None
        self._bytes = response.aiter_bytes()
        self._decoder = ChatStreamDecoder(
            target=target.name,
            attempt=attempt,
            finish_reason_optional=target.finish_reason_optional,
            scrub=backend.scrub,
        )

    async def next_batch(self) -> list[Event]:
        """The events of the next read that brought any; never empty. `Finished`, if the answer is whole, comes last.

        Raises AppError when the stream breaks, stalls or ends early; what arrived before was returned before.
        A deadline counts from the call for idle time (a slow consumer is not a slow server), from the start of the
        attempt for the first content. Comments and empty deltas are no content.
        """
        if self._error is not None:
            raise self._error
        decoder = self._decoder
        deadline_s = self._deadline_s()
        while True:
            if decoder.is_done:
                return self._concluded()
            try:
                data = await self._watchdog.wait(anext(self._bytes, None), deadline_s, self._timeout)
            except AppError as error:
                if decoder.finish_reason is None or not isinstance(error, IdleTimeout):
                    raise
                data = None
            except Exception as error:
                if decoder.finish_reason is None:
                    raise self._backend._translated(error, self._target.name) from error
                data = None
            if data is None:
                return self._concluded()
            events = decoder.feed(data)
            if decoder.failure is not None:
                self._error = decoder.failure
                if not events:
                    raise decoder.failure
            if events:
                if not self._has_content:
                    self._has_content = any(isinstance(event, TextDelta | ReasoningDelta) for event in events)
                return events
            if decoder.finish_reason is not None:
                deadline_s = self._deadline_s()

    async def aclose(self) -> None:
        """Close the connection, so that the server stops generating; idempotent."""
        await self._response.aclose()

    async def check_content_type(self) -> None:
        """Raise unless the server says that this is an event stream."""
        content_type = self._response.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            return
        error = self._foreign_error(await self._foreign_body())
        if error is not None:
            raise error
        said = shortened(self._backend.scrub(content_type)) or "no content type"
        raise NotAStream(
            f"{self._target.name} answered with {said} instead of an event stream",
            hint="is --base-url the address of the API (it usually ends in /v1), and does the server stream?",
        )

    async def _foreign_body(self) -> bytes:
        body = b""
        try:
            while len(body) < _MAX_FOREIGN_BODY_BYTES:
                data = await self._watchdog.wait(anext(self._bytes, None), self._deadline_s(), self._timeout)
                if data is None:
                    break
                body += data
        except httpx2.HTTPError:
            pass  # The content type alone already decides; the body would only have said more.
        return body

    def _foreign_error(self, body: bytes) -> ProviderError | None:
        try:
            decoded = msgspec.json.decode(body)
        except ValueError:
            return None
        if isinstance(decoded, dict) and decoded.get("error") is not None:
            return classify_error_object(scrubbed(decoded["error"], self._backend.scrub))
        return None

    def _concluded(self) -> list[Event]:
        events, verdict = self._decoder.finish()
        if not isinstance(verdict, Aborted):
            return [*events, verdict]
        self._error = verdict.error
        if events:
            return events
        raise verdict.error

    def _deadline_s(self) -> float | None:
        idle_s = self._request.deadlines.idle_s
        if self._decoder.finish_reason is not None:
            return self._watchdog.now() + (_TAIL_S if idle_s is None else min(_TAIL_S, idle_s))
        if not self._has_content:
            return self._first_token_deadline_s
        return None if idle_s is None else self._watchdog.now() + idle_s

    def _timeout(self) -> ProviderError:
        if not self._has_content and self._decoder.finish_reason is None:
            return _first_token_timeout(self._request, self._target)
        limit_s = self._request.deadlines.idle_s or 0.0
        return IdleTimeout(
            f"{self._target.name} sent nothing more for {limit_s:g} s", hint="run again, or raise --idle-timeout"
        )


def _first_token_timeout(request: Request, target: Target) -> FirstTokenTimeout:
    limit_s = request.deadlines.first_token_s or 0.0
    return FirstTokenTimeout(
        f"{target.name} sent no text within {limit_s:g} s", hint="run again, or raise --first-token-timeout"
    )
