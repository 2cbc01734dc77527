"""What no setting can be judged by alone: what goes together, what one implies of another, what a value leads to.

`settings.load` judges each value first. Here a closer source overrules a farther one (flag > environment > profile >
file), a plan of failures switches their simulation on, and what cannot be meant is told with its way out. What was
given but could not be judged, because something from its source is wrong, is unknown: nothing is said about what
depends on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from utils.errors import UsageProblem
from utils.settings_sources import Given, model_and_url
from utils.wording import mask_key_like, shown

__all__ = ["Problem", "check", "missing_files"]

_SERVER = re.compile(r"(?i)(^|@)https?://")

Problem = tuple[str, str]
"""What is wrong, in one line, and what to do about it."""

_FILES = {"gguf": "GGUF", "json_schema": "JSON schema", "grammar": "grammar"}
_FORMS = ("json_schema", "regex", "grammar")


def check(
    given: dict[str, Given],
    values: dict[str, object],
    problems: dict[str, Problem],
    *,
    secrets: list[str],
) -> None:
    """Settle the settings among each other, in place.

    *given* and *values* (those that were judged good) lose what is overruled and gain what is implied; *problems* gain
    what does not go together. *secrets*, the keys that are known, stand in no message.
    """
    _settle_guard(given, values, problems)
    model = values.get("model")
    if isinstance(model, str) and _SERVER.search(model):
        # Whoever writes it means that server; asked as the name of a model, it would go to another one, with the key.
        hint = "give the server with --base-url URL and the model with -m NAME, or name both in a target"
        problems["model"] = f"{given['model'].place} names a server, not a model", hint
    _settle_fallback(given, values, problems)
    _settle_failures(given, values, problems, secrets)
    unknown = given.keys() - values.keys()
    typed = {name for name in values if given[name].source == "flag"}

    has_rules = values.get("guardrails") or (values.get("guard") and values.get("guardrails") is None)
    if "guard_action" in typed and not has_rules and "guard" not in problems and not unknown & {"guard", "guardrails"}:
        hint = "add --enable-guardrails or --guard PACK"
        problems["guard_action"] = f"--guard-action {values['guard_action']} has no rules to act on", hint
    is_judged = values.get("toxicity", "off") != "off" or values.get("guardrails")
    if "toxicity_classifier" in typed and not is_judged and not unknown & {"toxicity", "guardrails"}:
        problems["toxicity_classifier"] = "--toxicity-classifier has nothing to judge", "add --toxicity flag"
    are_simulated = values.get("simulate_failures") or "failure_plan" in given or "simulate_failures" in unknown
    if "failure_seed" in typed and not are_simulated:
        hint = "add --simulate-failures or --failure-plan SPEC"
        problems["failure_seed"] = f"--failure-seed {shown(values['failure_seed'])} has no failures to choose", hint
    if "otel_semconv" in typed and "otel" not in given:
        hint = "add --otel URL"
        problems["otel_semconv"] = f"--otel-semconv {values['otel_semconv']} names what is not sent anywhere", hint
    if "slo" in values and (problem := _slo_problem(given["slo"], str(values["slo"]), secrets)) is not None:
        problems["slo"] = problem
    forms = [name for name in _FORMS if values.get(name) is not None]
    if len(forms) > 1:
        places = " and ".join(given[name].place for name in forms)
        problems[forms[0]] = f"an answer can have one form, and {places} ask for {len(forms)}", "give one of them"
    problems |= missing_files(given, values, secrets) | _key_as_name(given, values, list(filter(None, secrets)))


def _settle_guard(given: dict[str, Given], values: dict[str, object], problems: dict[str, Problem]) -> None:
    """Packs that are named closer to the run win over guardrails that are switched off."""
    if values.get("guardrails") is not False or not values.get("guard"):
        return
    off, packs = given["guardrails"], given["guard"]
    if off.source == packs.source:
        problems["guard"] = f"{off.place} switches off what {packs.place} asks for", "give one of them"
    elif packs.rank > off.rank:
        _drop("guardrails", given, values, problems)


def _settle_fallback(given: dict[str, Given], values: dict[str, object], problems: dict[str, Problem]) -> None:
    """`--no-fallback`, as it is typed, forbids every other target; in a variable or a file only the embedded model.

    The setting behind it is about a model whose key is missing, and whoever configures both means both.
    """
    off, names = given.get("fallback_to_embedded"), given.get("fallback")
    if off is None or names is None or off.source != "flag" or off.value is not False:
        return
    if names.source == "flag":
        problems["fallback"] = f"{off.place} forbids what {names.place} asks for", "give one of them"
    else:
        _drop("fallback", given, values, problems)


def _settle_failures(
    given: dict[str, Given], values: dict[str, object], problems: dict[str, Problem], secrets: list[str]
) -> None:
    """A plan switches the simulation on, unless it is switched off closer to the run."""
    plan, switch = given.get("failure_plan"), given.get("simulate_failures")
    if plan is None:
        return
    if switch is not None and values.get("simulate_failures") is False:
        if switch.rank > plan.rank:
            _drop("failure_plan", given, values, problems)
            return
        if switch.source == plan.source:
            problems["failure_plan"] = f"{switch.place} switches off what {plan.place} asks for", "give one of them"
            return
    if "failure_plan" in problems or not isinstance(plan.value, str):
        return
    if (problem := _plan_problem(plan, plan.value, secrets)) is not None:
        problems["failure_plan"] = problem
    elif not values.get("simulate_failures") and "simulate_failures" not in problems:
        given["simulate_failures"] = Given("simulate_failures", True, plan.source, plan.label)
        values["simulate_failures"] = True


def _plan_problem(plan: Given, text: str, secrets: list[str]) -> Problem | None:
    from utils.failures.grammar import parse_plan  # most runs have no plan

    try:
        parse_plan(text, name=plan.place)
    except UsageProblem as error:
        # It quotes pieces of the plan, and a piece of a key cannot be recognised as one.
        if mask_key_like(text, secrets) != text:
            return f"{plan.place} holds what looks like a key", "write failures, such as refused, cut@40%, ok"
        return error.message, error.hint
    return None


def _slo_problem(slo: Given, text: str, secrets: list[str]) -> Problem | None:
    from utils.metrics.slo import parse_slo

    try:
        parse_slo(text, name=slo.place)
    except UsageProblem as error:
        if mask_key_like(text, secrets) != text:
            return f"{slo.place} holds what looks like a key", "write objectives, such as ttft=0.5,tpot=0.05"
        return error.message, error.hint
    return None


def _drop(name: str, given: dict[str, Given], values: dict[str, object], problems: dict[str, Problem]) -> None:
    del given[name]
    values.pop(name, None)
    problems.pop(name, None)


def missing_files(given: Mapping[str, Given], values: Mapping[str, object], secrets: list[str]) -> dict[str, Problem]:
    """What is wrong with the files that settings name."""
    problems: dict[str, Problem] = {}
    for name, what in _FILES.items():
        path = values.get(name)
        if isinstance(path, Path) and not os.path.exists(path):
            problems[name] = f"{given[name].place}: {shown(path, secrets)} does not exist", f"name a {what} file"
        elif isinstance(path, Path) and os.path.isdir(path):
            problems[name] = f"{given[name].place}: {shown(path, secrets)} is a directory", f"name a {what} file"
    place = values.get("prometheus")
    if isinstance(place, Path) and (reason := _why_no_figures(place)) is not None:
        message = f"{given['prometheus'].place}: {shown(place, secrets)} cannot be written: {reason}"
        problems["prometheus"] = message, "name a new file, such as run.prom, or an earlier one of these"
    return problems


def _why_no_figures(path: Path) -> str | None:
    from utils.exporters.prometheus import why_no_textfile  # most runs write none

    return why_no_textfile(path)


def _key_as_name(given: Mapping[str, Given], values: Mapping[str, object], keys: list[str]) -> dict[str, Problem]:
    """A key in the place of a model would be sent, logged and shown as a name."""
    problems: dict[str, Problem] = {}
    if values.get("model") in keys:
        problems["model"] = f"{given['model'].place} holds the API key", "name a model, such as gpt-4o-mini"
    names = values.get("fallback")
    if isinstance(names, tuple) and any(key in (name, model_and_url(name)[0]) for name in names for key in keys):
        hint = "name a model, such as gpt-4o-mini, or a server"
        problems["fallback"] = f"{given['fallback'].place} holds the API key", hint
    return problems
