"""JSON schemas, regular expressions and grammars: the place of the cut, against oracles that share no code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.validation.feeding import CUTS, in_every_size, judged, split
from utils.errors import ConfigError, UsageProblem
from utils.validation.structured import (
    MAX_FILE_BYTES,
    Structure,
    compile_json_schema,
    compile_regex,
    load_grammar,
    load_json_schema,
)
from utils.validation.validators import ValidatorStateError

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def schema(value: object) -> Structure:
    return compile_json_schema(value, source="test.json")


@pytest.fixture(scope="module")
def person() -> Structure:
    return schema(PERSON)


VALID = [
    '{"name":"a","age":1}',
    '{ "name" : "a" ,\n "age" : 1 }',
    ' \t\r\n{"name":"a","age":-7}\n\n ',
    '{"name":"h\u00e9 \u4f60 \U0001f600","age":1}',
    '{"name":"\\u00e9 \\ud83d\\ude00 \\" \\\\ \\/ \\n","age":1}',
    '{"name":"\\/\\/a\\\\/\\/","age":1}',
    '{"name":"a","age":1,"more":{"name":1,"age":2},"other":[{"more":1},{"more":1}]}',
    '{"name":"a","age":1,"a\\"b":1,"a\\\\":2}',
]


@pytest.mark.parametrize("document", VALID)
def test_a_valid_document_passes_however_it_is_cut(document: str, person: Structure) -> None:
    json.loads(document)
    for pieces in in_every_size(document):
        assert judged(person.validator(), pieces) is None


CUT = [
    ('{"name":5', 8, 8, "expected '\"'"),
    ('{"name":"\u00e9\u4f60",5', 13, 16, "expected '\"'"),
    ("```json\n{}", 0, 0, "expected '{'"),
    ("\n Sure! {}", 2, 2, "expected '{'"),
    ('{"name":"a","age":1.0}', 19, 19, "expected a digit, ',' or '}'"),
    ('{"name":"a","age":1}\nDone.', 21, 21, "text after the end of the document"),
    ('{"name":"a","age":1}\u00a0', 20, 20, "text after the end of the document"),
    ('{"name":"a\ud83d', 10, 10, "half of a character"),
    ("\ud83d", 0, 0, "half of a character"),
    ("\ufeff{}", 0, 0, "expected '{'"),
    ('{"name":"a\nb"', 10, 10, "impossible text"),
    ('{"name":"a","age":1,"x":1,"x":2}', 28, 28, "a member name that the object already has"),
    ('{"name":"a","age":1,"y":[{"x":1,"x":2}]}', 34, 34, "a member name that the object already has"),
    ('{"name":"a","age":1,"x\\u0061":2}', 28, 28, "a member name with escapes that it does not need"),
    ('{"name":\\/', 8, 8, "expected '\"'"),
    ('{"name":"\\q', 10, 10, "impossible text"),
    ('{"name":"a"', 11, 11, "ends too early"),
    ('{"name":"a', 10, 10, "ends too early"),
    ("", 0, 0, "the answer is empty"),
    (" \n", 2, 2, "ends too early"),
]


@pytest.mark.parametrize(("text", "position", "byte_position", "reason"), CUT)
def test_an_invalid_answer_ends_at_its_first_impossible_byte(
    text: str, position: int, byte_position: int, reason: str, person: Structure
) -> None:
    for pieces in in_every_size(text):
        violation = judged(person.validator(), pieces)
        assert violation is not None
        assert (violation.position, violation.byte_position, violation.reason) == (position, byte_position, reason)


def test_a_byte_inside_a_character_can_be_the_first_impossible_one() -> None:
    # U+00E9 is C3 A9, U+00EA is C3 AA: they part at their second byte.
    for pieces in in_every_size("x\u00ea"):
        violation = judged(compile_regex("x\u00e9").validator(), pieces)
        assert violation is not None
        assert (violation.position, violation.byte_position) == (1, 2)


def test_a_member_in_disguise_cannot_carry_a_value_past_the_schema() -> None:
    structure = schema({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert judged(structure.validator(), ['{"a":1}']) is None
    for text in ('{"a":"x"}', '{"\\u0061":"x"}', '{"a":1,"\\u0061":"x"}', '{"a":1,"a":"x"}'):
        assert judged(structure.validator(), [text]) is not None


@pytest.mark.parametrize("inner", [False, True])
def test_a_schema_cannot_change_what_json_is(inner: bool) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "x-guidance": {"item_separator": ";"}}
    wanted = {"type": "array", "items": numbers} if inner else numbers
    text = "[[1;2]]" if inner else "[1;2]"
    assert judged(schema(wanted).validator(), [text]) is not None
    assert judged(schema(wanted).validator(), [text.replace(";", ",")]) is None


def test_what_a_violation_says_never_quotes_the_answer(person: Structure) -> None:
    for text in ('{"name":"swordfish","age":"swordfish"}', '{"swordfish', "swordfish"):
        violation = judged(person.validator(), [text])
        assert violation is not None
        assert "swordfish" not in f"{violation!r} {violation}"


def test_one_structure_judges_many_answers(person: Structure) -> None:
    first, second = person.validator(), person.validator()
    assert first.feed('{"name":"a"') is None
    assert second.feed("[") is not None
    assert first.feed(',"age":1}') is None
    assert first.finish() is None
    for ended in (first, second):
        with pytest.raises(ValidatorStateError):
            ended.feed("x")
        with pytest.raises(ValidatorStateError):
            ended.finish()


# -- oracles ---------------------------------------------------------------------------------------------------------

WORD = st.text(alphabet="ab\u00e9\u00ea\U0001f600", min_size=1, max_size=5)


def first_impossible(language: set[str], text: str) -> int | None:
    """Characters before the first byte that no word of *language* has there; None if *text* begins some word."""
    data = text.encode()
    for end in range(len(data)):
        if not any(word.encode().startswith(data[: end + 1]) for word in language):
            return len(data[:end].decode("utf-8", "ignore"))
    return None


@settings(max_examples=120, deadline=None)
@given(st.sets(WORD, min_size=1, max_size=6), WORD, CUTS, st.data())
def test_in_a_finite_language_the_cut_is_where_no_word_goes_on(
    language: set[str], other: str, cuts: list[int], data: st.DataObject
) -> None:
    structure = compile_regex("|".join(map(re.escape, sorted(language))))
    text = data.draw(st.sampled_from(sorted(language))) + data.draw(st.sampled_from(["", other]))
    violation = judged(structure.validator(), split(text, cuts))
    if text in language:
        assert violation is None
        return
    assert violation is not None
    place = first_impossible(language, text)
    assert violation.position == (len(text) if place is None else place)
    assert (violation.reason == "ends too early") == (place is None)


SCALARS = st.one_of(st.integers(-99, 99), st.text(alphabet="abc", max_size=3), st.booleans(), st.none())


@settings(max_examples=80, deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=5), SCALARS, CUTS)
def test_an_enum_is_cut_where_none_of_its_values_goes_on(values: list[Any], other: Any, cuts: list[int]) -> None:
    language = {json.dumps(value) for value in values}
    text = json.dumps(other)
    violation = judged(schema({"enum": values}).validator(), split(f" {text} ", cuts))
    if text in language:
        assert violation is None
        return
    assert violation is not None
    place = first_impossible(language, text)
    # A shorter value may be whole already: then the text goes on after the end. A longer one ends at the white space.
    assert violation.position == 1 + (len(text) if place is None else place)


NAMES = ("a", "b", "c")


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaves = st.sampled_from(
        [{"type": "integer"}, {"type": "string"}, {"type": "boolean"}, {"type": "null"}, {"enum": ["x", 3]}]
    )

    def larger(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        objects = st.builds(
            lambda members, required, closed: {
                "type": "object",
                "properties": members,
                "required": [name for name in members if name in required],
                **({"additionalProperties": False} if closed else {}),
            },
            st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            st.sets(st.sampled_from(NAMES)),
            st.booleans(),
        )
        arrays = st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 2)
        )
        return st.one_of(objects, arrays)

    return st.recursive(leaves, larger, max_leaves=5)


def documents(wanted: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Documents that are valid for *wanted*, members in its order."""
    match wanted.get("type"):
        case "integer":
            return st.integers(-1000, 1000)
        case "string":
            return st.text(max_size=4).filter(lambda text: "\x7f" not in text)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(documents(wanted["items"]), min_size=wanted["minItems"], max_size=3)
        case "object":
            members = wanted["properties"]
            choices = {
                name: documents(part) if name in wanted["required"] else st.one_of(st.just(...), documents(part))
                for name, part in members.items()
            }
            return st.fixed_dictionaries(choices).map(
                lambda row: {name: row[name] for name in members if row[name] is not ...}
            )
        case _:
            return st.sampled_from(wanted["enum"])


