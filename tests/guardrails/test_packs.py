"""The built-in packs: every example, cut at every place; long and cut keys; key blocks; ordinary text."""

# ruff: noqa: E501  (ordinary text as it comes)

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.exhaustive import exhaustive
from utils.events import Redacted, TextDelta
from utils.guardrails.packs import BUILTIN, load_pack
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.guardrails.redactor import HELD_CHARS_MAX, GuardEvent, Redactor
from utils.guardrails.rules import RuleSet

ROOT = Path(__file__).resolve().parents[2]
ALL = compile_rules(DEFAULT_PACKS)
SECRETS = compile_rules(["secrets"])
ENTRIES = {entry.rule.id: entry for name in DEFAULT_PACKS for entry in load_pack(name).rules}
STRIDE = 3
ALNUM = "aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2z"


def visible(events: list[GuardEvent]) -> str:
    """What is left of the raw text."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def shown(rules: RuleSet, *pieces: str) -> tuple[str, str, int]:
    """What is left of the raw text, what a reader sees, and the most characters that were held."""
    redactor = Redactor(rules)
    events = [event for piece in pieces for event in redactor.feed(piece)]
    events += redactor.finish()
    seen = "".join(e.text if isinstance(e, TextDelta) else e.replacement for e in events if not_flag(e))
    return visible(events), seen, redactor.statistics().held_max_chars


def not_flag(event: GuardEvent) -> bool:
    assert isinstance(event, TextDelta | Redacted), event
    return True


def uncovered(rules: RuleSet, text: str) -> str:
    hidden = {place for span in rules.find(text) for place in range(span.raw_start, span.raw_end)}
    return "".join(character for place, character in enumerate(text) if place not in hidden)


# Examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ENTRIES)
def test_every_example_holds_and_every_rule_has_two_of_each_kind(rule: str) -> None:
    entry = ENTRIES[rule]
    alone = RuleSet.compile([entry.rule])
    assert len(entry.match) >= 2
    assert len(entry.no_match) >= 2
    assert [text for text in entry.match if not alone.find(text)] == []
    assert [text for text in entry.no_match if alone.find(text)] == []


@pytest.mark.parametrize("rule", ENTRIES)
def test_no_cut_of_an_example_shows_more_than_the_whole(rule: str) -> None:
    entry = ENTRIES[rule]
    for text in (*entry.match, *entry.no_match):
        whole = shown(ALL, text)[:2]
        assert whole[0] == uncovered(ALL, text)
        assert shown(ALL, *text)[:2] == whole
        # All of them: `KAYGRAPH_TESTS=all`. The characters one by one, above, are every cut at once.
        for cut in range(1, len(text), 1 if exhaustive([True]) else STRIDE):
            assert shown(ALL, text[:cut], text[cut:])[:2] == whole, cut


def test_the_rules_say_what_they_are() -> None:
    assert all(entry.rule.description for entry in ENTRIES.values())
    assert {rule.partition(".")[0] for rule in ENTRIES} == set(DEFAULT_PACKS) < set(BUILTIN)
    assert sum(rule.startswith("secrets.") for rule in ENTRIES) >= 70
    actions = {name: {entry.rule.action for entry in load_pack(name).rules} for name in DEFAULT_PACKS}
    assert actions == {"pii": {"redact"}, "secrets": {"redact"}, "profanity": {"mask"}}


# Keys of any length -----------------------------------------------------------------------------------------------

PREFIXES = (
    *("sk-proj-", "sk-", "sk-ant-api03-", "ghp_", "github_pat_", "glpat-", "xoxb-", "hf_", "npm_", "AIza", "gsk_"),
    *("sk_live_", "ya29.", "hvs.", "lin_api_", "pplx-", "xai-", "r8_", "ntn_", "nvapi-", "dckr_pat_", "AccountKey="),
    *("password=", "API_KEY = '", "Authorization: Bearer ", "eyJhbGciOiJub25lIn0.eyJ"),
)


@pytest.mark.parametrize("length", [51, 129, 4_097, 9_000])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_key_longer_than_any_window_is_hidden_whole(prefix: str, length: int) -> None:
    text = f"the key is {prefix}{(ALNUM * 300)[:length]} and it is mine"
    left, _, held = shown(SECRETS, *(text[i : i + 4] for i in range(0, len(text), 4)))
    assert left in ("the key is  and it is mine", "the key is ' and it is mine")
    assert held < 80


@pytest.mark.parametrize(
    ("whole", "kept"),
    [
        (f"ghp_{ALNUM}abcde", 30),
        (f"sk-ant-api03-{ALNUM * 3}", 60),
        (f"sk-proj-{ALNUM * 4}", 80),
        (f"AIza{ALNUM}wxyz", 30),
        ("AKIA0123456789ABCDEF", 16),
        (f"hf_{ALNUM}wxy", 25),
        (f"glpat-{ALNUM[:20]}", 24),
    ],
)
def test_a_key_that_is_cut_off_at_the_end_counts(whole: str, kept: int) -> None:
    assert shown(SECRETS, f"it is {whole[:kept]}")[0] == "it is "


@pytest.mark.parametrize("before", ["", " ", "KEY_", "KEY=", '"', "日", "(", "\u200b"])
def test_a_key_is_found_behind_names_and_signs(before: str) -> None:
    for key in (f"ghp_{ALNUM}", f"sk-proj-{ALNUM}", f"hf_{ALNUM}", f"AKIA{'A2B3' * 4}"):
        assert ALNUM[:6] not in shown(SECRETS, f"x {before}{key} y")[1]
        assert shown(SECRETS, f"x {before}{key} y")[0].endswith(" y")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"sk-proj-{ALNUM}", "openai"),
        (f"sk-ant-api03-{ALNUM}", "anthropic"),
        ("sk-or-v1-" + "0123456789abcdef" * 4, "openrouter"),
        (f"ghp_{ALNUM}", "github"),
        (f"sk_live_{ALNUM}", "stripe"),
        (f"gsk_{ALNUM * 2}", "groq"),
    ],
)
def test_a_key_is_labelled_with_its_provider_alone(text: str, rule: str) -> None:
    assert {span.rule for span in SECRETS.find(text)} == {f"secrets.{rule}"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('password = "abc123,def;ghi&jkl(mno)$p" # x', '" # x'),
        ("password: 'tr0ub4dor and more'; y", "'; y"),
        ('{"password": "pa55wd\\"x!"}', '{""}'),
        ('{"webhook_secret": "abcdefgh;9,ijklmnop"}', '{"webhook_"}'),
        ("curl -u admin:s3cr3tpw https://x", " https://x"),
        ("<password>abc123</password>", "</password>"),
        ("?api_key=abcdefghijk1&x=1", "&x=1"),
    ],
)
def test_an_assigned_value_is_hidden_up_to_its_end(text: str, left: str) -> None:
    assert shown(SECRETS, text)[0] == left
    assert shown(SECRETS, *text)[0] == left


# Key blocks -------------------------------------------------------------------------------------------------------

BODY = ALNUM * 2 + "+/"


def block(kind: str = "RSA ", *, newline: str = "\n", lines: int = 20, headers: str = "", indent: str = "") -> str:
    inner = newline.join([indent + BODY] * lines)
    end = f"{indent}-----END {kind}PRIVATE KEY-----"
    return f"{indent}-----BEGIN {kind}PRIVATE KEY-----{newline}{headers}{inner}==\n{end}".replace("\n", newline)


BLOCKS = {
    "plain": block(),
    "no kind": block(""),
    "a thousand lines": block(lines=1_000),
    "crlf": block(newline="\r\n"),
    "json": block(newline="\\n"),
    "json crlf": block(newline="\\r\\n"),
    "headers": block(headers="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123456789ABCDEF\n\n"),
    "crlf headers": block(newline="\r\n", headers="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123\n\n"),
    "indented": block(indent="    "),
    "quoted": block(indent="> "),
    "openpgp": block("PGP ").replace("KEY-----", "KEY BLOCK-----"),
    "one line": block(newline=" "),
    "source code": block(newline='\\n" +\n    "'),
}


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_key_block_is_swallowed_as_it_comes_and_prose_after_it_is_shown(kind: str, size: int) -> None:
    text = f"Here it is: {BLOCKS[kind]}\nDo not share it; write END somewhere. ----- Bye."
    left, seen, held = shown(SECRETS, *(text[i : i + size] for i in range(0, len(text), size)))
    assert left.rstrip("> ") == left
    assert left.split(": ", 1)[1].lstrip(" >") == "\nDo not share it; write END somewhere. ----- Bye."
    assert seen.count("[PRIVATE KEY]") == 1
    assert held <= max(60, size) < HELD_CHARS_MAX


def test_the_replacement_of_a_key_block_is_shown_as_soon_as_its_first_line_is() -> None:
    redactor = Redactor(SECRETS)
    redactor.feed("Look: -----BEGIN PRIVATE KEY----")
    assert redactor.feed("-") == [Redacted("secrets.private_key", "[PRIVATE KEY]", 6)]
    assert all(redactor.feed(f"\n{BODY}") == [] and redactor.held_chars == 0 for _ in range(100))


def test_a_key_block_that_is_cut_off_shows_nothing_of_its_body() -> None:
    whole = block(lines=4)
    for cut in range(len("-----BEGIN RSA PRIVATE KEY-----"), len(whole)):
        left = shown(SECRETS, whole[:cut])[0]
        assert left.strip("- \nEDNRSAPIVTKY") == ""
        assert BODY[:4] not in left


# Ordinary text ----------------------------------------------------------------------------------------------------

ORDINARY = """\
ISBN 978-0-306-40615-7, ISBN-10 0-306-40615-2; ISSN 2049-3630; EAN 4006381333931; doi:10.1000/182; RFC 9110 section 15.4.
Dates: 2026-11-22, 22.11.2026, 11/22/2026, 2026-11-22T13:19:57+01:00, 20261122T131957Z, Sun Nov 22 13:19:57 UTC 2026.
Versions: v1.2.3, 3.11.7, 2026.11.15, 120.0.6099.109, openssl 3.0.2-0ubuntu1.18, 10.0.19041.3636, kernel 6.8.0-45-generic.
Prices: $1,299.00, 1.299,00 EUR, 12 345 678.90 CHF, 100-200 GBP. Sizes: 10485760 bytes, 3.141592653589793, 6.022e23.
Hashes: d41d8cd98f00b204e9800998ecf8427e, da39a3ee5e6b4b0d3255bfef95601890afd80709,
  e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8
