"""What outlives a run: settings, targets with their breakers and limits, guards, the embedded model's process.

A command runs once in its session, a conversation turn by turn, a program of somebody else as often as it likes.
"""

from __future__ import annotations

import random
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from utils.policies import Guards
from utils.run_context import Target
from utils.settings import Loaded, Settings
from utils.targets import TargetChoice, choose_target

if TYPE_CHECKING:
    import httpx2

    from utils.answer_guard import AnswerPolicy
    from utils.chain import TargetChain
    from utils.embedded_model.backend import EmbeddedBackend
    from utils.embedded_model.fetch import ProgressCallback
    from utils.embedded_model.server import EmbeddedServer
    from utils.failure_simulator import FailurePlan
    from utils.openai_stream import OpenAIBackend
    from utils.resilience.resilient_stream import Opener

__all__ = ["Session"]


class Session:
    """Made from settings; raises AppError for what cannot be used. `kill` or `aclose` ends what it started.

    *progress* is told about a fetch of the embedded model, in a worker thread. *other_keys*: keys of the user that are
    not sent to anybody here, and secrets all the same. *started_model*: the pinned model's process, if it was started
    before anybody knew whether it would be asked; `start_early` takes it over.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        allow_secrets: bool = False,
        progress: ProgressCallback | None = None,
        uses_aiohttp: bool = False,
        other_keys: tuple[str, ...] = (),
        started_model: EmbeddedServer | None = None,
    ) -> None:
        self.loaded = loaded
        self.settings: Settings = loaded.settings
        self.choice: TargetChoice = choose_target(self.settings, origins=loaded.origins)
        self.targets: tuple[Target, ...] = (self.choice.target,)
        self._ggufs: dict[Target, Path | None] = {self.choice.target: self.choice.gguf}
        self._own_settings: dict[Target, Settings] = {}
        self._add_fallbacks()
        self.plan: FailurePlan | None = None
        """The simulated failures, once the first server was made: one plan for all of them."""
        self._allow_secrets = allow_secrets
        self._progress = progress
        self._uses_aiohttp = uses_aiohttp
        self._other_keys = other_keys
        self._started_model = started_model
        self._embedded: dict[Target, EmbeddedBackend] = {}
        self._judge: OpenAIBackend | None = None
        self._chain: TargetChain | None = None

    @cached_property
    def guards(self) -> Guards:
        """What prompts and answers are judged by. Raises as `Guards` does."""
        return self._made_guards(self.loaded)

    @property
    def own_keys(self) -> tuple[str, ...]:
        """The keys of the user, which are secrets wherever they stand."""
        return (*self.loaded.secrets, *self._other_keys)

    def reguard(self, loaded: Loaded) -> None:
        """Use other settings from now on, of which only those of guards, texts and figures matter: the targets stay.

        Raises as `Guards` does; then nothing has changed.
        """
        self.__dict__["guards"] = self._made_guards(loaded)
        self.loaded, self.settings = loaded, loaded.settings

    def start_early(self) -> None:
        """Start the embedded model's process if that is asked first, so that it loads while we do other things."""
        if self.choice.target.is_embedded:
            self._embedded_backend(self.choice.target).start_early()
        elif self._started_model is not None:
            self._started_model.stop()
            self._started_model = None

    def opener(self, prompt: str | None = None) -> Opener:
        """Opens the answers of all runs of this session. To be called once, in the event loop that they run in.

        *prompt*: of a single run, whose request the rate limits must have room for; see `TargetChain`.
        """
        from utils.chain import TargetChain
        from utils.resilience.adapting import Adaptation
        from utils.resilience.resilient_stream import Opener
        from utils.resilience.retry_policy import RetryPolicy

        settings = self.settings
        self._chain = TargetChain(
            settings,
            self.targets,
            settings_of=self._own_settings,
            embedded=self._embedded_backend,
            wrap_transport=self._faulty if settings.simulate_failures else None,
            prompt=prompt,
            uses_aiohttp=self._uses_aiohttp,
        )
        return Opener(
            self._chain.upstreams,
            RetryPolicy(retries=settings.retries, resumes=settings.retries),
            adaptation=Adaptation() if settings.adaptive else None,
        )

    def answer_policy(self) -> AnswerPolicy:
        """What the answers of this session must be; makes the client of a moderation endpoint if one judges."""
        if self._judge is None:
            self._judge = self.guards.judge()
        return self.guards.answer(self._judge)

    def remember(self) -> str | None:
        """Write down what was measured of the targets; a line for the user if that matters and failed."""
        return self._chain.remember() if self._chain is not None else None

    def kill(self) -> None:
        """End the embedded model's process, synchronously; idempotent."""
        for embedded in self._embedded.values():
            embedded.kill()

    async def aclose(self) -> None:
        """Close all connections and end the embedded model's process; idempotent."""
        for server in (self._chain, self._judge):
            if server is not None:
                await server.aclose()

    def _made_guards(self, loaded: Loaded) -> Guards:
        return Guards(loaded, self.choice, allow_secrets=self._allow_secrets, other_keys=self._other_keys)

    def _add_fallbacks(self) -> None:
        if not self.settings.fallback:
            return
        from utils.fallbacks import fallbacks_of

        for fallback in fallbacks_of(self.loaded, self.choice):
            self.targets += (fallback.target,)
            self._ggufs[fallback.target] = fallback.gguf
            self._own_settings[fallback.target] = fallback.settings

    def _embedded_backend(self, target: Target) -> EmbeddedBackend:
        from utils.embedded_model.backend import EmbeddedBackend

        if target not in self._embedded:
            self._embedded[target] = EmbeddedBackend(
                gguf=self._ggufs[target],
                connect_timeout_s=self.settings.connect_timeout_s,
                wrap_transport=self._faulty if self.settings.simulate_failures else None,
                progress=self._progress,
                started=self._started_model if self._ggufs[target] is None else None,
            )
        return self._embedded[target]

    def _faulty(self, inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """*inner* with the planned failures."""
        from utils.failure_simulator import FaultTransport, demo_plan, parse_plan

        settings = self.settings
        if self.plan is None:
            if settings.failure_plan is not None:
                self.plan = parse_plan(settings.failure_plan, seed=settings.failure_seed)
            else:
                self.plan = demo_plan(random.Random(settings.failure_seed))  # noqa: S311 - a demonstration
        return FaultTransport(inner, self.plan)
