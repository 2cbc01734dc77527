"""What the prompt guard noticed, in a line for a person. Advice: an empty list does not say that a prompt is safe."""

from __future__ import annotations

from utils.guardrails.prompt_guard import Finding
from utils.guardrails.rules import RuleSet

__all__ = ["prompt_notice"]

_CHARACTERS = {
    "bidi_control": "characters that change the order of its text",
    "private_use": "characters without a public meaning (private use)",
    "unicode_tag": "invisible tag characters",
    "variation_selector": "a run of invisible variation selectors",
    "zero_width": "a run of zero-width characters",
}


def prompt_notice(finding: Finding, advisory: RuleSet) -> str:
    """The line about *finding*; *advisory* has the descriptions of the rules. Never holds what a rule matched.

    What invisible characters spell is shown: nobody else could see it. It may come from anywhere, so it is quoted.
    """
    place = "system prompt" if finding.place == "system" else "prompt"
    if finding.rule == "context":
        return f"the {place} may not leave room for the whole answer ({finding.sample})"
    times = f", {finding.count} times" if finding.count > 1 else ""
    where = f"(at character {finding.start:,}{times})"
    if finding.source:
        # The other places may be in other files.
        first = "first " if times else ""
        where = f'({first}in "{finding.source}", line {finding.line:,}{times})'
    if (name := _CHARACTERS.get(finding.rule)) is not None:
        spelled = f" that spell {finding.revealed!r}" if finding.revealed else ""
        return f"the {place} has {name}{spelled} {where}"
    rule = next((rule for rule in advisory.rules if rule.id == finding.rule), None)
    what = f": {rule.description}" if rule is not None and rule.description else ""
    return f"the {place} matches {finding.rule} {where}{what}"
