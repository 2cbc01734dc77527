"""Targets and profiles: who is asked whatever names what, with which settings, and where every key may go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utils.errors import AppError, ConfigError, UsageProblem
from utils.fallbacks import fallbacks_of
from utils.policies import Guards
from utils.run_context import EMBEDDED, Target
from utils.session import Session
from utils.settings import Loaded, load
from utils.settings_sources import server_of
from utils.targets import EMBEDDED_MODEL, OPENAI_URL, choose_target

FAST, SLOW, OPEN, TYPED = (
    "https://fast.test/v1",
    "https://slow.test:8443/v1",
    "https://open.test/v1",
    "https://x.test/v1",
)
KEYS = {
    "fast": "fast-key-0123456789",
    "slow": "slow-key-0123456789",
    "general": "general-key-0123456789",
    "typed": "typed-key-0123456789",
}
TARGETS = f"""
[targets.fast]
base_url = "{FAST}"
model = "small"
key_env = "FAST_KEY"

[targets.slow]
base_url = "{SLOW}"
model = "large"
key_env = "SLOW_KEY"

[targets.open]
base_url = "{OPEN}"
model = "free"

[targets.alias]
model = "gpt-4o"

[targets.paid]
model = "gpt-5"
key_env = "SLOW_KEY"

[targets.here]
gguf = "q.gguf"
"""
ENVIRON = {"FAST_KEY": KEYS["fast"], "SLOW_KEY": KEYS["slow"]}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("named") / "config.toml"
    (path.parent / "q.gguf").write_bytes(b"GGUF")
    return path


def write(path: Path, *, top: Mapping[str, object] | None = None, sections: str = TARGETS, mode: int = 0o600) -> Path:
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in (top or {}).items()) + sections)
    path.chmod(mode)
    return path


def loaded(path: Path, flags: Mapping[str, object] | None = None, **environ: str) -> Loaded:
    return load(flags or {}, environ={**ENVIRON, **environ}, config_file=path)


def asked(loaded: Loaded) -> Target:
    return choose_target(loaded.settings, origins=loaded.origins).target


def chain(loaded: Loaded) -> list[Target]:
    choice = choose_target(loaded.settings, origins=loaded.origins)
    return [choice.target, *(fallback.target for fallback in fallbacks_of(loaded, choice))]


# -- who is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "base_url", "model", "key"),
    [
        ({"model": "fast"}, FAST, "small", "fast"),
        ({"model": " fast "}, FAST, "small", "fast"),
        ({"model": "slow"}, SLOW, "large", "slow"),
        ({"model": "open"}, OPEN, "free", None),
        ({"model": "alias"}, OPENAI_URL, "gpt-4o", "general"),
        ({"model": "paid"}, OPENAI_URL, "gpt-5", "slow"),
        ({"model": "here"}, EMBEDDED, "q", None),
        ({"model": "FAST"}, OPENAI_URL, "FAST", "general"),
        ({"model": "fast", "base_url": TYPED}, TYPED, "fast", "general"),
        ({"model": "fast", "api_key": KEYS["typed"]}, FAST, "small", "typed"),
        ({"model": "open", "api_key": KEYS["typed"]}, OPEN, "free", "typed"),
    ],
)
def test_a_name_stands_for_its_target(
    config: Path, flags: dict[str, object], base_url: str, model: str, key: str | None
) -> None:
    target = asked(loaded(write(config), flags, OPENAI_API_KEY=KEYS["general"]))
    assert (target.base_url, target.model, target.api_key) == (base_url, model, KEYS[key] if key else None)


def test_a_target_at_the_server_of_the_general_key_is_asked_with_it(config: Path) -> None:
    write(config, sections=f'[targets.a]\nbase_url = "{OPENAI_URL}/"\n[targets.b]\nbase_url = "{OPENAI_URL[:-2]}v2"\n')
    for name in ("a", "b"):
        assert asked(loaded(config, {"model": name}, OPENAI_API_KEY=KEYS["general"])).api_key == KEYS["general"]
        target = asked(loaded(config, {"model": name}, OPENAI_API_KEY=KEYS["general"], OPENAI_BASE_URL=TYPED))
        assert target.api_key is None, "the key is meant for the base URL that was exported with it"


def test_where_a_target_has_no_base_url_the_configured_server_is_asked_but_never_with_its_own_key(config: Path) -> None:
    exported = {"OPENAI_API_KEY": KEYS["general"], "OPENAI_BASE_URL": TYPED}
    target = asked(loaded(write(config), {"model": "alias"}, **exported))
    assert (target.base_url, target.model, target.api_key) == (TYPED, "gpt-4o", KEYS["general"])
    target = asked(loaded(config, {"model": "paid"}, **exported))
    assert (target.base_url, target.model, target.api_key) == (OPENAI_URL, "gpt-5", KEYS["slow"])


@dataclass(frozen=True)
class Places:
    """What each place says; "" for nothing. A profile and the top level name a target, or a server, or a model."""

    model: str
    base_url: str
    our_model: str
    our_url: str
    their_url: str
    profile_from: str
    profile: tuple[str, str]
    top: tuple[str, str]


NAMED = st.sampled_from([("", ""), ("target", "fast"), ("target", "slow"), ("model", "fast"), ("model", "plain")])
SERVER = st.just(("base_url", "https://own.test"))
PLACES = st.builds(
    Places,
    model=st.sampled_from(["", "", "fast", "slow", "typed-model"]),
    base_url=st.sampled_from(["", "", "", TYPED]),
    our_model=st.sampled_from(["", "", "slow", "our-model"]),
    our_url=st.sampled_from(["", "", "", "https://ours.test"]),
    their_url=st.sampled_from(["", "https://theirs.test"]),
    profile_from=st.sampled_from(["", "flag", "environment", "file"]),
    profile=NAMED | SERVER,
    top=NAMED | SERVER,
)
OF_TARGET = {"fast": (FAST, "small", KEYS["fast"]), "slow": (SLOW, "large", KEYS["slow"])}


def expected(places: Places) -> tuple[str, str, str]:
    """Who is asked: the statements about it from the highest to the lowest, and the first one that decides."""
    said: list[tuple[str, str]] = []

    def say(kind: str, value: str) -> None:
        if value:
            said.append(("target" if value in OF_TARGET else kind, value))

    def say_table(table: tuple[str, str]) -> None:
        say(*table)

    def say_place(model: str, url: str) -> None:
        if url:
            said.extend([("url", url), ("plain", model)] if model else [("url", url)])
        else:
            say("plain", model)

    names_target = places.profile[1] in OF_TARGET
    say_place(places.model, places.base_url)
    if names_target and places.profile_from == "flag":
        say_table(places.profile)
    say_place(places.our_model, places.our_url)
    if names_target and places.profile_from == "environment":
        say_table(places.profile)
    say("url", places.their_url)
    for table in (places.profile if places.profile_from else ("", ""), places.top):
        say({"base_url": "url"}.get(table[0], "plain"), table[1])

    decides = next((kind for kind, _ in said if kind in ("target", "url")), "")
    place = next((at for at, (kind, _) in enumerate(said) if kind == decides and decides), len(said))
    plain = next((value for kind, value in said[:place] if kind == "plain"), "")
    if decides == "target":
        url, model, key = OF_TARGET[said[place][1]]
        return url, plain or model, key
    models = [value for kind, value in said if kind == "plain"]
    url = said[place][1] if decides else OPENAI_URL
    return url, models[0] if models else "" if decides else "gpt-4o-mini", KEYS["general"]


@settings(deadline=None, max_examples=100)
@given(PLACES)
def test_the_highest_place_that_says_who_is_asked_decides_all_of_it(config: Path, places: Places) -> None:
    top = dict([places.top] if places.top[0] else [])
    if places.profile_from == "file":
        top["profile"] = "work"
    profile = f"[profiles.work]\n{places.profile[0]} = {json.dumps(places.profile[1])}\n" if places.profile[0] else ""
    write(config, top=top, sections=TARGETS + (profile or "[profiles.work]\n"))
    flags: dict[str, object] = {"model": places.model or None, "base_url": places.base_url or None}
    environ = {
        "OPENAI_API_KEY": KEYS["general"],
        "OPENAI_BASE_URL": places.their_url,
        "KAYGRAPH_MODEL": places.our_model,
        "KAYGRAPH_BASE_URL": places.our_url,
    }
    if places.profile_from == "flag":
        flags["profile"] = "work"
    if places.profile_from == "environment":
        environ["KAYGRAPH_PROFILE"] = "work"
    target = asked(loaded(config, flags, **environ))
    assert (target.base_url, target.model, target.api_key) == expected(places)


def test_an_exported_base_url_that_overrules_the_files_target_is_told(config: Path) -> None:
    write(config, top={"profile": "work"}, sections=f"{TARGETS}[profiles.work]\ntarget = 'fast'\n")
    [warning] = loaded(config, OPENAI_BASE_URL=TYPED).warnings
    assert warning == (
        f"environment variable OPENAI_BASE_URL decides who is asked, not {config}: profiles.work: target; "
        "-m fast asks the target"
    )
    for quiet in ({"OPENAI_BASE_URL": ""}, {"KAYGRAPH_BASE_URL": TYPED}):
        assert loaded(config, **quiet).warnings == ()
    assert loaded(config, {"model": "slow"}, OPENAI_BASE_URL=TYPED).warnings == ()


def test_what_a_local_target_cannot_be_asked_for_is_asked_elsewhere(config: Path) -> None:
    write(config, top={"target": "here"})
    assert asked(loaded(config, OPENAI_API_KEY=KEYS["general"])).name == "q (embedded)"
    assert asked(loaded(config, {"model": "embedded"})).model == EMBEDDED_MODEL
    target = asked(loaded(config, {"model": "gpt-4"}, OPENAI_API_KEY=KEYS["general"]))
    assert (target.base_url, target.model, target.api_key) == (OPENAI_URL, "gpt-4", KEYS["general"])


def test_the_profile_none_is_none(config: Path) -> None:
    write(config, top={"profile": "work", "seed": 1}, sections="[profiles.work]\nseed = 2\n")
    assert loaded(config).settings.seed == 2
    assert loaded(config, {"profile": "none"}).settings.seed == 1
    assert loaded(config, KAYGRAPH_PROFILE="none").settings.seed == 1


def test_what_is_wrong_in_a_place_that_does_not_count_stops_nobody(config: Path) -> None:
    sections = TARGETS + '[profiles.bad]\ntarget = "nobody"\nseed = "x"\n[targets.bad]\nmodel = 5\nkey_env = "UNSET"\n'
    write(config, top={"profile": "bad", "target": "nobody"}, sections=sections)
    result = loaded(config, {"model": "fast", "seed": 1}, OPENAI_BASE_URL="nonsense")
    assert (asked(result).base_url, result.settings.seed) == (FAST, 1)
    assert loaded(config, {"model": "fast", "profile": "none"}).settings.seed is None


def test_a_value_says_where_it_is_from(config: Path) -> None:
    sections = TARGETS.replace("[targets.fast]", "[targets.fast]\nrpm = 9\ntemperature = 0.1")
    write(config, top={"tpm": 7, "rpm": 8}, sections=f"{sections}[profiles.work]\ntarget = 'fast'\ntemperature = 0.3\n")
    result = loaded(config, {"profile": "work"}, KAYGRAPH_RETRIES="5")
    origins = {name: result.origins[name] for name in ("base_url", "model", "api_key", "rpm", "tpm", "temperature")}
    assert origins == {
        "base_url": f"file {config}: targets.fast",
        "model": f"file {config}: targets.fast",
        "api_key": "environment FAST_KEY",
        "rpm": f"file {config}: targets.fast",
        "tpm": f"file {config}",
        "temperature": f"file {config}: profiles.work",
    }
    assert result.target == ("fast", f"file {config}: profiles.work")
    assert loaded(config, {"model": "slow"}).target == ("slow", "flag --model")


# -- settings of a target --------------------------------------------------------------------------------------------

OWN = 'temperature = 0.4\nmax_tokens = 40\ncontext_tokens = 400\nfinish_reason_optional = true\nresume = "words"\n'
OWN_VALUES = {
    "temperature": 0.4,
    "max_tokens": 40,
    "context_tokens": 400,
    "finish_reason_optional": True,
    "resume": "words",
    "rpm": 4,
    "tpm": 4000,
}


def test_a_target_has_settings_of_its_own_and_its_fallbacks_have_theirs(config: Path) -> None:
    sections = TARGETS.replace("[targets.fast]", f"[targets.fast]\n{OWN}rpm = 4\ntpm = 4000")
    sections = sections.replace("[targets.slow]", "[targets.slow]\ntemperature = 0.8")
    write(config, top={"temperature": 0.2, "rpm": 2}, sections=sections)
    result = loaded(config, {"model": "fast", "fallback": ("slow", "embedded", "other")})
    assert {name: getattr(result.settings, name) for name in OWN_VALUES} == OWN_VALUES
    session = Session(result)
    fast, slow, embedded, other = session.targets
    own = session._own_settings
    assert (own[slow].temperature, own[slow].rpm, own[slow].max_tokens, own[slow].resume) == (0.8, 2, None, "auto")
    assert (own[embedded].temperature, own[embedded].rpm) == (0.2, 2)
    assert own[other] == session.settings, "a model's name alone is asked for at the same server"
    assert (fast.finish_reason_optional, slow.finish_reason_optional, embedded.finish_reason_optional) == (
        True,
        False,
        False,
    )
    asked_with = {u.target.model: u.defaults for u in session_upstreams(session)}
    assert {name: p.temperature for name, p in asked_with.items()} == {
        "small": 0.4,
        "large": 0.8,
        EMBEDDED_MODEL: 0.2,
        "other": 0.4,
    }
    assert (asked_with["small"].max_tokens, asked_with["large"].max_tokens) == (40, None)
    guards = Guards(result, session.choice, allow_secrets=False)
    assert (guards.parameters.temperature, guards.parameters.max_tokens) == (None, None), (
        "each upstream fills in its own"
    )
    limits = [u.limiter.statistics().requests_per_minute for u in session_upstreams(session) if u.limiter is not None]
    assert limits == [4, 2, 2, 4]


def session_upstreams(session: Session) -> list[object]:
    from utils.chain import TargetChain

    return list(
        TargetChain(
            session.settings, session.targets, settings_of=session._own_settings, embedded=lambda target: None
        ).upstreams
    )


@pytest.mark.parametrize(
    ("flags", "environ", "profile", "temperature"),
    [
        ({}, {}, "", 0.4),
        ({}, {}, "temperature = 0.6", 0.6),
        ({}, {"KAYGRAPH_TEMPERATURE": "0.7"}, "temperature = 0.6", 0.7),
        ({"temperature": 0.9}, {"KAYGRAPH_TEMPERATURE": "0.7"}, "temperature = 0.6", 0.9),
    ],
)
def test_a_targets_settings_rank_between_the_profile_and_the_top_level(
    config: Path, flags: dict[str, object], environ: dict[str, str], profile: str, temperature: float
) -> None:
    sections = TARGETS.replace("[targets.fast]", "[targets.fast]\ntemperature = 0.4")
    sections = sections.replace("[targets.slow]", "[targets.slow]\ntemperature = 0.4")
    write(config, top={"temperature": 0.2, "profile": "work"}, sections=f"{sections}[profiles.work]\n{profile}\n")
    result = loaded(config, {"model": "fast", "fallback": ("slow",), **flags}, **environ)
    assert result.settings.temperature == temperature
    assert result.fallbacks["slow"].temperature == temperature


# -- keys ------------------------------------------------------------------------------------------------------------

MEANT_FOR = {
    KEYS["fast"]: {server_of(FAST)},
    KEYS["slow"]: {server_of(SLOW), server_of(OPENAI_URL)},  # of the target `paid` too
}
FALLBACKS = st.lists(
    st.sampled_from(
        [
            *("fast", "slow", "open", "paid", "here", "embedded", "other"),
            *(f"m@{url}" for url in (FAST, SLOW, OPEN, TYPED, OPENAI_URL)),
            *(f"n@{url.replace('https', 'http')}" for url in (FAST, SLOW)),
        ]
    ),
    unique=True,
    max_size=4,
)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([None, "fast", "slow", "open", "here", "embedded", "alias"]),
    FALLBACKS,
    st.sampled_from([None, None, None, TYPED, FAST]),
    st.sampled_from(["", KEYS["general"]]),
    st.sampled_from(["", OPEN]),
    st.booleans(),
)
@example("fast", [f"m@{OPENAI_URL}"], None, KEYS["general"], "", True)
@example("fast", ["alias"], None, KEYS["general"], "", True)
@example("fast", ["open", f"m@{OPEN}"], None, KEYS["general"], OPEN, True)
def test_a_key_goes_to_the_server_that_it_is_meant_for_and_nowhere_else(
    config: Path,
    model: str | None,
    fallback: list[str],
    base_url: str | None,
    general: str,
    exported: str,
    has_typed_key: bool,
) -> None:
    write(config)
    flags = {"model": model, "fallback": tuple(fallback), "base_url": base_url}
    flags["api_key"] = KEYS["typed"] if has_typed_key else None
    try:
        result = loaded(config, flags, OPENAI_API_KEY=general, OPENAI_BASE_URL=exported)
        targets = chain(result)
    except AppError as error:
        assert not any(key in f"{error.message}{error.hint}" for key in KEYS.values())
        return
    first = targets[0]
    is_named = base_url is None and model in ("fast", "slow", "open")
    home = server_of(exported or OPENAI_URL)
    meant_for = {
        **MEANT_FOR,
        # What is exported goes with what is typed, as ever, unless a name says otherwise.
        KEYS["general"]: {home}
        if is_named or (model == "here" and base_url is None)
        else {home, server_of(base_url or exported or OPENAI_URL)},
        KEYS["typed"]: {server_of(first.base_url)} if is_named else {server_of(base_url or exported or OPENAI_URL)},
    }
    for target in targets:
        if target.is_embedded:
            assert target.api_key is None
        else:
            assert target.api_key is None or server_of(target.base_url) in meant_for[target.api_key], target
    if base_url is None and model in ("fast", "slow") and not has_typed_key:
        assert first.api_key == KEYS[model]


@pytest.mark.parametrize(
    ("flags", "has_key", "told"),
    [
        ({}, True, None),
        ({"base_url": FAST}, True, None),
        ({"base_url": f"{FAST}/other"}, True, None),
        ({"base_url": TYPED}, False, f"api_key is meant for {FAST}, so {TYPED} is asked without it"),
        ({"base_url": TYPED, "api_key": KEYS["typed"]}, True, None),
        ({"profile": "elsewhere"}, False, f"api_key is meant for {FAST}, so {SLOW} is asked without it"),
    ],
)
def test_a_key_beside_a_base_url_in_the_file_is_meant_for_that(
    config: Path, flags: dict[str, object], has_key: bool, told: str | None
) -> None:
    profile = f'[profiles.elsewhere]\nbase_url = "{SLOW}"\n'
    write(config, top={"base_url": FAST, "api_key": KEYS["fast"]}, sections=profile)
    result = loaded(config, flags)
    assert (asked(result).api_key is not None) is has_key
    assert result.warnings == ((f"{config}: {told}",) if told else ())


def test_a_key_in_a_table_is_used_if_nobody_else_can_read_it(config: Path) -> None:
    sections = f'[targets.a]\nbase_url = "{FAST}"\napi_key = "{KEYS["fast"]}"\n'
    assert asked(loaded(write(config, sections=sections), {"model": "a"})).api_key == KEYS["fast"]
    sections += f'[profiles.p]\napi_key = "{KEYS["slow"]}"\n'
    assert asked(loaded(write(config, sections=sections), {"profile": "p"})).api_key == KEYS["slow"]
    with pytest.raises(ConfigError, match=r"holds api_key, but other users may read the file \(mode 0640\)") as caught:
        loaded(write(config, sections=sections, mode=0o640))
    assert "key_env" in caught.value.hint


def test_every_known_key_is_a_secret_of_the_run(config: Path) -> None:
    sections = f'{TARGETS}[targets.z]\nmodel = "z"\napi_key = "zzz-key-0123456789"\n'
    result = loaded(write(config, sections=sections), {"model": "embedded"}, OPENAI_API_KEY=KEYS["general"])
    assert {*result.secrets} == {KEYS["fast"], KEYS["slow"], KEYS["general"], "zzz-key-0123456789"}
    assert not any(key in repr(result) for key in result.secrets)
    assert {*result.secrets} <= {*Session(result).own_keys}


@pytest.mark.parametrize("name", ["model", "fallback"])
def test_a_targets_key_in_the_place_of_a_name_is_refused(config: Path, name: str) -> None:
    value = KEYS["fast"] if name == "model" else (KEYS["fast"],)
    with pytest.raises(UsageProblem, match="holds the API key") as caught:
        loaded(write(config), {name: value})
    assert KEYS["fast"] not in caught.value.message + caught.value.hint


# -- errors ----------------------------------------------------------------------------------------------------------

PROFILES = "[profiles.work]\nseed = 1\n[profiles.home]\nseed = 2\n"


@pytest.mark.parametrize(
    ("flags", "environ", "top", "sections", "exit_code", "message", "hint"),
    [
        (
            {"profile": "wrok"},
            {},
            {},
            PROFILES,
            2,
            "--profile names the profile 'wrok', which {file} does not have",
            "did you mean work? it has work, home",
        ),
        (
            {},
            {"KAYGRAPH_PROFILE": "x"},
            {},
            PROFILES,
            78,
            "environment variable KAYGRAPH_PROFILE names the profile 'x', which {file} does not have",
            "it has work, home",
        ),
        (
            {},
            {},
            {"profile": "work"},
            "",
            78,
            "{file}: profile names the profile 'work', which {file} does not have",
            "it has no [profiles.NAME]",
        ),
        ({}, {}, {"profile": 5}, PROFILES, 78, "{file}: profile must be the name of a profile, not 5", None),
        ({"profile": ""}, {}, {}, PROFILES, 2, "--profile must be the name of a profile, not ''", ""),
        (
            {},
            {},
            {"target": "fats"},
            TARGETS,
            78,
            "{file}: target names the target 'fats', which {file} does not have",
            "did you mean fast? it has fast, slow, open, alias, paid, here",
        ),
        (
            {"profile": "p"},
            {},
            {},
            "[profiles.p]\ntarget = 'x'\n",
            78,
            "{file}: profiles.p: target names the target 'x', which {file} does not have",
            "it has no [targets.NAME]",
        ),
        ({}, {}, {"target": 5}, TARGETS, 78, "{file}: target must be the name of a target, not 5", None),
        (
            {},
            {},
            {"target": "fast", "base_url": OPEN},
            TARGETS,
            78,
            "{file}: target names a target, and {file}: base_url another one",
            "drop one of them; a server with a name of its own is a [targets.NAME]",
        ),
        (
            {"profile": "p"},
            {},
            {},
            f"{TARGETS}[profiles.p]\nmodel = 'fast'\ngguf = 'q.gguf'\n",
            78,
            "{file}: profiles.p: model names a target, and {file}: profiles.p: gguf another one",
            "drop one of them; a server with a name of its own is a [targets.NAME]",
        ),
        (
            {},
            {},
            {"target": "fast", "model": "slow"},
            TARGETS,
            78,
            "{file}: target and {file}: model name two targets",
            "drop one of them",
        ),
        (
            {"model": "fast"},
            {"FAST_KEY": " "},
            {},
            TARGETS,
            78,
            "{file}: targets.fast: key_env names the variable FAST_KEY, which is not set",
            "export FAST_KEY with the key of this server, or drop key_env if it needs none",
        ),
        (
            {"model": "open", "fallback": ("slow",)},
            {"SLOW_KEY": ""},
            {},
            TARGETS,
            78,
            "{file}: targets.slow: key_env names the variable SLOW_KEY, which is not set",
            "export SLOW_KEY with the key of this server, or drop key_env if it needs none",
        ),
        (
            {"profile": "p"},
            {},
            {},
            "[profiles.p]\ntemperature = 'hot'\n",
            78,
            "{file}: profiles.p: temperature must be a number from 0 to 2, not 'hot'",
            "correct the file, or override the value with a flag",
        ),
        (
            {"model": "t"},
            {},
            {},
            "[targets.t]\nbase_url = 'localhost:80'\n",
            78,
            "{file}: targets.t: base_url must start with http:// or https://: 'localhost:80'",
            "did you mean http://localhost:80?",
        ),
        (
            {"fallback": ("t",)},
            {},
            {},
            "[targets.t]\ngguf = 'none.gguf'\n",
            78,
            "{file}: targets.t: gguf: '{dir}/none.gguf' does not exist",
            "name a GGUF file",
        ),
        (
            {"model": "t"},
            {},
            {},
            "[targets.t]\nmodel = 'm'\nrpm = 0\n",
            78,
            "{file}: targets.t: rpm must be a whole number from 1 to 2147483647, not 0",
            None,
        ),
    ],
)
def test_what_a_name_cannot_stand_for_is_told(
    config: Path,
    flags: dict[str, object],
    environ: dict[str, str],
    top: dict[str, object],
    sections: str,
    exit_code: int,
    message: str,
    hint: str | None,
) -> None:
    with pytest.raises(AppError) as caught:
        loaded(write(config, top=top, sections=sections), flags, **environ)
    error = caught.value
    assert error.message == message.replace("{file}", str(config)).replace("{dir}", str(config.parent))
    assert error.exit_code == exit_code
    assert hint is None or error.hint == hint


def test_a_profile_without_any_file_says_how_to_make_one() -> None:
    with pytest.raises(UsageProblem) as caught:
        load({"profile": "work"}, environ={"HOME": "/nowhere"})
    assert caught.value.message == "--profile names the profile 'work', but there is no settings file"
    assert caught.value.hint == (
        "`python main.py config init` writes one (it would be /nowhere/.config/kaygraph-streaming-llm/config.toml)"
    )


ONLY = "a target has base_url, model, key_env, api_key, gguf, temperature, max_tokens, context_tokens"
OTHER_NAME = "choose another one, of letters, digits and . _ : + / -"


@pytest.mark.parametrize(
    ("sections", "message", "hint"),
    [
        ("[target.x]\nmodel = 'm'", "unknown section [target]", "did you mean"),
        ("[profile.x]\nseed = 1", "unknown section [profile]", "did you mean [profiles.NAME]?"),
        ("targets = 5", "targets is no section with a name", "write [targets.NAME], and below it"),
        ("[[profiles]]\nseed = 1", "profiles is no section with a name", "write [profiles.NAME]"),
        ("[targets]\nfast = 'x'", "[targets.fast] is no section", "write [targets.NAME]"),
        ("[targets.x]\nseed = 1", "unknown setting 'seed' in [targets.x]", ONLY),
        ("[targets.x]\nmodle = 'm'", "unknown setting 'modle' in [targets.x]", "did you mean model?"),
        ("[profiles.x]\nsede = 1", "unknown setting 'sede' in [profiles.x]", "did you mean seed?"),
        ("[profiles.x]\nprofile = 'y'", "unknown setting 'profile' in [profiles.x]", "a profile names no other"),
        ("[targets.llama3.2]\nmodel = 'm'", "unknown section [targets.llama3.2]", 'in quotes: [targets."llama3.2"]'),
        ("[targets.x]", "[targets.x] names nothing to ask", "give it a model, a base_url, or both; or a gguf file"),
        ("[targets.x]\nrpm = 5", "[targets.x] names nothing to ask", "give it a model"),
        ("[targets.x]\ngguf = 'x'\nmodel = 'm'", "[targets.x]: gguf and model exclude each other", "drop one of them"),
        ("[targets.x]\ngguf = 'x'\nkey_env = 'K'", "[targets.x]: gguf and key_env exclude each other", "drop one"),
        (
            "[targets.x]\nmodel = 'm'\nkey_env = 'K'\napi_key = 'k'",
            "[targets.x]: key_env and api_key exclude each other",
            "drop one of them",
        ),
        ("[targets.embedded]\nmodel = 'm'", "[targets.embedded] has a name that means something else", OTHER_NAME),
        ("[profiles.none]\nseed = 1", "[profiles.none] has a name that means something else", OTHER_NAME),
        ("[targets.'a b']\nmodel = 'm'", "[targets.a b] has an unusable name", OTHER_NAME),
        ("[targets.'m@http://h']\nmodel = 'm'", "[targets.m@http://h] has an unusable name", OTHER_NAME),
        ("[targets.'http://h']\nmodel = 'm'", "[targets.http://h] has an unusable name", OTHER_NAME),
        ("[profiles.'']\nseed = 1", "[profiles.] has an unusable name", OTHER_NAME),
    ],
)
def test_a_section_that_cannot_be_used_is_an_error_even_if_it_does_not_count(
    config: Path, sections: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(write(config, sections=sections))
    assert caught.value.message == f"{config}: {message}"
    assert hint in caught.value.hint
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("written", ["sk-proj-0123456789abcdef", "hf_0123456789abcdef", "0" * 40, "a b", "", 5])
def test_a_key_in_the_place_of_its_variable_is_not_shown(config: Path, written: object) -> None:
    sections = f"[targets.x]\nmodel = 'm'\nkey_env = {json.dumps(written)}\n"
    with pytest.raises(ConfigError) as caught:
        loaded(write(config, sections=sections))
    assert caught.value.message == f"{config}: [targets.x]: key_env must be the name of an environment variable"
    assert not written or str(written) not in caught.value.hint


def test_a_model_that_nobody_can_be_asked_for_may_have_been_meant_as_a_target(config: Path) -> None:
    write(config)
    [warning] = loaded(config, {"model": "fsat"}).warnings
    assert warning == "--model names no target; did you mean fast? there are fast, slow, open, alias, paid, here"
    for flags in ({"model": "gpt-4"}, {"model": "fsat", "base_url": TYPED}, {"model": "fsat", "api_key": "k" * 12}):
        assert loaded(config, flags).warnings == ()
    with pytest.raises(ConfigError) as caught:
        chain(loaded(config, {"fallback": ("fsat",)}))
    assert caught.value.hint == "did you mean the target fast?"


# -- fallbacks -------------------------------------------------------------------------------------------------------


def test_names_and_other_forms_stand_in_one_chain(config: Path) -> None:
    flags = {"model": "fast", "fallback": ("other", "slow", f"m@{TYPED}", "here", "embedded", "alias")}
    targets = chain(loaded(write(config), flags, OPENAI_API_KEY=KEYS["general"]))
    assert [(t.base_url, t.model, t.api_key) for t in targets] == [
        (FAST, "small", KEYS["fast"]),
        (FAST, "other", KEYS["fast"]),
        (SLOW, "large", KEYS["slow"]),
        (TYPED, "m", None),
        (EMBEDDED, "q", None),
        (EMBEDDED, EMBEDDED_MODEL, None),
        (OPENAI_URL, "gpt-4o", KEYS["general"]),
    ]


def test_each_local_target_runs_its_own_file(config: Path) -> None:
    (config.parent / "r.gguf").write_bytes(b"GGUF")
    write(config, sections=f"{TARGETS}[targets.there]\ngguf = 'r.gguf'\n")
    session = Session(loaded(config, {"model": "here", "fallback": ("there", "embedded")}))
    assert [session._ggufs[target] for target in session.targets] == [
        config.parent / "q.gguf",
        config.parent / "r.gguf",
        None,
    ]


def test_a_target_behind_one_at_the_same_server_is_asked_with_that_key(config: Path) -> None:
    write(config, sections=f'{TARGETS}[targets.big]\nbase_url = "{FAST}"\nmodel = "big"\n')
    _, big = chain(loaded(config, {"model": "fast", "fallback": ("big",)}))
    assert (big.model, big.api_key) == ("big", KEYS["fast"])


def test_a_target_that_lacks_a_key_is_an_error_behind_one_that_works(config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        chain(loaded(write(config), {"model": "fast", "fallback": ("alias",)}))
    assert caught.value.message == "--fallback names alias, which needs an API key, and none is set"
