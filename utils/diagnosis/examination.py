"""All checks, in the order of the output.

Each check is a function from the `Situation` to findings. The first failure decides the exit code, so the order of
`CHECKS` matters. To add a check, add a function.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from utils.diagnosis.environment import check_packages, check_python, check_terminal
from utils.diagnosis.findings import EXIT_CONFIG, Check, Finding, Situation
from utils.diagnosis.guards import check_guards
from utils.diagnosis.memory import check_fallbacks, check_state
from utils.diagnosis.models import check_embedded_model, check_server, check_target
from utils.diagnosis.settings import check_names, check_settings

__all__ = ["CHECKS", "examine"]

CHECKS: tuple[Check, ...] = (
    check_python,
    check_packages,
    check_settings,
    check_names,
    check_target,
    check_fallbacks,
    check_guards,
    check_server,
    check_state,
    check_embedded_model,
    check_terminal,
)


def examine(situation: Situation, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Run all checks; an AppError or a missing package ends its own check only. No finding holds a known key."""
    from utils.errors import AppError
    from utils.wording import mask_key_like

    findings: list[Finding] = []
    for check in checks:
        section = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            for finding in check(situation):
                findings.append(finding)  # what a check found before it failed must stay
        except AppError as error:
            findings.append(
                Finding(section, "problem", "fail", error.message, hint=error.hint, exit_code=error.exit_code)
            )
        except ImportError as error:
            detail = f"cannot be checked: {error.name or 'a package'} cannot be imported"
            hint = "run `pip install -r requirements.txt`"
            findings.append(Finding(section, "problem", "fail", detail, hint=hint, exit_code=EXIT_CONFIG))
    secrets = situation.secrets
    return [
        replace(
            finding,
            detail=mask_key_like(finding.detail, secrets),
            hint=mask_key_like(finding.hint, secrets),
            origin=mask_key_like(finding.origin, secrets),
        )
        for finding in findings
    ]
