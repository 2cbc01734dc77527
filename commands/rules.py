"""`rules`: what the guard packs look for and what each rule costs; tests of packs, and of the rules on a text."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from commands.printing import echo

if TYPE_CHECKING:
    from utils.guardrails.packs import Pack
    from utils.guardrails.rules import Rule

__all__ = ["command"]

EXAMPLES_FAILED = 4
"""Exit code: policy said no, as everywhere; 1 is left to bugs of ours."""

_TEXT_BYTES_MAX = 8 << 20

_SAMPLE = """\
The service reads one line at a time and answers before the next one arrives. On 22 November 2026 we measured 4,096
requests in 3.5 seconds (about 1,170 per second), with a 99th percentile of 12.4 ms; version 2.11.3 was slower by 18 %.
If a word may still become part of something to hide, it has to wait; most words never do, and are shown at once.

def total(prices: list[float], rate: float = 0.19) -> float:
    \"\"\"The sum of *prices* with tax.\"\"\"
    subtotal = sum(price for price in prices if price > 0)
    return round(subtotal * (1 + rate), 2)  # 1,190.00 for 1000

| name   | port | share |        for (let i = 0; i < items.length; i++) { queue.push(items[i].id); }
|--------|------|-------|        SELECT id, name FROM users WHERE created_at >= '2026-01-31' ORDER BY id LIMIT 50;
| alpha  | 8080 | 12.5  |        https://example.com/docs/guide?page=2#setup  ->  200 OK, 5 kB, max-age=3600
"""

_HELD_NOTE = (
    "held: characters that wait, on average after each token of 3.7 characters, with this rule alone on ordinary prose "
    "and code; several rules wait for the same characters, so do not add them up"
)

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("rules", context_settings=_HELP)
def command() -> None:
    """Guard rules: list packs and what each rule costs, or test them.

    A pack is a built-in name (pii, secrets, profanity, injection) or a TOML file:

    \b
      name = "mine"
      [[rule]]
      id = "ticket"                 # "mine.ticket" in events and reports
      pattern = 'TICKET-[0-9]{6}'   # or keywords = [..], keywords_file = "words.txt" (one a line),
                                    # or scanner = "email" | "payment_card"
      action = "redact"             # or mask, block, flag
      replacement = "[TICKET]"      # for mask one character
      match = ["see TICKET-123456"] # examples for `rules test`
      no_match = ["TICKET-1", "no ticket"]

    \b
    Also: description, severity (low, medium, high), ignore_case, whole_word, and verifier = "luhn",
    "iban", ... for patterns. Patterns are regular expressions without look-around, back-references
    and anchors, because text is judged while it streams.
    """


@command.command("list", context_settings=_HELP)
@click.argument("packs", nargs=-1, metavar="[PACK_OR_FILE]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_rules(packs: tuple[str, ...], as_json: bool) -> None:
    """List rules with action, severity, and what each costs in held-back text.

    \b
    Examples:
      python main.py rules list
      python main.py rules list pii my-rules.toml --json

    Exit codes: 0 listed, 2 usage, 78 a pack cannot be used.
    """
    loaded = _load(packs)
    rows = [[_Row(entry.rule, _held_chars(entry.rule)) for entry in pack.rules] for pack in loaded]
    if as_json:
        _print_json({"held_chars": _HELD_NOTE, "packs": [_pack_json(*pair) for pair in zip(loaded, rows, strict=True)]})
        return
    for pack, listed in zip(loaded, rows, strict=True):
        click.secho(pack.name, bold=True, nl=False)
        echo(f" ({_origin(pack)}): {pack.description}" if pack.description else f" ({_origin(pack)})")
        width = max(len(row.rule.id) for row in listed)
        for rule, held in listed:
            echo(
                f"  {rule.id:<{width}}  {rule.action:<6}  {rule.severity:<6}  {held:5.2f}  {rule.description}".rstrip()
            )
        click.echo()
    click.echo(_HELD_NOTE)


@command.command("test", context_settings=_HELP)
@click.argument("packs", nargs=-1, metavar="[PACK_OR_FILE]...")
@click.option("--guard", "more", multiple=True, metavar="PACK_OR_FILE", help="The same, as `run` takes it. Repeatable.")
@click.option("--text", metavar="TEXT", help="Guard TEXT and show what was found; - reads standard input.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def test_rules(packs: tuple[str, ...], more: tuple[str, ...], text: str | None, as_json: bool) -> int:
    """Run the examples of every rule; or, with --text, the rules on a text.

    Examples run for all built-in packs unless you name some; a text is judged by the packs that guard an answer by
    default (pii, secrets, profanity).

    \b
    Examples:
      python main.py rules test my-rules.toml
      python main.py rules test pii --text 'mail bob@example.com'
      python main.py rules test my-rules.toml --text - < answer.txt

    Exit codes: 0 every example holds, or the text was judged (whatever was found); 2 usage; 4 an example failed;
    78 a pack cannot be used.
    """
    packs = (*packs, *more)
    if text is not None:
        _judge(packs, _given(text), as_json=as_json)
        return 0
    return _run_examples(_load(packs), as_json=as_json)


def _load(packs: tuple[str, ...]) -> list[Pack]:
    from utils.guardrails.packs import BUILTIN, load_pack

    return [load_pack(name) for name in dict.fromkeys(packs or BUILTIN)]


# -- list --------------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    rule: Rule
    held_chars: float


def _held_chars(rule: Rule) -> float:
    """Mean held characters after a token, with *rule* alone on the sample. A rule that flags holds nothing."""
    from utils.guardrails.redactor import Redactor
    from utils.guardrails.rules import RuleSet

    redactor = Redactor(RuleSet.compile([rule]))
    sizes, place, number = (3, 4, 5, 2, 4, 3, 6, 3, 4, 3), 0, 0
    while place < len(_SAMPLE) and not redactor.statistics().dropped_chars:
        size = sizes[number % len(sizes)]
        redactor.feed(_SAMPLE[place : place + size])
        place, number = place + size, number + 1
    return redactor.statistics().held_mean_chars


def _origin(pack: Pack) -> str:
    from utils.guardrails.packs import BUILTIN

    return "built in" if pack.origin in BUILTIN else pack.origin


def _pack_json(pack: Pack, rows: list[_Row]) -> dict[str, Any]:
    rules = [
        {
            "id": rule.id,
            "action": rule.action,
            "severity": rule.severity,
            "description": rule.description,
            "replacement": rule.replacement,
            "held_chars": round(held, 3),
        }
        for rule, held in rows
    ]
    return {"name": pack.name, "origin": pack.origin, "description": pack.description, "rules": rules}


# -- test --------------------------------------------------------------------------------------------------------------


def _run_examples(packs: list[Pack], *, as_json: bool) -> int:
    from utils.guardrails.rules import RuleSet
    from utils.render.figures import counted

    failures: list[dict[str, Any]] = []
    examples = rules = 0
    for pack in packs:
        for entry in pack.rules:
            rules += 1
            alone = RuleSet.compile([entry.rule])
            for key, texts in (("match", entry.match), ("no_match", entry.no_match)):
                examples += len(texts)
                failures += [
                    {"pack": pack.origin, "rule": entry.rule.id, "key": key, "number": number, "text": text}
                    for number, text in enumerate(texts, 1)
                    if bool(alone.find(text)) is not (key == "match")
                ]
    if as_json:
        _print_json({"is_ok": not failures, "rules": rules, "examples": examples, "failures": failures})
        return EXAMPLES_FAILED if failures else 0
    for failure in failures:
        found = "finds nothing in" if failure["key"] == "match" else "finds something in"
        where = f"{failure['pack']}: rule {failure['rule']} {found} {failure['key']} example {failure['number']}"
        echo(f"{where}: {failure['text']!r}")
    click.echo(f"{counted(rules, 'rule')}, {counted(examples, 'example')}, {len(failures):,} failed")
    return EXAMPLES_FAILED if failures else 0


def _given(text: str) -> str:
    from utils.errors import UsageProblem

    if text == "-":
        data = sys.stdin.buffer.read(_TEXT_BYTES_MAX + 1)
        if len(data) > _TEXT_BYTES_MAX:
            raise UsageProblem(
                f"the text is larger than {_TEXT_BYTES_MAX:,} bytes", hint="`guard` filters streams of any length"
            )
        text = data.decode("utf-8", "surrogateescape")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageProblem("the text is not valid UTF-8", hint="convert it to UTF-8 (for example with iconv)")
    return text


def _judge(packs: tuple[str, ...], text: str, *, as_json: bool) -> None:
    from utils.events import Blocked, Redacted, TextDelta
    from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
    from utils.guardrails.redactor import Redactor
    from utils.render.harmless import make_harmless

    rules = compile_rules(packs or DEFAULT_PACKS)
    redactor = Redactor(rules)
    events = redactor.feed(text)
    if not any(isinstance(event, Blocked) for event in events):
        events += redactor.finish()
    guarded = "".join(
        event.text if isinstance(event, TextDelta) else event.replacement
        for event in events
        if isinstance(event, TextDelta | Redacted)
    )
    blocked_by = next((event.rule for event in events if isinstance(event, Blocked)), None)
    actions = {rule.id: rule.action for rule in rules.rules}
    spans = sorted(rules.find(text), key=lambda span: (span.raw_start, span.raw_end))
    if as_json:
        found = [{"rule": s.rule, "start": s.raw_start, "end": s.raw_end, "action": actions[s.rule]} for s in spans]
        _print_json({"findings": found, "blocked_by": blocked_by, "text": guarded})
        return
    width = max((len(span.rule) for span in spans), default=0)
    for span in spans:
        click.echo(f"{span.rule:<{width}}  {actions[span.rule]:<6}  characters {span.raw_start:,} to {span.raw_end:,}")
    if not spans:
        click.echo("nothing found")
    if blocked_by is not None:
        click.echo(f"blocked by {blocked_by}; shown before it:")
    click.echo(make_harmless(guarded) if sys.stdout.isatty() else guarded)


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))
