"""From the settings of a run to its chain of targets, each with its server, breaker, limits and memory.

Servers are made when they are first asked: a fallback that nobody needs costs nothing. What processes remember of
targets together lies in the state file; runs with simulated failures neither read nor write it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.continuation import Detected
from utils.resilience.observations import Observations
from utils.resilience.retry_policy import RetryBudget
from utils.resilience.target_states import TargetStates, target_key
from utils.resilience.upstream import Backend, ChatSource, Upstream
from utils.run_context import Parameters, Request, Target
from utils.settings import Settings, parameters, resume_capabilities
from utils.state_store import StateStore, state_path
from utils.watchdog import Watchdog

if TYPE_CHECKING:
    from utils.embedded_model.backend import EmbeddedBackend
    from utils.openai_stream import OpenAIBackend, TransportWrapper
    from utils.resilience.hedging import Hedger

__all__ = ["TargetChain"]

_LONGEST_SILENCE_S = 3600.0
"""For how long a request that may wait for ever counts as alive."""
_CONTINUATION_TOKENS = 300
"""What a request to go on with a cut answer may have more than the first one: its instruction, the repeated words."""


class TargetChain:
    """The upstreams of a run. Close it with `aclose`; `remember` what was measured when the answer is over.

    *settings_of*: those of targets that have their own. *embedded* makes the embedded model's backend (it may have
    started already). *wrap_transport* puts simulated
    failures into every server of the chain. *prompt*: of a single run, whose request the limits must have room for;
    None: of many runs, each of which may take half of what the limits allow in a minute. *uses_aiohttp*: the transport
    that is cheaper per chunk and dearer to import.
    """

    def __init__(
        self,
        settings: Settings,
        targets: tuple[Target, ...],
        *,
        embedded: Callable[[Target], EmbeddedBackend],
        settings_of: Mapping[Target, Settings] | None = None,
        wrap_transport: TransportWrapper | None = None,
        prompt: str | None = None,
        uses_aiohttp: bool = False,
    ) -> None:
        self._settings = settings
        self._settings_of = settings_of or {}
        self._embedded = embedded
        self._wrap_transport = wrap_transport
        self._backends: list[_Lazy] = []
        path = None if wrap_transport is not None else state_path()
        self._store = None if path is None else StateStore(path)
        jitter = random.Random()  # noqa: S311 - when to come back, no secret
        # A probe that waits as long as it may for its first text must not lose its place before that.
        patience_s = settings.connect_timeout_s + (settings.first_token_timeout_s or _LONGEST_SILENCE_S)
        usual = BreakerPolicy()
        policy = BreakerPolicy(
            permit_s=max(usual.permit_s, patience_s + 5.0),
            # Whoever asks for so many attempts is to have them.
            failure_threshold=max(usual.failure_threshold, settings.retries + 1),
            minimum_calls=max(usual.minimum_calls, settings.retries + 2),
        )
        self._states = TargetStates(policy, rng=jitter, store=self._store)
        self._prompt = prompt
        self._uses_aiohttp = uses_aiohttp
        self.upstreams = tuple(self._upstream(target) for target in targets)

    async def aclose(self) -> None:
        """End the embedded model, close the connections and the state file; idempotent."""
        for backend in self._backends:
            await backend.aclose()
        if self._store is not None:
            self._store.close()

    def remember(self) -> str | None:
        """Write what was measured into the state file; a line for the user if that file was needed and is of no use."""
        if self._store is None:
            return None
        warning = self._store.take_warning()
        for upstream in self.upstreams:
            key = target_key(upstream.target.base_url, upstream.target.model)
            for figure, sketch in upstream.observed.take_new():
                self._store.merge_sketch(key, figure, sketch)
        # Where nobody asked for adapting, a file that cannot take the figures is nobody's problem.
        return warning or (self._store.take_warning() if self._settings.adaptive else None)

    def _upstream(self, target: Target) -> Upstream:
        settings, store = self._settings_of.get(target, self._settings), self._store
        backend = _Lazy(lambda: self._made(target))
        self._backends.append(backend)
        key = target_key(target.base_url, target.model)
        observed = Observations(None if store is None else lambda figure: store.load_sketch(key, figure))
        filled = parameters(settings, target=target)
        limiter = None
        if settings.rpm is not None or settings.tpm is not None:
            from utils.resilience.limited import SharedLimiter
            from utils.resilience.limiter import Limiter, Limits

            limiter = SharedLimiter(
                Limiter(Limits(settings.rpm, settings.tpm, self._largest_request(settings, filled)))
            )
        return Upstream(
            target,
            self._marked(backend),
            self._states.breaker(target),
            limiter=limiter,
            configured=resume_capabilities(settings, target),
            defaults=Parameters(temperature=filled.temperature, max_tokens=filled.max_tokens, seed=filled.seed),
            observed=observed,
            # The embedded server has one slot: a second request would wait for the first.
            hedger=_hedger(observed) if settings.adaptive and not target.is_embedded else None,
            budget=RetryBudget(constant=max(5, settings.retries)),
        )

    def _largest_request(self, settings: Settings, filled: Parameters) -> int:
        """Tokens that one request may take."""
        from utils.resilience.limiter import reservation_tokens

        if self._prompt is None:
            return (settings.tpm or 0) // 2
        prompt = f"{settings.system or ''}\n{self._prompt}"
        return reservation_tokens(prompt, filled.max_tokens) + _CONTINUATION_TOKENS

    def _marked(self, backend: _Lazy) -> Backend:
        if self._wrap_transport is None:
            return backend
        from utils.failures.marking import MarkingBackend

        return MarkingBackend(backend)

    def _made(self, target: Target) -> EmbeddedBackend | OpenAIBackend:
        if target.is_embedded:
            return self._embedded(target)
        from utils.openai_stream import OpenAIBackend

        return OpenAIBackend(
            base_url=target.base_url,
            api_key=target.api_key,
            connect_timeout_s=self._settings.connect_timeout_s,
            wrap_transport=self._wrap_transport,
            uses_aiohttp=self._uses_aiohttp,
        )


def _hedger(observed: Observations) -> Hedger:
    from utils.resilience.hedging import HedgePolicy, Hedger

    policy = HedgePolicy()
    # A run is one request: the budget is that of all runs.
    saved = functools.partial(observed.unspent_hedges, policy.budget_ratio)
    return Hedger(policy, observed.first_content_s, saved=saved)


class _Lazy:
    """A backend that is made when it is first asked."""

    def __init__(self, make: Callable[[], EmbeddedBackend | OpenAIBackend]) -> None:
        self._make = make
        self._made: EmbeddedBackend | OpenAIBackend | None = None

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatSource:
        """See `Backend`."""
        return await self._backend().open_chat(
            request, target, attempt=attempt, watchdog=watchdog, first_token_deadline_s=first_token_deadline_s
        )

    async def detect(self, target: Target, watchdog: Watchdog) -> Detected:
        """See `Backend`."""
        return await self._backend().detect(target, watchdog)

    async def aclose(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.aclose()

    def _backend(self) -> EmbeddedBackend | OpenAIBackend:
        if self._made is None:
            self._made = self._make()
        return self._made
