"""What stands between the raw answer of a model and its reader: validation, then toxicity, the rules, the pace.

The order matters. Validators and judges of toxicity read what the model wrote: a replacement would change what they
find. The rules come last, so nothing that another stage passes on reaches a reader unguarded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from utils.guardrails.guard import Guard
from utils.guardrails.hold_log import HoldLog
from utils.guardrails.prompt_guard import Finding
from utils.guardrails.redactor import GuardStatistics, Redactor
from utils.guardrails.rules import RuleSet
from utils.guardrails.stage import guarded
from utils.run_context import EventStream, Request

# What only some policies need is imported where they do: it would take a tenth of the time to the first token.
if TYPE_CHECKING:
    from utils.guardrails.moderation import ModerationStatistics, RemoteClassifier
    from utils.guardrails.toxicity import LexicalToxicity, ToxicityGuard
    from utils.validation.plan import ValidationPlan
    from utils.validation.retrying import Reopen
    from utils.validation.validators import Violation

__all__ = ["AnswerGuard", "AnswerPolicy", "GuardFigures", "ToxicityPolicy"]

ToxicityPolicy = Literal["off", "flag", "stop", "hold"]
"""What happens to a sentence that is judged toxic."""


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """What an answer must be and must not hold. *endpoint* judges toxicity in the place of the lexical model."""

    rules: RuleSet | None = None
    toxicity: ToxicityPolicy = "off"
    endpoint: RemoteClassifier | None = None
    validation: ValidationPlan | None = None
    max_tokens_per_second: float | None = None
    """How fast the guarded answer may appear; None: as it comes."""
    needs_code_block: bool = False
    """Whether an answer that is whole must have a fenced code block."""


class GuardFigures:
    """What the guards of one run report about themselves; filled when the stream ends."""

    def __init__(self) -> None:
        self.prompt: list[Finding] = []
        self.answer: GuardStatistics | None = None
        self.reasoning: GuardStatistics | None = None
        self.screens: list[ToxicityGuard] = []
        """The first one judges the answer, unless an endpoint does."""
        self.moderation: ModerationStatistics | None = None
        self.validation: ValidationPlan | None = None
        """What the answer must be; None if nothing was asked for, or no answer came."""
        self.violations: list[Violation] = []
        """One for each answer that was refused; the plan may have had it asked for again."""
        self.hold: HoldLog | None = None
        """What text waited in the guard; filled while the answer comes. Not part of the JSON object: see the record."""

    def take(self, answer: GuardStatistics, reasoning: GuardStatistics | None) -> None:
        """Receive the final figures of the output guard."""
        self.answer, self.reasoning = answer, reasoning

    def take_hold(self, log: HoldLog) -> None:
        """Receive the log of the answer's guard, which fills as the answer comes."""
        self.hold = log

    def take_moderation(self, figures: ModerationStatistics) -> None:
        """Receive the final figures of the endpoint's judgements."""
        self.moderation = figures

    def structure(self, *, is_finished: bool) -> Literal["valid", "invalid"] | None:
        """What the checks made of the last answer, which ended as it should if *is_finished*. None: there were none, or
        it ended otherwise before they could tell.
        """
        if self.validation is None:
            return None
        if is_finished:
            return "valid"
        return "invalid" if len(self.violations) > self.validation.retries else None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready; holds rules, counts and places, never a removed text."""
        figures: dict[str, Any] = {"prompt": [finding.as_json() for finding in self.prompt]}
        for name, statistics in (("answer", self.answer), ("reasoning", self.reasoning)):
            if statistics is not None:
                figures[name] = dataclasses.asdict(statistics)
        if self.moderation is not None:
            figures["toxicity"] = dataclasses.asdict(self.moderation)
        elif self.screens:
            figures["toxicity"] = dataclasses.asdict(self.screens[0].toxicity_statistics())
        if self.violations:
            figures["validation"] = [
                {
                    "validator": found.validator,
                    "reason": found.reason,
                    "position": found.position,
                    "byte_position": found.byte_position,
                }
                for found in self.violations
            ]
        return figures


class AnswerGuard:
    """Puts the stages of *policy* around opened answers; shared by all runs of a flow."""

    def __init__(self, policy: AnswerPolicy, reopen: Reopen) -> None:
        self._policy = policy
        self._reopen = reopen
        self._model: LexicalToxicity | None = None
        if policy.toxicity != "off":
            from utils.guardrails.toxicity import LexicalToxicity

            self._model = LexicalToxicity()
            self._model.load()

    def around(self, stream: EventStream, request: Request, figures: GuardFigures) -> EventStream:
        """*stream*, the answer to *request*, behind the stages; nothing is pulled yet."""
        policy = self._policy
        if policy.validation is not None:
            from utils.validation.retrying import checked

            figures.validation = policy.validation
            stream = checked(stream, request, policy.validation, self._reopen, on_violation=figures.violations.append)
        if policy.rules is not None or policy.toxicity != "off":
            stream = self._guarded(stream, request, figures)
        if policy.needs_code_block:
            from utils.code_block_stage import requiring_code_block

            stream = requiring_code_block(stream)
        if policy.max_tokens_per_second is not None:
            from utils.resilience.paced import paced
            from utils.resilience.pacing import Pacer

            stream = paced(stream, Pacer(policy.max_tokens_per_second), context=request.context)
        return stream

    def _guarded(self, stream: EventStream, request: Request, figures: GuardFigures) -> EventStream:
        policy = self._policy
        # Reasoning never leaves this machine: the lexical model judges it in every case.
        reasoning = answer = self._guards(figures)
        if self._model is not None and policy.toxicity != "off" and policy.endpoint is not None:
            from utils.guardrails.moderation import ModerationPolicy
            from utils.moderated_stream import moderated

            answer = self._redactor
            stream = moderated(
                stream,
                policy.endpoint,
                ModerationPolicy(policy.toxicity),
                local=self._model,
                context=request.context,
                on_statistics=figures.take_moderation,
            )
        clock = request.context.clock
        return guarded(
            stream,
            answer,
            reasoning_factory=reasoning,
            clock=clock,
            on_statistics=figures.take,
            on_hold=figures.take_hold,
        )

    def _redactor(self) -> Redactor:
        return Redactor(self._policy.rules or _NO_RULES)

    def _guards(self, figures: GuardFigures) -> Callable[[], Guard]:
        mode, model = self._policy.toxicity, self._model
        if mode == "off" or model is None:
            return self._redactor
        from utils.guardrails.toxicity import ToxicityGuard
        from utils.guardrails.toxicity_screen import ScreenedGuard

        def screened() -> Guard:
            screen = ToxicityGuard(model, mode)
            figures.screens.append(screen)
            return ScreenedGuard(screen, self._redactor())

        return screened


_NO_RULES = RuleSet.compile(())
