"""From the settings of a run to what its prompt and its answer are judged by."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from utils.embedded_model.spec import CONTEXT_TOKENS
from utils.errors import ConfigError, UsageProblem
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.guardrails.prompt_guard import PromptLimits, PromptPolicy
from utils.settings import Loaded, guard_packs, parameters, toxicity_mode

if TYPE_CHECKING:
    from utils.answer_guard import AnswerPolicy
    from utils.openai_stream import OpenAIBackend
    from utils.run_context import Parameters
    from utils.targets import TargetChoice
    from utils.validation.plan import ValidationPlan

__all__ = ["Guards"]


class Guards:
    """What a run is judged by. Raises: ConfigError for a pack, a schema, a grammar, a missing key, or a setting that
    cannot be used; UsageProblem if that setting was typed.

    *other_keys*: keys of the user that are not those of the settings, and secrets all the same.
    """

    def __init__(
        self, loaded: Loaded, choice: TargetChoice, *, allow_secrets: bool, other_keys: tuple[str, ...] = ()
    ) -> None:
        settings = self._settings = loaded.settings
        own_keys = (*loaded.secrets, *other_keys)
        if self._asks_a_judge and settings.api_key is None:
            from utils.moderation import no_key

            raise no_key()
        self.packs = packs = guard_packs(settings, DEFAULT_PACKS)
        self.rules = compile_rules(packs, action=settings.guard_action, own_keys=own_keys) if packs else None
        """What the answer must not hold; None for no guard on it."""
        self._toxicity = toxicity_mode(settings)
        self._plan = _validation_plan(loaded)
        self.parameters = _common_parameters(loaded)
        if self._plan is not None:
            self.parameters = dataclasses.replace(self.parameters, response_format=self._plan.response_format)
        is_pinned = choice.target.is_embedded and choice.gguf is None
        self.prompt = PromptPolicy(
            PromptLimits(
                settings.prompt_limit_chars,
                settings.context_tokens or (CONTEXT_TOKENS if choice.target.is_embedded else None),
                parameters(settings, target=choice.target).max_tokens,
                "smollm2" if is_pinned else "unknown",
            ),
            secrets=compile_rules(("secrets",), own_keys=own_keys),
            advisory=compile_rules(("pii", "injection"), action="flag"),
            allow_secrets=allow_secrets,
        )

    @property
    def _asks_a_judge(self) -> bool:
        return self._settings.toxicity_classifier != "lexical" and toxicity_mode(self._settings) != "off"

    def judge(self) -> OpenAIBackend | None:
        """The server whose moderation endpoint judges the answer, if the user asked for one."""
        if not self._asks_a_judge:
            return None
        from utils.moderation import moderation_backend

        settings = self._settings
        timeout_s = min(5.0, settings.connect_timeout_s)
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        return moderation_backend(base_url=settings.base_url, api_key=key, connect_timeout_s=timeout_s)

    def answer(self, judge: OpenAIBackend | None) -> AnswerPolicy:
        """The policy of the answer, with *judge*'s moderation endpoint in the place of the lexical model."""
        from utils.answer_guard import AnswerPolicy
        from utils.moderation import OpenAIModeration

        return AnswerPolicy(
            self.rules,
            self._toxicity,
            OpenAIModeration(judge) if judge else None,
            self._plan,
            self._settings.max_tokens_per_second,
        )


def _common_parameters(loaded: Loaded) -> Parameters:
    """What all targets of a run are asked with; where they differ, each upstream fills in its own."""
    asked = parameters(loaded.settings)
    others = [*loaded.fallbacks.values(), *([loaded.general] if loaded.general is not None else [])]
    return dataclasses.replace(
        asked,
        temperature=asked.temperature if all(other.temperature == asked.temperature for other in others) else None,
        max_tokens=asked.max_tokens if all(other.max_tokens == asked.max_tokens for other in others) else None,
    )


def _validation_plan(loaded: Loaded) -> ValidationPlan | None:
    settings = loaded.settings
    wanted = settings.json_schema, settings.regex, settings.grammar, *settings.validators
    if not any(wanted) and not settings.validate_retries:
        return None
    from utils.validation.plan import plan_of

    try:
        return plan_of(
            json_schema=settings.json_schema,
            regex=settings.regex,
            grammar=settings.grammar,
            specs=settings.validators,
            retries=settings.validate_retries,
        )
    except UsageProblem as error:
        # It names the flag; what was not typed is named by where it stands, and is no mistake in typing.
        flag = next((flag for flag in _FLAGS if error.message.startswith(flag)), None)
        if flag is None:
            raise
        source, _, label = loaded.origins[_FLAGS[flag]].partition(" ")
        is_typed = source == "flag" and not label.startswith("--template ")
        if is_typed:
            raise
        place = label if source == "environment" else f"{label.removeprefix('--')}: {_FLAGS[flag]}"
        raise ConfigError(place + error.message.removeprefix(flag), hint=error.hint) from error


_FLAGS = {"--validate-retries": "validate_retries", "--validate": "validators", "--regex": "regex"}
