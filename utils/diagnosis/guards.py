"""What the prompt and the answer of a run would be judged by."""

from __future__ import annotations

from collections.abc import Iterator

from utils.diagnosis.findings import Finding, Situation

__all__ = ["check_guards"]


def check_guards(situation: Situation) -> Iterator[Finding]:
    """Rule packs, the form of the answer, and who judges toxicity; an AppError is what a run would end with."""
    from utils.policies import Guards

    if situation.loaded is None or situation.choice is None:
        return
    guards = Guards(situation.loaded, situation.choice, allow_secrets=False)
    rules = 0 if guards.rules is None else len(guards.rules.rules)
    detail = f"{', '.join(guards.packs)} ({rules} rules)" if guards.packs else "the answer is not guarded"
    yield Finding("guards", "packs", "ok" if guards.packs else "info", detail)
    settings = situation.loaded.settings
    forms = [name for name in ("json_schema", "regex", "grammar", "validators") if getattr(settings, name)]
    if forms:
        yield Finding("guards", "form of the answer", "ok", ", ".join(forms))
