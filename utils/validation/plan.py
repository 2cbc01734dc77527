"""Which validators an answer goes through: from the options to a plan for any number of runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UsageProblem
from utils.validation.validators import (
    SCRIPTS,
    ControlValidator,
    LengthValidator,
    RepetitionValidator,
    ScriptValidator,
    Validator,
)
from utils.wording import nearest

if TYPE_CHECKING:
    from utils.validation.structured import Structure

__all__ = ["SPECS", "ValidationPlan", "ValidatorFactory", "parse_spec", "plan_of"]

ValidatorFactory = Callable[[], Validator]
"""Makes the validator of one answer."""

SPECS = ("max-chars=N", "no-control", "no-repetition", "script=NAME[+NAME...]")
"""What `--validate` takes."""
_NAMES = tuple(spec.partition("=")[0] for spec in SPECS)


@dataclass(frozen=True, slots=True)
class ValidationPlan:
    """The validators of an answer and how often it may be asked for again. Immutable; outlives a run."""

    factories: tuple[ValidatorFactory, ...]
    retries: int = 0
    response_format: dict[str, Any] | None = field(default=None, repr=False)
    """For `Parameters.response_format`: lets a server constrain the answer; the validators judge it all the same."""


def plan_of(
    *,
    json_schema: Path | None = None,
    regex: str | None = None,
    grammar: Path | None = None,
    specs: Iterable[str] = (),
    retries: int = 0,
) -> ValidationPlan | None:
    """The plan of the options; None if they ask for nothing.

    Raises UsageProblem for options that do not fit together or a malformed spec, ConfigError for a file.
    """
    given = [
        name for name, value in (("--json-schema", json_schema), ("--regex", regex), ("--grammar", grammar)) if value
    ]
    if regex == "":
        given.append("--regex")
    if len(given) > 1:
        raise UsageProblem(
            f"{' and '.join(given)} were both given", hint="an answer has one structure: give one of them"
        )
    structure = _structure(json_schema, regex, grammar)
    factories = [parse_spec(spec) for spec in specs]
    if structure is not None:
        factories.insert(0, structure.validator)
    if not factories:
        if retries:
            raise UsageProblem(
                "--validate-retries without anything to validate",
                hint="give --json-schema, --regex, --grammar or --validate too",
            )
        return None
    return ValidationPlan(tuple(factories), retries, structure.response_format if structure is not None else None)


def _structure(json_schema: Path | None, regex: str | None, grammar: Path | None) -> Structure | None:
    if json_schema is None and regex is None and grammar is None:
        return None
    # llguidance is loaded for whom it is needed, and for nobody else
    from utils.validation import structured

    if json_schema is not None:
        return structured.load_json_schema(json_schema)
    return structured.compile_regex(regex) if regex is not None else structured.load_grammar(grammar or Path())


def parse_spec(spec: str) -> ValidatorFactory:
    """The validator that *spec* (see `SPECS`) asks for. Raises UsageProblem."""
    name, equals, value = (part.strip() for part in spec.partition("="))
    match name.lower():
        case "max-chars":
            if not re.fullmatch(r"0*[1-9][0-9]{0,8}", value, re.ASCII):
                raise UsageProblem(
                    f"--validate: {spec[:60]!r} has no number of characters", hint="for example max-chars=2000"
                )
            max_chars = int(value)
            return lambda: LengthValidator(max_chars)
        case "script":
            scripts = _scripts(value)
            return lambda: ScriptValidator(scripts)
        case "no-control" | "no-repetition" if equals:
            raise UsageProblem(f"--validate: {name.lower()} takes no value", hint=f"give {name.lower()} alone")
        case "no-control":
            return ControlValidator
        case "no-repetition":
            return RepetitionValidator
        case _:
            near = nearest(name, _NAMES)
            said = f"did you mean {near!r}? " if near else ""
            raise UsageProblem(
                f"--validate: there is no validator {name[:60]!r}", hint=f"{said}there are {', '.join(SPECS)}"
            )


def _scripts(value: str) -> tuple[str, ...]:
    names = tuple(part.strip().lower() for part in value.split("+"))
    for name in names:
        if name not in SCRIPTS:
            near = nearest(name, SCRIPTS)
            said = f"did you mean {near!r}? " if near else ""
            raise UsageProblem(
                f"--validate: there is no script {name[:60]!r}", hint=f"{said}there are {', '.join(SCRIPTS)}"
            )
    return tuple(dict.fromkeys(names))