UUIDs: 550e8400-e29b-41d4-a716-446655440000, 6ba7b810-9dad-11d1-80b4-00c04fd430c8. Order 555-12-34567, ticket AB-123456.
Addresses: 127.0.0.1:8080, 192.168.0.1/24, 10.1.2.3, 0.0.0.0, 255.255.255.0, ::1, fe80::1, 2001:db8::1, 198.51.100.7.
commit 97069a7f3c0d5e1b2a4f6c8d9e0b1a2c3d4e5f60  guard: the filter that works behind any program  | 12 ++++++------
| 1 | 200 300 4000 | 12 34 56 78 90 | 0612345678 | 123.456.789 | 01 02 03 04 05 |   @@ -120,7 +120,9 @@ def total(self):
+1000000 points, +5 -3, 1e+10, x+4912345678, a=b+1234567890; 2^61 = 2305843009213693952; 5 x 10^-11; 1/3 = 0.333333333333
password = input(); password: str; password=os.environ["PASSWORD"]; token = next(tokens); secret: bytes32; max_tokens: 4096
api_key: str | None = None; if token == other_token: return; PASSWORD=${DB_PASSWORD}; password: "required"; pwd; --password
basic authentication and bearer tokens; Authorization: Bearer <token>; https://host:8080/path@2x.png; git+ssh://host:path
Scunthorpe, Penistone, Cockburn, assassin, classic, shiitake, Mississippi, cocktail, analysis, titan, Dickens, hello, Essex.
task-management-system-design, risk-assessment, sk-fading-circle, hf_hub_download, ghp_short, AKIA, key-value-store, SKU123.
Ding.dong.ding, def f(x: int = 3) -> list[str]: return [f"{x:>10}" for _ in range(100)]  # MNO.pqr.stu, Node.js, I.e. this.
"""


def test_ordinary_text_stays_untouched() -> None:
    hits = [(span.rule, ORDINARY[span.raw_start : span.raw_end]) for span in ALL.find(ORDINARY)]
    assert hits == [("pii.email", "path@2x.png")]  # nothing tells it from an address
    assert shown(ALL, *ORDINARY)[1] == ORDINARY.replace("path@2x.png", "[EMAIL]")


ACCEPTED = {("README.md", "pii.email")}
"""An example address of the documentation."""


def test_of_the_documentation_and_the_source_only_the_accepted_places_are_hit() -> None:
    paths = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "kaygraph").glob("*.py"),
    ]
    paths += [*ROOT.glob("utils/*.py"), *ROOT.glob("utils/resilience/*.py"), *ROOT.glob("utils/metrics/*.py")]
    hits = {
        (path.relative_to(ROOT).as_posix(), span.rule)
        for path in paths
        if path.name != "guardrails.md"
        for span in ALL.find(path.read_text(encoding="utf-8"))
    }
    assert hits <= ACCEPTED


def test_ordinary_text_holds_little() -> None:
    text = ORDINARY.replace("\n", " ")
    for packs, most in ((["pii"], 8), (["secrets"], 4), (["profanity"], 0.5)):
        redactor = Redactor(compile_rules(packs))
        for i in range(0, len(text), 4):
            redactor.feed(text[i : i + 4])
        assert redactor.statistics().held_mean_chars < most, packs
