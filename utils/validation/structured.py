"""Structured answers: JSON schema, regular expression or grammar, decided byte by byte. The importer of llguidance.

The compiled matcher knows after every byte whether some continuation is still valid, so an answer ends at its first
impossible byte. What is enforced is never less than what was asked for: a schema keyword that cannot be enforced is
refused at load. For JSON it is a little more, so these valid documents are refused too:
members in another order than the schema's `properties`, member names given twice or spelled in needless escapes,
`1.0` and `1e1` for integers, escapes instead of letters in strings that have a pattern, a maximal length or an enum.

White space may stand before and after a JSON document. A regular expression and a grammar must match the whole answer
as it is, white space included. A Markdown fence around a document is a violation: the answer would not parse.
"""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from utils.errors import AppError, ConfigError, UsageProblem
from utils.validation.member_names import MemberNames
from utils.validation.schema_check import SchemaProblem, check_schema
from utils.validation.validators import Validator, ValidatorStateError, Violation

__all__ = ["MAX_FILE_BYTES", "Structure", "compile_json_schema", "compile_regex", "load_grammar", "load_json_schema"]

Kind = Literal["JSON schema", "regex", "grammar"]

MAX_FILE_BYTES = 1_000_000
_MAX_REGEX_CHARS = 10_000
_COMPILE_LIMIT_S = 10.0
_STACK_BYTES = 512 << 20
"""The compiler needs up to 10 kB of stack for each level, references counted; address space only, until it is used."""
_MAX_ITEMS_IN_ROW = 500
"""Bounds the work for one byte to about 7 ms even with a wildly ambiguous grammar; the library's 2,000 takes 0.1 s."""
_MAX_EXPECTED = 6

_WHITE = " \t\n\r"
_BACKSLASH = 0x5C
_JSON_ONLY = "Answer with the JSON document alone: no other text before or after it, and no Markdown fence."
_TEXT_ONLY = "Answer with the matching text alone, and nothing before or after it."
_MAX_QUOTED_CHARS = 4_000
"""A longer schema or grammar is not repeated in a prompt."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer must look like, compiled. Immutable, for any number of answers: see `validator`."""

    kind: Kind
    schema: Mapping[str, Any] | bool | None = field(repr=False, default=None)
    """The JSON schema as it was given; None for a regex or a grammar."""
    _advice: str = field(repr=False, default="")
    _matcher: Any = field(repr=False, default=None, compare=False)

    def validator(self) -> Validator:
        """A validator for one answer."""
        return _StructureValidator(self.kind, self._advice, self._matcher.deep_copy())

    @property
    def response_format(self) -> dict[str, Any] | None:
        """What a server that can constrain its answers is sent: OpenAI's `response_format`; None if there is none."""
        if not isinstance(self.schema, Mapping):
            return None
        return {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": dict(self.schema)},
        }


def load_json_schema(path: Path) -> Structure:
    """The schema in the file *path*. Raises ConfigError."""
    text = _read(path, "JSON schema", "--json-schema")
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}: is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint="correct the file; a schema is a JSON object",
        ) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: {_too_deep(error)}", hint="simplify the schema") from error
    return compile_json_schema(schema, source=str(path))


def compile_json_schema(schema: object, *, source: str) -> Structure:
    """Compile *schema* (a JSON object or a boolean), which came from *source*. Raises ConfigError."""
    if not isinstance(schema, Mapping | bool):
        raise ConfigError(
            f"{source}: is no JSON schema: it must be a JSON object, not {_json_type(schema)}",
            hint='the smallest useful one is {"type": "object"}',
        )
    refused = f"{source}: cannot be used as a JSON schema"
    hint = "change the schema; what cannot be enforced is refused"
    try:
        check_schema(schema)
        # `x-guidance` would switch the compiler to other separators, or let it ignore what it cannot enforce.
        if schema is False:
            raise SchemaProblem("is `false`: no document is valid")
        parts = {} if schema is True else schema
        plain = {name: part for name, part in parts.items() if name != "x-guidance"}
        grammar = _library().LLMatcher.grammar_from_json_schema(
            json.dumps(plain),
            overrides={"lenient": False, "coerce_one_of": False, "json_allow_general_unicode_escapes": True},
        )
    except SchemaProblem as problem:
        raise ConfigError(f"{source}: {problem}", hint=hint) from problem
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{refused}: {_one_line(error)}", hint=hint) from error
    quoted = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    advice = _advised(_JSON_ONLY, "It must match this JSON schema, its members in this order", quoted)
    return Structure("JSON schema", schema, advice, _compiled(grammar, refused, hint, ConfigError))


