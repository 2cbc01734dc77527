"""Templates: what they fill in, what they refuse, and that a name stays in its directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils.errors import AppError, ConfigError, UsageProblem
from utils.templates import FilledPrompt, load_template, parameter_values, template_names, templates_directory

KNOWN = ("model", "temperature", "system", "api_key", "guard", "gguf", "stop", "base_url", "log_text", "json_schema")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "templates").mkdir()
    return tmp_path / "templates"


def environ_of(directory: Path) -> dict[str, str]:
    return {"KAYGRAPH_TEMPLATES": str(directory)}


def write(directory: Path, content: str, name: str = "mine") -> None:
    (directory / f"{name}.toml").write_text(content, encoding="utf-8")


def filled(directory: Path, content: str, **values: str) -> FilledPrompt:
    write(directory, content)
    prompt = load_template("mine", environ=environ_of(directory), known=KNOWN).filled(values).prompt
    assert prompt is not None
    return prompt


def refusal(directory: Path, content: str | None, name: str = "mine", **values: str) -> AppError:
    if content is not None:
        write(directory, content)
    with pytest.raises(AppError) as caught:
        load_template(name, environ=environ_of(directory), known=KNOWN).filled(values)
    return caught.value


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Say $input!", "Say it!"),
        ("$input$input", "itit"),
        ("${input}s in $language", "its in Welsh"),
        ("$$5, $$input, $$$$", "$5, $input, $$"),
        ("$languages", None),
        ("no place", "no place"),
        ("", ""),
    ],
)
def test_places_are_filled(directory: Path, prompt: str, text: str | None) -> None:
    values = {"language": "Welsh"} if "language" in prompt else {}
    if text is None:
        assert isinstance(refusal(directory, f"prompt = '{prompt}'", **values), UsageProblem)
        return
    made = filled(directory, f"prompt = '{prompt}'", **values)
    assert made.text("it") == text
    assert made.takes_input is made.needs_input is ("$input" in prompt.replace("$$", "") or "${input}" in prompt)


def test_values_with_dollars_stay_as_they_are(directory: Path) -> None:
    content = 'prompt = "$a $input"\nsystem = "be $a"\n'
    write(directory, content)
    made = load_template("mine", environ=environ_of(directory), known=KNOWN).filled({"a": "$input ${a} $$"})
    assert made.prompt is not None
    assert made.prompt.text("$a") == "$input ${a} $$ $a"
    assert made.settings == {"system": "be $input ${a} $$"}


def test_defaults_stand_in_and_are_overruled(directory: Path) -> None:
    content = 'prompt = "$n $style: $input"\n[defaults]\nstyle = "plain"\nn = 3\ninput = "nothing"\n'
    assert filled(directory, content).text("") == "3 plain: nothing"
    made = filled(directory, content, style="loud", n="4")
    assert (made.text("x"), made.needs_input, made.takes_input) == ("4 loud: x", False, True)


def test_settings_by_name_and_paths_beside_the_file(directory: Path) -> None:
    write(
        directory,
        'temperature = 0\nstop = ["END"]\nguard = ["pii", "my.toml"]\njson_schema = "s.json"\nextract = true\n',
    )
    made = load_template("mine", environ=environ_of(directory), known=KNOWN).filled({})
    assert made.prompt is None
    assert made.extract is True
    assert made.settings == {
        "temperature": 0,
        "stop": ["END"],
        "guard": ["pii", str(directory / "my.toml")],
        "json_schema": str(directory / "s.json"),
    }


@pytest.mark.parametrize(
    ("content", "says", "hint"),
    [
        ("promt = 'x'", "unknown key 'promt'", "did you mean prompt?"),
        ("temprature = 1", "unknown key 'temprature'", "did you mean temperature?"),
        ("zzz = 1", "unknown key 'zzz'", "settings by name"),
        ("api_key = 'sk-1'", "holds no key", "OPENAI_API_KEY"),
        ("prompt = 3", "prompt must be a text, not 3", "quotes"),
        ("prompt = 'a\n'", "not TOML", "three quotes"),
        ('prompt = "a\\nb $ c"', "prompt, line 2: a $ without a name", "$$"),
        ("prompt = '$5'", "prompt, line 1: a $ without a name", "$$"),
        ("system = '$input'", "$input has its place in the prompt", "parameter"),
        ("extract = 'yes'", "extract must be true or false, not 'yes'", "correct"),
        ("[model]\nname = 'x'", "model must not be a section", "[defaults]"),
        ("defaults = 3", "defaults must be a section", "[defaults]"),
        ("prompt = '$lang'\n[defaults]\nlan = 'x'", "nothing in the template is called 'lan'", "did you mean lang?"),
        ("prompt = '$a'\n[defaults]\na = true", "defaults: a must be a text, not true", 'a = "..."'),
        ("x" * (1 << 20) + "x", "larger than 1 MiB", "another"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_its_file(
    directory: Path, content: str, says: str, hint: str
) -> None:
    error = refusal(directory, content)
    assert isinstance(error, ConfigError)
    assert error.message.startswith(str(directory / "mine.toml"))
    assert says in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("values", "says", "hint"),
    [
        ({}, "needs a value for lang, tone", "-P lang=VALUE -P tone=VALUE"),
        ({"lang": "x"}, "needs a value for tone", "-P tone=VALUE"),
        ({"lnag": "x"}, "has no parameter 'lnag'", "did you mean lang?"),
        ({"qqqq": "x"}, "has no parameter 'qqqq'", "it takes lang, tone"),
        ({"input": "x"}, "input=... cannot be given", "PROMPT"),
    ],
)
def test_parameters_that_are_missing_or_unknown(directory: Path, values: dict[str, str], says: str, hint: str) -> None:
    error = refusal(directory, "prompt = '$lang: $input'\nsystem = '$tone'", **values)
    assert isinstance(error, UsageProblem)
    assert says in error.message
    assert hint in error.hint


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "", "-x", "a\0b", "x" * 101, "é"])
def test_what_is_no_name_reads_no_file(directory: Path, name: str) -> None:
    for place in (directory, directory.parent):
        for file in (f"{name}.toml", ".toml", "..toml"):
            if "\0" not in file and len(file) < 100:
                (place / file).write_text("prompt = 'read'", encoding="utf-8")
    error = refusal(directory, None, name)
    assert "is no name of a template" in error.message


def test_an_unknown_name_tells_the_near_one_and_all(directory: Path) -> None:
    assert "yet" in refusal(directory, None).hint
    write(directory, "", "review")
    write(directory, "", "translate")
    (directory / "notes.txt").write_text("")
    error = refusal(directory, None, "reveiw")
    assert f"no template 'reveiw' in {directory}" in error.message
    assert error.hint == "did you mean review? templates there: review, translate"
    assert template_names(directory) == ["review", "translate"]
    assert template_names(directory / "nowhere") == template_names(None) == []


def test_a_path_is_any_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parent)
    Path("here.toml").write_text("prompt = 'here'", encoding="utf-8")
    for name in ("here.toml", "./here.toml", str(directory.parent / "here.toml")):
        assert load_template(name, environ={}, known=KNOWN).prompt == ("here",)
    write(directory, "")
    error = refusal(directory, None, "mine.toml")
    assert isinstance(error, UsageProblem)
    assert error.hint == f"-t mine takes it from {directory}"
    assert isinstance(refusal(directory, None, f"{directory}/"), ConfigError)


@pytest.mark.parametrize("name", ["mine", "./pipe"])
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("utils.named_file.PIPE_S", 0.05)
    monkeypatch.chdir(directory)
    for place in ("mine.toml", "pipe"):
        os.mkfifo(directory / place)
    error = refusal(directory, None, name)
    assert isinstance(error, ConfigError)
    assert error.message.endswith(": is a pipe without content")
    assert error.hint == "name another template"


def test_a_pipe_with_content_is_read_as_a_file_is(directory: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"prompt = 'x'")
        os.close(writer)
        assert load_template(f"/dev/fd/{reader}", environ={}, known=KNOWN).prompt == ("x",)
    finally:
        os.close(reader)


def test_the_directory_is_beside_the_settings_file(tmp_path: Path) -> None:
    assert templates_directory({"HOME": "/h"}) == Path("/h/.config/kaygraph-streaming-llm/templates")
    assert templates_directory({"XDG_CONFIG_HOME": "/c"}) == Path("/c/kaygraph-streaming-llm/templates")
    assert templates_directory({"HOME": "/h", "KAYGRAPH_TEMPLATES": "/t"}) == Path("/t")


def test_parameters_as_they_are_typed() -> None:
    assert parameter_values(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for texts, says in ((["a"], "not of the form"), (["1=x"], "not of the form"), (["a=1", "a=2"], "given twice")):
        with pytest.raises(UsageProblem, match=says):
            parameter_values(texts)


@pytest.mark.parametrize("line", ['base_url = "http://h/v1"', "log_text = true", 'gguf = "m.gguf"'])
def test_a_template_does_not_say_where_things_go(directory: Path, line: str) -> None:
    write(directory, f'{line}\nprompt = "x"\n')
    with pytest.raises(ConfigError, match="a template cannot say") as caught:
        load_template("mine", environ={"KAYGRAPH_TEMPLATES": str(directory)}, known=KNOWN)
    assert line.partition(" ")[0] in caught.value.hint
