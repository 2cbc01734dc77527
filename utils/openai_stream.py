"""The OpenAI stream wrapper: the only importer of `openai`, and the one place where foreign errors become ours.

AsyncOpenAI does authentication, URLs and headers; its retries are off (there is one retry layer, ours) and its
chunk models are never built: the unread raw response goes to `chat_reader`, which also sees what the SDK hides
(`[DONE]`, the content type, an empty body).
"""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import msgspec
import openai

from utils.chat_body import chat_body, structure
from utils.chat_reader import ChatReader, first_token_timeout
from utils.errors import (
    AppError,
    ConfigError,
    FirstTokenTimeout,
    ModelNotFound,
    NotAStream,
    ProtocolError,
    ProviderError,
    RequestRefused,
)
from utils.events import Adapted, Event
from utils.http_body import bound_other_bodies
from utils.provider_errors import key_scrubber, named, scrubbed, shortened
from utils.resilience.continuation import Detected
from utils.run_context import Request, Target
from utils.transport_errors import error_of_response, error_of_transport
from utils.watchdog import Watchdog

__all__ = ["OpenAIBackend"]

TransportWrapper = Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]

_MODELS_TIMEOUT_S = 5.0
_TOP_LEVEL = re.compile(r"[.\[].*", re.DOTALL)
_SPEAKS_OF_STRUCTURE = re.compile(r"response_format|json.?schema|grammar|structured.?output|guided", re.IGNORECASE)
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


