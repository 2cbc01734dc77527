"""One target with everything about it that outlives a run: server, breaker, limiter, hedges, budget, figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from utils.events import Event
from utils.resilience.breaker import Breaker, BreakerState
from utils.resilience.continuation import Capabilities, Detected, capabilities_of
from utils.resilience.observations import Observations
from utils.resilience.rate_headers import RateHeaders
from utils.resilience.retry_policy import RetryBudget
from utils.run_context import Deadlines, Parameters, Request, Target
from utils.watchdog import Watchdog

if TYPE_CHECKING:
    from utils.resilience.hedging import Hedger
    from utils.resilience.limited import SharedLimiter

__all__ = ["Backend", "ChatSource", "Upstream"]


class ChatSource(Protocol):
    """One open answer (see `chat_reader.ChatReader`)."""

    async def next_batch(self) -> list[Event]:
        """The next events; the last batch ends with `Finished`. Raises AppError."""
        ...

    @property
    def rate_headers(self) -> RateHeaders:
        """What the server said about its limits; read only where there is a limiter."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


class Backend(Protocol):
    """Whatever can open an answer for a target (see `openai_stream.OpenAIBackend`)."""

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatSource:
        """Connect and send. Raises AppError."""
        ...

    async def detect(self, target: Target, watchdog: Watchdog) -> Detected:
        """What the server says about itself, asked when a cut answer has to go on. Raises AppError for a stop only."""
        ...


@dataclass(slots=True)
class Upstream:
    """A target as runs use it. Shared by all of them within one event loop; copies of a node share it too."""

    target: Target
    backend: Backend
    breaker: Breaker = field(default_factory=Breaker)
    limiter: SharedLimiter | None = None
    configured: Capabilities | None = None
    """How a cut answer goes on here; None: as the server lets detect."""
    defaults: Parameters = field(default_factory=Parameters)
    """What is sent where the user gave nothing."""
    observed: Observations = field(default_factory=Observations)
    hedger: Hedger | None = None
    """Asked only by flows that adapt; None: one request at a time, as for a server with one slot."""
    budget: RetryBudget = field(default_factory=RetryBudget)
    deadlines: Deadlines | None = None
    """The adapted ones that are in force, if any were."""
    hedge_delay_s: float | None = None
    """The one in force."""
    _capabilities: Capabilities | None = None

    def __copy__(self) -> Upstream:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Upstream:
        return self

    def adjusted(self, request: Request) -> Request:
        """*request* with this target's defaults."""
        parameters = request.parameters.filled(self.defaults)
        return request if parameters is request.parameters else request.with_parameters(parameters)

    @property
    def capabilities(self) -> Capabilities:
        """How a cut answer goes on here, as far as it is known without asking."""
        return self._capabilities or capabilities_of(self.target, None, self.configured)

    async def detected(self, watchdog: Watchdog) -> Capabilities:
        """How a cut answer goes on here; asks the server once if that is not known. Raises AppError for a stop."""
        if self._capabilities is None:
            is_known = self.configured is not None or self.target.is_embedded
            detected = None if is_known else await self.backend.detect(self.target, watchdog)
            capabilities = capabilities_of(self.target, detected, self.configured)
            # A server that did not answer now may do so later.
            if is_known or (detected is not None and detected.owned_by is not None):
                self._capabilities = capabilities
            return capabilities
        return self._capabilities

    def is_healthy(self, now: float) -> bool:
        """Whether a second request may be sent at once, for speed alone."""
        breaker = self.breaker.statistics(now)
        return breaker.state is BreakerState.CLOSED and not breaker.retry_after_s

    def statistics(self) -> dict[str, Any]:
        """JSON-ready figures of everything that has been used."""
        figures: dict[str, Any] = {"target": self.target.name, "breaker": self.breaker.statistics().as_json()}
        if self.limiter is not None:
            figures["limiter"] = self.limiter.statistics().as_json()
        if self.hedger is not None:
            figures["hedging"] = self.hedger.statistics().as_json()
        return figures
