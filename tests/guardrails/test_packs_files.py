"""Packs of one's own: the format, every mistake in one or two lines, and how packs make a set of rules."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import ConfigError
from utils.events import Redacted
from utils.guardrails.fold import fold
from utils.guardrails.packs import BUILTIN, FILE_BYTES_MAX, RULES_MAX, load_pack
from utils.guardrails.patterns import CardPattern, EmailPattern, KeywordsPattern, RegularPattern
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.guardrails.redactor import Redactor
from utils.guardrails.scanners import Match
from utils.guardrails.verifiers import VERIFIERS

RULE = 'name = "mine"\n[[rule]]\nid = "one"\n'
GOOD = RULE + "pattern = 'TICKET-[0-9]{6}'\n"


@pytest.fixture(autouse=True)
def in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str | bytes, name: str = "mine.toml") -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def refusal(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        load_pack(name)
    error = refused.value
    assert error.exit_code == 78
    assert error.hint
    assert "\n" not in error.message + error.hint
    assert error.message[0].islower()
    assert not error.message.endswith(".")
    return error


# The format -------------------------------------------------------------------------------------------------------


def test_a_pack_is_read_with_its_defaults() -> None:
    pack = load_pack(write(GOOD + "match = ['see TICKET-123456']\nno_match = ['TICKET-1']\n"))
    assert (pack.name, pack.description, pack.origin) == ("mine", "", "mine.toml")
    (entry,) = pack.rules
    rule = entry.rule
    assert (rule.id, rule.action, rule.severity, rule.replacement) == ("mine.one", "redact", "medium", "[ONE]")
    assert rule.pattern == RegularPattern("TICKET-[0-9]{6}")
    assert (entry.match, entry.no_match) == (("see TICKET-123456",), ("TICKET-1",))


def test_every_kind_of_rule_and_every_key_is_read() -> None:
    write("alpha\r\n\n  beta two \n#tag\n", "words.txt")
    rules = load_pack(
        write(
            'name = "m-1"\ndescription = "d"\n'
            "[[rule]]\nid='re_1'\npattern='a+'\nignore_case=true\nwhole_word=true\naction='flag'\nseverity='high'\n"
            "[[rule]]\nid='iban'\npattern='[A-Z0-9]{15,34}'\nverifier='iban'\nreplacement='<iban>'\ndescription='x'\n"
            "[[rule]]\nid='words'\nkeywords=['fig','Date']\nignore_case=false\nwhole_word=false\naction='mask'\n"
            "[[rule]]\nid='file'\nkeywords_file='words.txt'\naction='mask'\nreplacement='#'\n"
            "[[rule]]\nid='mail'\nscanner='email'\naction='block'\n"
            "[[rule]]\nid='pay-card'\nscanner='payment_card'\n"
        )
    ).rules
    found = [(e.rule.id, e.rule.action, e.rule.replacement) for e in rules]
    assert found == [
        ("m-1.re_1", "flag", "[RE 1]"),
        ("m-1.iban", "redact", "<iban>"),
        ("m-1.words", "mask", "*"),
        ("m-1.file", "mask", "#"),
        ("m-1.mail", "block", "[MAIL]"),
        ("m-1.pay-card", "redact", "[PAY CARD]"),
    ]
    assert [e.rule.pattern for e in rules] == [
        RegularPattern("a+", ignore_case=True, whole_word=True),
        RegularPattern("[A-Z0-9]{15,34}", verifier=VERIFIERS["iban"]),
        KeywordsPattern(("fig", "Date"), ignore_case=False, whole_word=False),
        KeywordsPattern(("alpha", "beta two", "#tag")),
        EmailPattern(),
        CardPattern(),
    ]
    assert (rules[0].rule.severity, rules[1].rule.description) == ("high", "x")


def test_the_words_of_a_pack_are_looked_for_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write("secretword\n", "sub/words.txt")
    name = write(RULE + "keywords_file = 'words.txt'\n", "sub/mine.toml")
    assert compile_rules([name]).find("a secretword")


# Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (GOOD + "patern = 'x'\n", "rule 'one': unknown key 'patern'", "did you mean 'pattern'?"),
        (GOOD + "zzz = 1\n", "rule 'one': unknown key 'zzz'", "known keys: id, description"),
        ("nam = 'x'\n" + GOOD, "unknown key 'nam'", "did you mean 'name'?"),
        ("[[rule]]\nid='one'\npattern='x'\n", "'name' is missing", ""),
        ("name = 'Mine'\n[[rule]]\nid='one'\npattern='x'\n", "'name' is 'Mine'", "a to z"),
        ("name = 3\n", "'name' is not a text, but a number", ""),
        ("name = 'x'\n", "'rule' is missing: a pack needs at least one [[rule]]", ""),
        ("name = 'x'\nrule = 3\n", "'rule' is not an array of tables, [[rule]], but a number", ""),
        ("name = 'x'\nrule = [3]\n", "'rule' is not an array of tables", ""),
        ("name = 'x'\n[[rule]]\npattern='x'\n", "rule 1: 'id' is missing", ""),
        ("name = 'x'\n[[rule]]\nid='Ö'\npattern='x'\n", "rule 1: 'id' is 'Ö'", "a to z"),
        (GOOD + "[[rule]]\nid = 'one'\npattern = 'y'\n", "rule 'one': two rules have this id", ""),
        (RULE, "rule 'one': nothing to look for", "exactly one of: pattern, keywords, keywords_file, scanner"),
        (GOOD + "keywords = ['x']\n", "rule 'one': 'pattern' and 'keywords' to look for", "exactly one of"),
        (GOOD + "action = 'redakt'\n", "rule 'one': 'action' is 'redakt'", "did you mean 'redact'?"),
        (GOOD + "action = true\n", "rule 'one': 'action' is not a text, but true or false", ""),
        (GOOD + "severity = 'urgent'\n", "rule 'one': 'severity' is 'urgent'", "choose one of: low, medium, high"),
        (GOOD + "whole_word = 1\n", "rule 'one': 'whole_word' is not true or false, but a number", ""),
        (GOOD + "verifier = 'lun'\n", "rule 'one': 'verifier' is 'lun'", "did you mean 'luhn'?"),
        (GOOD + "match = 'x'\n", "rule 'one': 'match' is not a list of texts, but a text", ""),
        (GOOD + "match = ['x', 3]\n", "rule 'one': 'match' item 2 is not a text, but a number", ""),
        (GOOD + "action = 'mask'\nreplacement = 'xx'\n", "'replacement' has 2 characters", "a mask is one character"),
        (GOOD + 'description = "a\\u001b[31mb"\n', "rule 'one': 'description' has a character that is not", "one line"),
        (GOOD + 'description = "a\\nb"\n', "rule 'one': 'description' has a character that is not printable", ""),
        ('description = "a\\u202eb"\n' + GOOD, "'mine.toml': 'description' has a character that is not printable", ""),
        (RULE + f"pattern = '{'a' * 10_001}'\n", "'pattern' has more than 10,000 characters at position 10000", ""),
        (f"a{'.a' * 40_000} = 1\n", "is not valid TOML: it has a dotted key of more than 100 parts", ""),
        (GOOD + 'replacement = "a\\nb"\n', "'replacement' must be printable", ""),
        (RULE + "pattern = 'ab(?=c)'\n", "rule 'one': 'pattern' has look-ahead at position 2", "no look-around"),
        (RULE + "pattern = '(?<!x)y'\n", "'pattern' has look-behind at position 0", "no look-around"),
        (RULE + "pattern = '(a)\\1'\n", "'pattern' has a back-reference at position 3", ""),
        (RULE + "pattern = '^a'\n", "'pattern' has the anchor `^` at position 0", ""),
        (RULE + "pattern = 'a*'\n", "'pattern' has a match of the empty text at position 0", ""),
        (RULE + "pattern = 'a{9999}'\n", "'pattern' has a repeat of more than 1,000 (oversized) at position 1", ""),
        (RULE + "pattern = '(a{90}){90}'\n", "automaton states (the limit is 5,000", ""),
        (RULE + "pattern = 'a['\n", "'pattern' has a class is not finished at position 2", ""),
        (RULE + "pattern = 'a+'\nverifier = 'luhn'\n", "candidates for a verifier of unlimited characters", ""),
        (RULE + "keywords = []\n", "'keywords' has no keyword", ""),
        (RULE + "keywords = ['a', '']\n", "'keywords' has a keyword without a visible character (number 2)", ""),
        (RULE + "keywords = ['a']\nverifier = 'luhn'\n", "'verifier' does not go with 'keywords'", "leave it out"),
        (RULE + "scanner = 'email'\nignore_case = true\n", "'ignore_case' does not go with 'scanner'", "leave it out"),
        (RULE + "scanner = 'e-mail'\n", "'scanner' is 'e-mail'", "did you mean 'email'?"),
        (RULE + "keywords_file = 'none.txt'\n", "the keywords file 'none.txt' cannot be read: No such file", ""),
        ("name = \n", "is not valid TOML: Invalid value (at line 1, column 8)", "single quotes"),
        ("top secret\n", "is not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 5)", ""),
        ("a = 1\na = 2\n", "is not valid TOML: ", ""),
        ("x = " + "[" * 5000, "is not valid TOML: ", ""),
    ],
)
def test_a_mistake_is_told_with_file_rule_key_and_place(text: str, message: str, hint: str) -> None:
    error = refusal(write(text))
    assert error.message.startswith("guard pack 'mine.toml'")
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    "text",
    [
        RULE + f"keywords_file = '{'A' * 300_000}'\n",
        GOOD + f"{'A' * 300_000} = 1\n",
        GOOD + f"action = '{'A' * 300_000}'\n",
        GOOD + f"replacement = '{'A' * 300_000}'\n",
        f"name = 'mine'\n[[rule]]\nid = '{'A' * 300_000}'\npattern = 'x'\n",
        RULE + f"pattern = '(?P<{'A' * 9_000}'\n",
        RULE + f"pattern = '{'{' * 300_000}'\n",
    ],
)
def test_an_error_is_short_however_long_the_value(text: str) -> None:
    error = refusal(write(text))
    assert len(error.message) + len(error.hint) < 400


def test_a_long_file_name_is_quoted_in_part() -> None:
    assert len(refusal("A" * 100_000).message) < 300


@pytest.mark.parametrize("unit", ["{", "{1", "(?:a)", "[a", "(a", "a|", "\\U"])
def test_a_pattern_of_any_length_is_judged_quickly(unit: str) -> None:
    started = time.perf_counter()
    for length in (10_000, 1_000_000):
        source = unit * (length // len(unit))
        try:
            load_pack(write(RULE + f"pattern = '{source}'\n"))
        except ConfigError as error:
            assert "'pattern' has" in error.message
    assert time.perf_counter() - started < 1


def test_a_brace_that_counts_nothing_stands_for_itself_and_its_scan_is_linear() -> None:
    for text in ("a{", "a{}", "a{,}", "a{x}", "a{1", "a{1,2", "a{,,}", "a{1,2,3}", "a{\u0661}"):
        found: list[Match] = []
        scanner = RegularPattern(f"{text}z").scanner()
        scanner.scan("".join(fold(text)) + "z", 0, found)
        assert found, text


def rules_of(count: int) -> str:
    return "name = 'mine'\n" + "".join(f"[[rule]]\nid = 'a{n}'\nkeywords = ['x']\n" for n in range(count))


def test_the_number_of_rules_is_limited_and_many_rules_load_quickly() -> None:
    started = time.perf_counter()
    assert len(load_pack(write(rules_of(RULES_MAX))).rules) == RULES_MAX
    assert time.perf_counter() - started < 2
    error = refusal(write(rules_of(RULES_MAX + 1)))
    assert error.message == "guard pack 'mine.toml': 'rule' holds more than 10,000 rules"


@pytest.mark.parametrize(
    "content",
    [
        b"\x7fELF\x02\x01\x00" + bytes(range(256)),
        b"user:TOPSECRET:0:0:User:/:/bin/sh\n",
        b"TOPSECRET = 1\nTOPSECRET = 2\n",
        b"[TOPSECRET]\n[TOPSECRET]\n",
        b"-----BEGIN PRIVATE KEY-----\nTOPSECRET\n",
        b"x = 'TOPSECRET\n",
        b"\xff\xfeT\x00O\x00P\x00",
        b"",
        b"\xef\xbb\xbf" + GOOD.encode() + b"[[rule]]\n",
    ],
)
def test_a_file_that_is_no_pack_is_never_quoted(content: bytes) -> None:
    error = refusal(write(content))
    assert "TOPSECRET" not in error.message + error.hint


def test_what_is_no_readable_file_is_named() -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    write(b"#" * (FILE_BYTES_MAX + 1), "large.toml")
    told = {
        name: refusal(name).message for name in ("folder", "pipe", "large.toml", "none.toml", "a\0b", "", "/dev/zero")
    }
    assert told["folder"] == "guard pack 'folder' is a directory"
    assert told["pipe"] == "guard pack 'pipe' is not a regular file"
    assert told["/dev/zero"] == "guard pack '/dev/zero' is not a regular file"
    assert told["large.toml"] == "guard pack 'large.toml' is larger than 4,194,304 bytes"
    assert told["none.toml"] == "guard pack 'none.toml' is neither a built-in pack nor a file"
    assert refusal("secret").hint == "did you mean 'secrets'?"
    assert refusal("zzz").hint == "built-in packs: " + ", ".join(BUILTIN)


@given(st.sampled_from(list(VERIFIERS)), st.text(alphabet="0aZ+-. :(é٣", max_size=40))
def test_a_verifier_judges_any_text(name: str, text: str) -> None:
    assert VERIFIERS[name](text) in (True, False)


# Choosing ---------------------------------------------------------------------------------------------------------


def ids(**how: Any) -> list[str]:
    return [rule.id for rule in compile_rules(**how).rules]


def test_own_keys_come_first_then_the_packs_in_order() -> None:
    found = ids(packs=["profanity", "pii"], own_keys=["first-key-0123", "second-key-0123", "first-key-0123", "short"])
    assert found[:4] == ["own_key", "own_key_2", "profanity.strong", "profanity.mild"]
    assert found[5] == "pii.email"


@pytest.mark.parametrize("key", ["", "ollama", "elevenchars"])
def test_a_short_own_key_is_no_secret(key: str) -> None:
    assert ids(packs=[], own_keys=[key]) == []


def test_an_own_key_is_hidden_verbatim_and_never_stands_in_a_repr() -> None:
    rules = compile_rules([], own_keys=["twelve-chars"])
    assert "twelve" not in repr(rules)
    assert Redactor(rules).feed("xxtwelve-charsyy")[1] == Redacted("own_key", "[KEY]", 2)


@pytest.mark.parametrize("action", ["redact", "mask", "block", "flag"])
def test_an_action_overrides_every_rule_but_the_own_key(action: Any) -> None:
    rules = compile_rules(DEFAULT_PACKS, action=action, own_keys=["twelve-chars"]).rules
    assert rules[0].action == "redact"
    assert {rule.action for rule in rules[1:]} == {action}
    marks = {rule.id: rule.replacement for rule in rules}
    assert marks["pii.email"] == ("*" if action == "mask" else "[EMAIL]")
    assert marks["profanity.mild"] == ("[MILD]" if action == "redact" else "*")


def test_a_mask_keeps_a_single_character_of_its_own() -> None:
    name = write(GOOD + "replacement = '#'\n")
    assert compile_rules([name], action="mask").rules[0].replacement == "#"


def test_the_same_pack_twice_counts_once() -> None:
    name = write(GOOD)
    assert ids(packs=[name, "pii", f"./{name}", name, "pii"]).count("mine.one") == 1


def test_two_packs_of_one_name_are_refused_with_both_files() -> None:
    write(GOOD), write(GOOD, "other.toml")
    with pytest.raises(ConfigError) as refused:
        compile_rules(["mine.toml", "other.toml"])
    assert refused.value.message == "two guard packs are called 'mine': 'mine.toml' and 'other.toml'"
    write(GOOD.replace("mine", "pii"))
    with pytest.raises(ConfigError, match=r"'pii' and 'mine\.toml'"):
        compile_rules(["pii", "mine.toml"])


def test_a_changed_file_is_read_again_and_built_in_sets_are_shared() -> None:
    name = write(GOOD)
    compile_rules([name])
    write(GOOD.replace("TICKET", "CASE"))
    assert compile_rules([name]).find("CASE-123456")
    assert compile_rules(["pii"]) is compile_rules(("pii",))
