"""`--dry-run`: what would be sent, and what the guard says about it. Connects to nothing and starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from commands.printing import echo
from utils.chat_body import chat_body, for_embedded
from utils.events import error_as_json
from utils.guardrails.prompt_guard import PromptVerdict
from utils.guardrails.prompt_mask import masked
from utils.guardrails.prompt_tokens import TEMPLATE_TOKENS, fewest_tokens, likely_tokens
from utils.render.json_sinks import json_line, json_text
from utils.render.prompt_notices import prompt_notice
from utils.run_context import Request
from utils.session import Session
from utils.settings import parameters
from utils.vocabularies import tokenizer_for

__all__ = ["DryRun"]

_REFUSED_CHARS = 2_000


class DryRun:
    """What a run with *request* in *session* would send to its first target, as far as that can be known here."""

    def __init__(self, session: Session, request: Request, verdict: PromptVerdict) -> None:
        self._session = session
        self._verdict = verdict
        target = session.choice.target
        # What the target's upstream does with each request.
        request = request.with_parameters(request.parameters.filled(parameters(session.settings, target=target)))
        self._request = for_embedded(request) if target.is_embedded else request
        self._masked = 0
        self._is_cut = verdict.rejection is not None
        self._body = self._without_secrets(chat_body(self._request, target.model or None))

    @property
    def exit_code(self) -> int:
        """That of the prompt guard: 0, or that of its refusal."""
        return self._verdict.rejection.exit_code if self._verdict.rejection is not None else 0

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        choice, rejection = self._session.choice, self._verdict.rejection
        findings = [{**finding.as_json(), "source": finding.source or None} for finding in self._verdict.findings]
        return {
            "dry_run": True,
            "target": choice.target.name,
            "model_requested": choice.model_requested,
            "url": None if choice.target.is_embedded else f"{choice.target.base_url}/chat/completions",
            "fallbacks": [target.name for target in self._session.targets[1:]],
            "request": self._body,
            "masked_secrets": self._masked,
            "tokens": self._tokens(),
            "guard": {"prompt": findings},
            "exit_code": self.exit_code,
            "error": error_as_json(rejection) if rejection is not None else None,
        }

    def show(self) -> None:
        """Print it for people. Raises the guard's refusal, to be told as that of a run."""
        choice, policy = self._session.choice, self._session.guards.prompt
        where = "the embedded model" if choice.target.is_embedded else f"{choice.target.base_url}/chat/completions"
        lines = [f"target: {choice.target.name}"]
        if len(self._session.targets) > 1:
            lines.append(f"fallbacks: {', '.join(target.name for target in self._session.targets[1:])}")
        lines.append(f"request to {where}:")
        lines.append(json_text(self._body, indent=2))
        if self._body["model"] is None:
            lines.append("model: none was named, so the first that the server lists will be asked")
        if self._masked:
            lines.append(f"secrets: {self._masked} in this request, shown by shape")
        lines.append(f"tokens: {_token_line(self._tokens())}")
        lines += [f"guard: {prompt_notice(finding, policy.advisory)}" for finding in self._verdict.findings]
        if self._verdict.rejection is not None:
            lines.append("guard: refused")
        elif not self._verdict.findings:
            lines.append("guard: nothing found")
        lines.append("dry run: nothing was sent")
        echo("\n".join(lines))
        if self._verdict.rejection is not None:
            raise self._verdict.rejection

    def print_json(self) -> None:
        """Print the object of `--json` as one line."""
        click.echo(json_line(self.as_json()), nl=False)

    def _tokens(self) -> dict[str, int | None]:
        limits = self._session.guards.prompt.limits
        texts = [message["content"] for message in self._request.messages()]
        own = tokenizer_for(self._session.choice.target.model)
        return {
            "likely": sum(map(likely_tokens, texts)) + TEMPLATE_TOKENS,
            "least": sum(fewest_tokens(text, limits.tokenizer) for text in texts),
            # By another vocabulary it would be no better than what is likely.
            "counted": sum(own[0].count(text) for text in texts) if own is not None and own[1] else None,
            "context": limits.context_tokens,
            "room": limits.room_tokens,
        }

    def _without_secrets(self, value: Any) -> Any:
        match value:
            case str():
                text, count = masked(value, self._session.guards.prompt.secrets)
                self._masked += count
                return _cut(text) if self._is_cut else text
            case Mapping():
                return {name: self._without_secrets(item) for name, item in value.items()}
            case list() | tuple():
                return [self._without_secrets(item) for item in value]
            case _:
                return value


def _cut(text: str) -> str:
    """What is shown of a long text that will not be sent."""
    if len(text) <= _REFUSED_CHARS:
        return text
    return f"{text[:_REFUSED_CHARS]}... ({len(text) - _REFUSED_CHARS:,} more characters)"


def _token_line(tokens: Mapping[str, int | None]) -> str:
    counted = tokens["counted"]
    how_many = f"about {tokens['likely']:,}, at least {tokens['least']:,}"
    if counted is not None:
        how_many = f"{counted:,} by the model's own vocabulary, without what its chat format adds"
    if tokens["context"] is None:
        return f"{how_many}; the model's context is not known (KAYGRAPH_CONTEXT_TOKENS)"
    return f"{how_many}; the context holds {tokens['context']:,}, of which the prompt may have {tokens['room']:,}"