def compile_regex(pattern: str) -> Structure:
    """Compile a regular expression (the syntax of Rust's `regex`), which must match the whole answer.

    Raises UsageProblem.
    """
    hint = "look-around, back-references and word boundaries are not supported"
    if len(pattern) > _MAX_REGEX_CHARS:
        raise UsageProblem(f"--regex: longer than {_MAX_REGEX_CHARS:,} characters", hint="use a --grammar file")
    if not pattern:
        raise UsageProblem("--regex: is empty", hint="give a regular expression, such as '[0-9]{4}'")
    try:
        grammar = _library().LLMatcher.grammar_from_regex(_without_anchors(pattern))
    except (UnicodeEncodeError, ValueError) as error:
        raise UsageProblem("--regex: is not valid Unicode text", hint="check the encoding of the terminal") from error
    advice = _advised(_TEXT_ONLY, "It must match this regular expression", pattern)
    return Structure("regex", None, advice, _compiled(grammar, "--regex: cannot be used", hint, UsageProblem))


def _without_anchors(pattern: str) -> str:
    """*pattern* without `^` at its start and `$` at its end: they ask for what is asked anyway."""
    whole = pattern.removeprefix("^")
    body = whole.removesuffix("$")
    is_escaped = (len(body) - len(body.rstrip("\\"))) % 2
    return whole if is_escaped else body


def load_grammar(path: Path) -> Structure:
    """The Lark grammar in the file *path* (llguidance's dialect; its start rule is `start`). Raises ConfigError."""
    text = _read(path, "grammar", "--grammar")
    hint = "correct the grammar; its start rule is `start`"
    refused = f"{path}: cannot be used as a grammar"
    advice = _advised(_TEXT_ONLY, "It must follow this grammar", text)
    return Structure(
        "grammar", None, advice, _compiled(_library().LLMatcher.grammar_from_lark(text), refused, hint, ConfigError)
    )


def _library() -> Any:
    # 40 ms, so only those who ask for a structured answer pay for it
    try:
        import llguidance
    except ImportError as error:
        raise ConfigError(
            "structured answers need the package llguidance, which cannot be loaded",
            hint="install requirements.txt; it needs Linux (glibc 2.31 or newer), macOS or Windows",
        ) from error
    return llguidance


def _read(path: Path, what: str, option: str) -> str:
    hint = f"name another file with {option}"
    try:
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            # opening a pipe may wait for ever, and a device may have no end
            raise ConfigError(f"{path}: is not a regular file", hint=f"give a file to {option}")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a {what} file", hint=hint) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the name is not valid"
        raise ConfigError(f"{str(path)!r}: cannot be read: {reason}", hint=hint) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES // 1_000_000} MB", hint=hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start + 1})", hint=hint) from error


