"""A guard rule of your own: ticket numbers are hidden while the answer streams, whatever the tokens cut.

    python examples/own_rule.py

The rule is built here, in Python; the same in a file for `--guard FILE` is examples/tickets.toml.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if find_spec("openai") is None:
    sys.exit("error: this Python has no packages\nhint: use .venv/bin/python, which `make run` makes")

from flow import StreamingFlow
from utils.answer_guard import AnswerPolicy
from utils.guardrails.patterns import RegularPattern
from utils.guardrails.rules import Rule, RuleSet

PROMPT = "Repeat this sentence word for word: The ticket ACME-20451 is closed, and ACME-20452 is open."


async def main() -> int:
    """Ask once; the exit code of the answer."""
    rule = Rule("tickets.number", "[TICKET]", RegularPattern(r"\bACME-[0-9]{4,6}\b"), description="a ticket number")
    async with StreamingFlow(answer=AnswerPolicy(RuleSet.compile([rule])), max_tokens=60) as flow:
        report = await flow.run(PROMPT, on_text=lambda text: print(text, end="", flush=True))
    print()
    print(f"hidden: {report.metrics['redactions']}", file=sys.stderr)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