def is_valid(value: Any, wanted: dict[str, Any]) -> bool:
    """A validator of the few keywords above."""
    match wanted.get("type"):
        case "integer":
            return type(value) is int
        case "string":
            return type(value) is str
        case "boolean":
            return type(value) is bool
        case "null":
            return value is None
        case "array":
            return (
                type(value) is list
                and len(value) >= wanted["minItems"]
                and all(is_valid(item, wanted["items"]) for item in value)
            )
        case "object":
            members = wanted["properties"]
            return (
                type(value) is dict
                and all(name in value for name in wanted["required"])
                and (wanted.get("additionalProperties", True) or set(value) <= set(members))
                and all(is_valid(item, members[name]) for name, item in value.items() if name in members)
            )
        case _:
            return value in wanted["enum"] and type(value) is not bool


def refusing_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@settings(max_examples=150, deadline=None)
@given(schemas(), st.data(), CUTS, st.sampled_from([None, 1]), st.booleans())
def test_valid_documents_pass_and_what_passes_is_valid(
    wanted: dict[str, Any], data: st.DataObject, cuts: list[int], indent: int | None, ascii_only: bool
) -> None:
    structure = schema(wanted)
    text = json.dumps(data.draw(documents(wanted)), indent=indent, ensure_ascii=ascii_only)
    assert is_valid(json.loads(text), wanted)
    assert judged(structure.validator(), split(text, cuts)) is None
    # Now spoilt: some piece of it taken out, doubled, or replaced.
    start, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    middle = data.draw(st.sampled_from(["", text[start:end] * 2, '"', ",", "1", "}", "\\u0061", '"a":1,', "null"]))
    spoilt = text[:start] + middle + text[end:]
    whole, cut = (judged(structure.validator(), pieces) for pieces in ([spoilt], split(spoilt, cuts)))
    assert whole == cut
    if whole is None:
        assert is_valid(json.loads(spoilt, object_pairs_hook=refusing_duplicates), wanted)
    else:
        # The text before the cut was accepted, and the next character was not: the cut is the first such place.
        assert structure.validator().feed(spoilt[: whole.position]) is None
        if whole.position < len(spoilt):
            assert structure.validator().feed(spoilt[: whole.position + 1]) is not None


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='{}[]",:ab1 ', max_size=12), CUTS)
def test_any_json_is_cut_where_no_json_goes_on(text: str, cuts: list[int]) -> None:
    violation = judged(schema({}).validator(), split(text, cuts))
    try:
        json.loads(text, object_pairs_hook=refusing_duplicates)
    except (ValueError, AssertionError):
        assert violation is not None
    else:
        assert violation is None