class OpenAIBackend:
    """One server: a connection pool, and what was learnt about the parameters that it refuses.

    *wrap_transport* puts a transport (the failure simulator's) around the real ones, a proxy's too. The proxy settings
    of the environment are never used for a server on this machine. Redirects are not followed: they would lose
    the prompt, or take it to another server. *closes_connections* sends `Connection: close`, for servers that break
    when a connection is used again at once. *uses_aiohttp*: the SDK's other transport, for many streams at once; it
    needs the extra `many`.
    Raises ConfigError if the environment's proxy or certificate settings cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        connect_timeout_s: float = 10.0,
        wrap_transport: TransportWrapper | None = None,
        closes_connections: bool = False,
        uses_aiohttp: bool = False,
    ) -> None:
        self.base_url = base_url
        self._models: list[str] | None = None
        self._owners: dict[str, str] = {}
        """What /models says about who serves a model."""
        self._renamed: dict[str, str | None] = {}
        """Parameters that this server refused: their other name, or None if they are left out."""
        self._is_strict = True
        """Whether schemas are sent in strict mode, which takes only some of them."""
        self.scrub = key_scrubber(api_key)
        """Takes the key out of a text: some servers repeat it in their messages."""
        self._headers: dict[str, Any] = {"Accept-Encoding": "identity"}
        if closes_connections:
            self._headers["Connection"] = "close"
        if not api_key:
            self._headers["Authorization"] = openai.omit
        try:
            self._client = openai.AsyncOpenAI(
                api_key=api_key or "none",
                base_url=base_url,
                max_retries=0,
                # Reads are bounded by our own deadlines, which know content from keep-alive.
                timeout=httpx2.Timeout(None, connect=connect_timeout_s),
                http_client=_http_client(base_url, wrap_transport, uses_aiohttp=uses_aiohttp),
            )
        except RuntimeError as error:  # what the SDK says if aiohttp is missing
            raise ConfigError(
                "the aiohttp transport is not installed", hint="pip install 'kaygraph-streaming-llm[many]'"
            ) from error
        except (ImportError, OSError, ValueError) as error:
            raise ConfigError(
                f"no HTTP client can be made: {shortened(self.scrub(str(error)))}",
                hint="check the proxy and certificate settings of the environment (ALL_PROXY, SSL_CERT_FILE, ...)",
            ) from error

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
                self._models = [named(str(row["id"]), self.scrub) for row in rows]
                self._owners = {str(row["id"]): str(row.get("owned_by") or "") for row in rows}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise NotAStream(
                    f"{self.base_url}/models did not list any models", hint="name one with --model"
                ) from error
            except Exception as error:
                raise self.translated(error, self.base_url) from error
        return self._models

    async def post_json(self, path: str, body: dict[str, object]) -> object:
        """The decoded answer to a request that is no stream. Whoever calls bounds the time. Raises AppError."""
        try:
            response = await self._client.post(
                path, body=body, cast_to=httpx2.Response, options={"headers": self._headers}
            )
            return msgspec.json.decode(response.content)
        except (UnicodeDecodeError, msgspec.DecodeError):
            # The decoder's error would keep what was received, which may quote what was sent.
            raise ProtocolError(f"{self.base_url}{path} did not answer with JSON", hint="run again") from None
        except Exception as error:
            raise self.translated(error, self.base_url) from error

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

    async def detect(self, target: Target, watchdog: Watchdog) -> Detected:
        """What the server says about who serves *target*'s model; nothing if it does not answer soon. Raises Stopped
        and TotalTimeout only.
        """
        try:
            models = await self.list_models(watchdog, watchdog.now() + _MODELS_TIMEOUT_S)
        except ProviderError:
            return Detected()
        return Detected(self._owners.get(target.model or next(iter(models), "")))

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatReader:
        """Send the request; the stream whose headers have arrived and are good.

        A parameter that the server refuses by name is left out, or sent under its other name, once; an `Adapted`
        event says so. Raises AppError; nothing stays open then.
        """
        emit = request.context.emit
        model = await self.resolved(target, watchdog, emit)
        while True:
            body = chat_body(request, model, renamed=self._renamed, is_strict=self._is_strict)
            try:
                response = await watchdog.wait(
                    self._post(body), first_token_deadline_s, lambda: first_token_timeout(request, target)
                )
            except AppError:
                raise
            except Exception as caught:
                error = self.translated(caught, target.name)
                if isinstance(error, RequestRefused) and self._adapt(error, body, request):
                    continue
                if isinstance(error, ModelNotFound):
                    await self._suggest_model(error, model, watchdog)
                raise error from caught
            stream = ChatReader(
                response,
                request,
                target,
                attempt=attempt,
                watchdog=watchdog,
                first_token_deadline_s=first_token_deadline_s,
                translate=self.translated,
                scrub=self.scrub,
                keeps_connection="Connection" not in self._headers,
            )
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

    def _adapt(self, error: RequestRefused, body: dict[str, object], request: Request) -> bool:
        """Learn from a refusal that names a parameter; whether the request is worth sending again."""
        emit = request.context.emit
        # Nested names (`response_format.json_schema.schema`, `stop[0]`) belong to the parameter they begin with.
        name = _TOP_LEVEL.sub("", error.parameter) if error.parameter else None
        if name == "top_logprobs":
            name = "logprobs"
        if name not in body and "response_format" in body and _SPEAKS_OF_STRUCTURE.search(error.message):
            name = "response_format"
        if name == "response_format" and self._is_strict and name in body:
            self._is_strict = False
            if structure(request.parameters, is_strict=False) != body[name]:
                emit(Adapted("request.response_format", "strict", "not strict", f"{self.base_url} refused it"))
                return True
        # Without what it is asked to continue by, a server would answer something else.
        if name is None or name in ("model", "messages", "stream", *request.extra_body) or name not in body:
            return False
        original = next((old for old, new in self._renamed.items() if new == name), None)
        if original is not None:  # refused under its other name too
            self._renamed[original] = None
            other = None
        else:
            other = _OTHER_NAMES.get(name)
            self._renamed[name] = other
        after = f"sent as {other}" if other else "left out"
        before = "json_schema" if name == "response_format" else shortened(body[name])
        emit(Adapted(f"request.{name}", before, after, f"{self.base_url} refused it"))
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

    def translated(self, error: Exception, target: str) -> AppError:
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


def _http_client(base_url: str, wrap_transport: TransportWrapper | None, *, uses_aiohttp: bool) -> httpx2.AsyncClient:
    # To aiohttp no limit is 0: with None it takes its own default, and the 101st stream waits for the first to end.
    most = 0 if uses_aiohttp else None
    limits = httpx2.Limits(max_connections=most, max_keepalive_connections=100, keepalive_expiry=30.0)
    url = urlsplit(base_url)
    is_here = url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")
    kind = openai.DefaultAioHttpClient if uses_aiohttp else httpx2.AsyncClient
    client = kind(
        # What stays on this machine must not be sent to a proxy.
        trust_env=not is_here,
        # There is no TLS on this way, and reading the trusted authorities takes 40 ms: this context trusts nobody.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_here else True,
        limits=limits,
        follow_redirects=False,
        timeout=httpx2.Timeout(None),
        event_hooks={"response": [bound_other_bodies]},
    )
    if wrap_transport is not None:
        from utils.failure_simulator import wrap_client

        wrap_client(client, wrap_transport)
    return client
