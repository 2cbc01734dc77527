"""Who is asked if the target fails, and what earlier processes have found out about all of them."""

from __future__ import annotations

from collections.abc import Iterator

from utils.diagnosis.findings import Finding, Situation

__all__ = ["check_fallbacks", "check_state"]


def check_fallbacks(situation: Situation) -> Iterator[Finding]:
    """The targets that would be asked after the first one, in their order. Raises: AppError for one that is none."""
    from utils.fallbacks import fallbacks_of

    if situation.loaded is None or situation.choice is None:
        return
    situation.fallbacks = tuple(fallback.target for fallback in fallbacks_of(situation.loaded, situation.choice))
    for place, target in enumerate(situation.fallbacks, start=1):
        has_no_key = "" if target.is_embedded or target.api_key else "; it is asked without a key"
        yield Finding("target", f"if that fails ({place})", "ok", f"{target.name}{has_no_key}")


def check_state(situation: Situation) -> Iterator[Finding]:
    """The state file, and whether a target is left alone at the moment."""
    from utils.resilience.target_states import target_key
    from utils.state_store import StateStore, state_path

    if situation.choice is None:
        return
    path = state_path(situation.environ)
    if path is None:
        yield Finding("state", "file", "info", "none: there is no home directory; every run remembers by itself")
        return
    with StateStore(path) as store:
        shared = {
            target.name: store.load(target_key(target.base_url, target.model))
            for target in (situation.choice.target, *situation.fallbacks)
            if not target.is_embedded
        }
        warning = store.take_warning()
    if warning is not None:
        yield Finding("state", "file", "warn", warning)
        return
    if not path.exists():
        yield Finding("state", "file", "info", f"{path} does not exist yet")
        return
    yield Finding("state", "file", "ok", str(path))
    for name, state in shared.items():
        wait_s = 0.0 if state is None else max(state.open_for_s if state.is_open else 0.0, state.cooldown_for_s)
        if wait_s:
            hint = "wait, or delete the state file to ask it at once"
            yield Finding("state", "breaker", "warn", f"{name} is left alone for {wait_s:.0f} s more", hint=hint)