# -- regular expressions and grammars --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position"),
    [("2024", None), ("202", 3), ("20245", 4), (" 2024", 0), ("2024\n", 4), ("20x4", 2), ("", 0)],
)
def test_a_regex_must_match_the_whole_answer_as_it_is(text: str, position: int | None) -> None:
    for pieces in in_every_size(text):
        violation = judged(compile_regex("[0-9]{4}").validator(), pieces)
        assert (violation and violation.position) == position


def test_a_lark_grammar_is_followed_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "sum.lark"
    path.write_text('start: NUMBER ("+" NUMBER)* "=" NUMBER\nNUMBER: /[0-9]+/\n')
    structure = load_grammar(path)
    assert judged(structure.validator(), ["1+2", "2=23"]) is None
    for text, position in (("1++", 2), ("1+2=", 4), ("=", 0)):
        violation = judged(structure.validator(), list(text))
        assert violation is not None
        assert violation.position == position


def test_only_an_object_schema_can_be_sent_to_a_server() -> None:
    wanted = schema(PERSON).response_format
    assert wanted is not None
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["schema"] == PERSON
    assert compile_regex("a").response_format is None
    assert schema(True).response_format is None


# -- what cannot be used ---------------------------------------------------------------------------------------------

REFUSED_SCHEMAS: list[tuple[object, str]] = [
    (5, "must be a JSON object, not a number"),
    ([], "must be a JSON object, not an array"),
    (None, "must be a JSON object, not null"),
    (False, "no document is valid"),
    ({"type": "strng"}, "Invalid type: strng"),
    ({"not": {}}, 'Unimplemented keys: ["not"]'),
    ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    ({"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}, "uniqueItems"),
    ({"type": "string", "format": "banana"}, "Unknown format: banana"),
    ({"type": "string", "pattern": "a(?=b)"}, "look-around"),
    ({"type": "integer", "minimum": 5, "maximum": 1}, "minimum (5) is greater than maximum (1)"),
    ({"type": "integer", "minimum": 10**400}, "out of range"),
    ({"type": "object", "requierd": ["a"]}, "unknown keyword 'requierd' (did you mean 'required'?)"),
    ({"properties": {"a": {"requried": []}}}, "unknown keyword 'requried' at #/properties/a"),
    ({"$ref": "http://example.com/schema.json"}, "http://example.com/schema.json"),
    ({"$ref": "#/$defs/missing"}, "/$defs/missing"),
    ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "oneOf"),
    ({"properties": {str(n): {} for n in range(1001)}}, "more than 1,000 members"),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED_SCHEMAS)
def test_a_schema_that_cannot_be_enforced_is_refused_in_one_line(value: object, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema(value)
    assert reason in caught.value.message
    assert caught.value.message.startswith("test.json: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.hint


def nested(depth: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        wanted = {"type": "array", "items": wanted}
    return wanted


def chain(count: int, **more: Any) -> dict[str, Any]:
    links = {f"d{n}": {**more, "items": {"$ref": f"#/$defs/d{n + 1}"}, "type": "array"} for n in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{count}": {"type": "integer"}}}


HOSTILE_SCHEMAS = {
    "nested 60 times": nested(60),
    "nested 900 times": nested(900),
    "a chain of 8,000 references": chain(8_000),
    "references to themselves": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "doubled 30 times": {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)},
            "d30": {"type": "integer"},
        },
    },
    "all of any of": {
        "allOf": [
            {"anyOf": [{"type": "object", "properties": {f"{name}{n}": {"const": 1}}} for name in "ab"]}
            for n in range(20)
        ]
    },
    "a pattern of a million million": {"type": "string", "pattern": "^(?:(?:[a-z]{0,1000}){0,1000}){0,1000}x$"},
    "many schemas": {"anyOf": [{"const": n} for n in range(25_000)]},
    "multiples of a large prime": {"type": "integer", "multipleOf": 999_999_937, "minimum": 1, "maximum": 10**18},
}


@pytest.mark.parametrize("name", HOSTILE_SCHEMAS)
def test_a_hostile_schema_neither_hangs_nor_crashes(name: str) -> None:
    # In a process of its own: a stack that overflows would take the test run with it.
    code = (
        "import sys, json\n"
        "from utils.errors import ConfigError\n"
        "from utils.validation.structured import compile_json_schema\n"
        "sys.setrecursionlimit(20_000)\n"
        "try:\n"
        "    validator = compile_json_schema(json.load(sys.stdin), source='s').validator()\n"
        "    validator.feed('[' * 50 + '1')\n"
        "except ConfigError as error:\n"
        "    assert len(error.message) < 300, error\n"
    )
    document = json.dumps(HOSTILE_SCHEMAS[name])
    done = subprocess.run([sys.executable, "-c", code], input=document, text=True, timeout=10, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_ambiguous_grammar_gives_up_instead_of_taking_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "ambiguous.lark"
    path.write_text('start: x\nx: x x | "a"\n')
    validator = load_grammar(path).validator()
    violation = next(filter(None, (validator.feed("a") for _ in range(2000))))
    assert "gave up" in violation.reason
    assert violation.position > 100


FILES: list[tuple[bytes, str]] = [
    (b'{"type": "object",}', "is not JSON: "),
    (b'{\n "type": x}', "at line 2, column 10"),
    (b"", "is not JSON: "),
    (b"\xff\xfe{", "is not UTF-8 text (byte 1)"),
    (b" " * (MAX_FILE_BYTES + 1), "is larger than 1 MB"),
    (b"[" * 100_000, "is nested too deeply"),
]


@pytest.mark.parametrize(("content", "reason"), FILES)
def test_a_schema_file_that_cannot_be_read_is_named_with_the_reason(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_json_schema(path)
    assert str(path) in caught.value.message
    assert reason in caught.value.message
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("load", [load_json_schema, load_grammar])
def test_a_missing_file_and_a_directory_are_told_apart(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "missing")
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("a\0b"))


@pytest.mark.parametrize("load", [load_json_schema, load_grammar])
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(load: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigError, match="is not a regular file"):
            load(path)


@pytest.mark.parametrize(
    "value",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_schema_that_only_refers_to_itself_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="no answer can satisfy it"):
        compile_json_schema(value, source="a.json")


@pytest.mark.parametrize("grammar", ["start: start", "start: a\na: b\nb: a", 'start: start "x"'])
def test_a_grammar_that_only_refers_to_itself_is_refused(grammar: str, tmp_path: Path) -> None:
    (tmp_path / "g.lark").write_text(grammar)
    with pytest.raises(ConfigError, match="no answer can satisfy it"):
        load_grammar(tmp_path / "g.lark")


@pytest.mark.parametrize("grammar", ['start: ""', 'start: start "x" | "x"', 'start: "x" start | "y"', "start: /é*/"])
def test_a_grammar_that_something_satisfies_is_used(grammar: str, tmp_path: Path) -> None:
    (tmp_path / "g.lark").write_text(grammar)
    load_grammar(tmp_path / "g.lark")
    compile_json_schema({"type": "object", "properties": {"a": {"$ref": "#"}}}, source="a.json")


def test_a_schema_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(PERSON), encoding="utf-8-sig")
    assert judged(load_json_schema(path).validator(), ['{"name":"a","age":1}']) is None


@pytest.mark.parametrize("pattern", ["a(", "a(?=b)", r"(a)\1", r"\bfoo", "", "\ud800", "a" * 20_000, "(" * 1000 + "a"])
def test_a_regex_that_cannot_be_used_is_a_usage_problem(pattern: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        compile_regex(pattern)
    assert caught.value.message.startswith("--regex: ")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("grammar", ["", "start: (", "start: missing", "nostart: /a/", "start: " + "(" * 5000])
def test_a_grammar_that_cannot_be_used_is_a_configuration_error(grammar: str, tmp_path: Path) -> None:
    path = tmp_path / "g.lark"
    path.write_text(grammar)
    with pytest.raises(ConfigError) as caught:
        load_grammar(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_the_library_is_imported_only_by_those_who_use_it() -> None:
    code = (
        "import sys\n"
        "import flow, commands.one_run\n"
        "import utils.validation.structured, utils.validation.retrying\n"
        "from utils.validation.plan import plan_of\n"
        "plan_of(specs=['max-chars=5'])\n"
        "assert 'llguidance' not in sys.modules\n"
        "plan_of(regex='a')\n"
        "assert 'llguidance' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, timeout=20, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_anchors_around_a_whole_expression_change_nothing() -> None:
    for pattern in ("[0-9]+", "^[0-9]+", "[0-9]+$", "^[0-9]+$"):
        assert judged(compile_regex(pattern).validator(), ["12"]) is None
        assert judged(compile_regex(pattern).validator(), ["1x"]) is not None
    assert judged(compile_regex(r"a\$").validator(), ["a$"]) is None
    assert judged(compile_regex(r"a\\$").validator(), ["a\\"]) is None