def _compiled(grammar: str, refused: str, hint: str, kind: type[AppError]) -> Any:
    """The matcher, made in a thread of its own: with a stack that no schema in our limits overflows, and in time."""
    library = _library()
    made: list[Any] = []

    def make() -> None:
        limits = library.LLParserLimits(max_items_in_row=_MAX_ITEMS_IN_ROW, verbose_errors=False)
        try:
            matcher = library.LLMatcher(library.LLTokenizer("byte"), grammar, log_level=0, limits=limits)
            made.append(_IMPOSSIBLE if _is_impossible(matcher) else matcher)
        except BaseException as error:  # a panic of the library is no Exception
            made.append(error)

    before = threading.stack_size(_STACK_BYTES)
    try:
        thread = threading.Thread(target=make, name="compile-structure", daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(_COMPILE_LIMIT_S)
    if not made:
        raise kind(f"{refused}: compiling it takes more than {_COMPILE_LIMIT_S:g} s", hint="simplify it")
    matcher = made[0]
    if matcher is _IMPOSSIBLE:
        raise kind(
            f"{refused}: no answer can satisfy it",
            hint="look for a part that allows nothing, such as a definition that only refers to itself",
        )
    if isinstance(matcher, BaseException):
        raise kind(f"{refused}: {_one_line(matcher)}", hint="simplify it") from matcher
    if matcher.is_error():
        raise kind(f"{refused}: {_one_line(matcher.get_error())}", hint=hint)
    return matcher


_IMPOSSIBLE = object()


def _is_impossible(matcher: Any) -> bool:
    """Whether no answer can even begin; one that begins and can never end is not noticed. 0.1 ms."""
    if matcher.is_error() or matcher.is_accepting():
        return False
    fresh = matcher.deep_copy()  # an error would stay
    mask = fresh.compute_bitmask()
    if fresh.is_error():
        # any other reason, such as a limit, does not tell
        return str(fresh.get_error()).startswith("NoExtension")
    return not any(mask[:32])


def _advised(advice: str, introduction: str, quoted: str) -> str:
    """*advice* with the wanted form itself: a server that does not constrain its answers has never been told of it."""
    return f"{advice} {introduction}: {quoted}" if len(quoted) <= _MAX_QUOTED_CHARS else advice


def _one_line(error: object) -> str:
    """The library's reason without its drawings of the place."""
    if str(error).startswith("panic"):
        return "it is too large"
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    wanted = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[:1]
    line = "".join(c if c.isprintable() else " " for c in (wanted or [type(error).__name__])[0])
    return line if len(line) <= 200 else line[:199] + "…"


def _too_deep(error: Exception) -> str:
    return "is nested too deeply" if isinstance(error, RecursionError) else _one_line(error)


def _json_type(value: object) -> str:
    return {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a number")


class _StructureValidator:
    """Follows one answer through the matcher; member names of JSON are followed beside it."""

    def __init__(self, kind: Kind, advice: str, matcher: Any) -> None:
        self.name = kind
        self._advice = advice
        self._matcher = matcher
        self._is_json = kind == "JSON schema"
        self._names = MemberNames() if self._is_json else None
        self._chars = 0
        self._bytes = 0
        self._has_begun = not self._is_json
        self._is_complete = False
        """The JSON document has ended: only white space may follow."""
        self._last_byte = 0
        self._is_over = False

    def feed(self, text: str) -> Violation | None:
        """Read the next piece; the first impossible byte decides."""
        if self._is_over:
            raise ValidatorStateError("a structured answer was read on after its end")
        if not self._has_begun:
            text = self._without_white(text)
            self._has_begun = bool(text)
        if text and not self._is_complete:
            data = text.encode("utf-8", "surrogatepass")
            count = self._consumed(data)
            accepted = text if count == len(data) else data[:count].decode("utf-8", "ignore")
            refused = self._names.feed(accepted) if self._names else None
            if refused is not None:
                place, reason = refused
                self._advance(accepted[:place])
                return self._violated(reason)
            self._advance(accepted)
            if count == len(data):
                return None
            text = text[len(accepted) :]
            if self._matcher.is_error():
                return self._violated("the check gave up, because the text can be read in too many ways")
            if not (self._is_json and self._matcher.is_accepting()):
                if "\ud800" <= text[0] <= "\udfff":
                    return self._violated("half of a character")
                return self._violated(self._expectation(), count - len(accepted.encode()))
            self._is_complete = True
        text = self._without_white(text)
        return self._violated("text after the end of the document") if text else None

    def finish(self) -> Violation | None:
        """The answer is over: incomplete is a violation too."""
        if self._is_over:
            raise ValidatorStateError("a structured answer was ended twice")
        if self._is_complete or (self._has_begun and self._matcher.is_accepting()):
            self._is_over = True
            return None
        return self._violated("ends too early" if self._chars else "the answer is empty")

    def _consumed(self, data: bytes) -> int:
        """How many bytes of *data* the matcher takes."""
        count = int(self._matcher.try_consume_tokens(list(data)))
        if self._is_json:
            # The library knows every escape of JSON but `\\/`, which means nothing more than `/`.
            while data[count : count + 1] == b"/" and (data[count - 1] if count else self._last_byte) == _BACKSLASH:
                if self._matcher.is_error() or not self._matcher.rollback(1):
                    break
                taken = int(self._matcher.try_consume_tokens(list(data[count:])))
                count += taken
                if not taken:
                    break
            if count:
                self._last_byte = data[count - 1]
        return count

    def _without_white(self, text: str) -> str:
        rest = text.lstrip(_WHITE)
        self._advance(text[: len(text) - len(rest)])
        return rest

    def _advance(self, text: str) -> None:
        self._chars += len(text)
        self._bytes += len(text) if text.isascii() else len(text.encode())

    def _violated(self, reason: str, offset: int = 0) -> Violation:
        """The violation at this place; *offset* bytes of the next character were still possible."""
        self._is_over = True
        return Violation(self.name, reason, self._chars, self._bytes + offset, self._advice)

    def _expectation(self) -> str:
        """Why the place is impossible, in words about the structure only."""
        if self._matcher.is_stopped():
            return "text after the end"
        mask = self._matcher.compute_bitmask()
        allowed = bytes(value for value in range(0x21, 0x7F) if mask[value >> 3] >> (value & 7) & 1)
        return _expected(allowed) or "impossible text"


def _expected(allowed: bytes) -> str:
    """`expected a digit or '}'`, from the ASCII bytes that may stand at a place; "" if they are too many to say."""
    letters = allowed.decode("ascii")
    digits = "".join(c for c in letters if c.isdigit())
    others = [c for c in letters if not c.isdigit()]
    words = ["a digit"] if len(digits) > 1 else [f"'{c}'" for c in digits]
    words += [f"'{c}'" for c in others]
    if not words or len(words) > _MAX_EXPECTED:
        return ""
    return "expected " + (f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0])
