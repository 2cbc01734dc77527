"""Who is asked when the first target fails, for every form of a name, and where the key goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import AppError, ConfigError, UsageProblem
from utils.fallbacks import fallbacks_of
from utils.run_context import EMBEDDED, Target
from utils.settings import Loaded, Settings
from utils.settings_sources import model_and_url
from utils.targets import EMBEDDED_MODEL, OPENAI_URL, choose_target

KEY = "sk-0123456789abcdef"
URL = "http://localhost:8080/v1"
OTHER = "https://other.test/v1"
FLAG, ENVIRONMENT, FILE = "flag --fallback", "environment KAYGRAPH_FALLBACK", "file /x.toml"
PLACES = {FLAG: "--fallback", ENVIRONMENT: "environment variable KAYGRAPH_FALLBACK", FILE: "/x.toml: fallback"}
SERVER_HINT = "write the whole URL, such as http://localhost:8080/v1 or MODEL@http://localhost:8080/v1"


def chain(
    *names: str, origin: str = FLAG, origins: dict[str, str] | None = None, **values: object
) -> tuple[Target, ...]:
    chosen = Settings.model_validate({**values, "fallback": names})
    where = {**dict.fromkeys(values, "flag --x"), "fallback": origin, **(origins or {})}
    loaded = Loaded(chosen, where, (), None)
    return tuple(fallback.target for fallback in fallbacks_of(loaded, choose_target(chosen, origins=where)))


def refused(*names: str, origin: str = FLAG, **values: object) -> AppError:
    with pytest.raises(AppError) as caught:
        chain(*names, origin=origin, **values)
    return caught.value


def places(targets: tuple[Target, ...]) -> list[tuple[str, str]]:
    return [(target.base_url, target.model) for target in targets]


@pytest.mark.parametrize(
    ("values", "name", "base_url", "model"),
    [
        ({"base_url": URL}, "embedded", EMBEDDED, EMBEDDED_MODEL),
        ({"base_url": URL}, "Embedded", EMBEDDED, EMBEDDED_MODEL),
        ({"base_url": URL}, "SmolLM2-135M-Instruct", EMBEDDED, EMBEDDED_MODEL),
        ({"gguf": Path("/m/q.gguf")}, "embedded", EMBEDDED, EMBEDDED_MODEL),
        ({"base_url": URL}, "m", URL, "m"),
        ({"base_url": URL, "model": "n"}, "m", URL, "m"),
        ({"base_url": URL}, "llama3:8b", URL, "llama3:8b"),
        ({"base_url": URL}, "@cf/meta/llama-3-8b", URL, "@cf/meta/llama-3-8b"),
        ({"base_url": URL}, "claude@20990101", URL, "claude@20990101"),
        ({"api_key": KEY}, "gpt-4", OPENAI_URL, "gpt-4"),
        ({"model": "embedded", "base_url": URL}, "m", URL, "m"),
        ({"model": "embedded", "api_key": KEY}, "gpt-4", OPENAI_URL, "gpt-4"),
        ({"gguf": Path("/m/q.gguf"), "api_key": KEY}, "gpt-4", OPENAI_URL, "gpt-4"),
        ({}, OTHER, OTHER, ""),
        ({}, "HTTPS://other.test/v1//", "HTTPS://other.test/v1", ""),
        ({}, f"m@{OTHER}", OTHER, "m"),
        ({}, f"m @ {OTHER}/", OTHER, "m"),
        ({}, f"a@b@{OTHER}", OTHER, "a@b"),
        ({}, f"meta/llama@2:8b@{OTHER}", OTHER, "meta/llama@2:8b"),
        ({}, f"embedded@{OTHER}", OTHER, "embedded"),
        ({"base_url": URL}, f"m@{URL}", URL, "m"),
    ],
)
def test_a_name_is_a_model_a_server_or_both(values: dict[str, object], name: str, base_url: str, model: str) -> None:
    overruled = {"base_url": "environment OPENAI_BASE_URL"} if values.get("model") == "embedded" else {}
    assert places(chain(name, origins=overruled, **values)) == [(base_url, model)]


def test_the_order_is_kept() -> None:
    targets = chain("b", OTHER, "embedded", f"b@{OTHER}", model="a", base_url=URL)
    assert places(targets) == [(URL, "b"), (OTHER, ""), (EMBEDDED, EMBEDDED_MODEL), (OTHER, "b")]
    assert chain() == ()


@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [
        ("m@ftp://h", " must start with http:// or https://, not ftp://: 'm@ftp://h'", "for example " + URL),
        (
            f"m@http://me:{KEY}@h",
            " must not contain a user name or password: 'm@http://…@h'",
            "give the key with OPENAI_API_KEY or --api-key",
        ),
        (
            f"http://h/?key={KEY}",
            " must not contain a query (?) or fragment (#): 'http://h/?…'",
            "give only the part before /chat/completions",
        ),
        ("http://", " must name a host (and a port from 1 to 65535, if any): 'http://'", "for example " + URL),
        (
            "https://h/v1/chat/completions",
            " must end before /chat/completions: 'https://h/v1/chat/completions'",
            "for example https://h/v1",
        ),
        ("@http://h", " names no model before the @: 'http://h'", "write MODEL@URL, or the URL alone"),
        ("localhost:8080/v1", " names a server without its scheme: 'localhost:8080/v1'", SERVER_HINT),
        ("m@localhost", " names a server without its scheme: 'm@localhost'", SERVER_HINT),
        ("m@127.0.0.1:11434", " names a server without its scheme: 'm@127.0.0.1:11434'", SERVER_HINT),
        ("m@[::1]:80", " names a server without its scheme: 'm@[::1]:80'", SERVER_HINT),
        ("m@gpu:8000/v1", " names a server without its scheme: 'm@gpu:8000/v1'", SERVER_HINT),
    ],
)
@pytest.mark.parametrize("origin", PLACES)
def test_a_name_that_is_no_target_says_what_is_wrong_with_it(name: str, reason: str, hint: str, origin: str) -> None:
    error = refused(name, origin=origin, api_key=KEY)
    assert type(error) is (UsageProblem if origin == FLAG else ConfigError)
    assert (error.message, error.hint) == (PLACES[origin] + reason, hint)
    assert KEY not in repr(error) + error.hint + repr(error.__cause__)


# -- the key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "name", "has_key"),
    [
        ({"base_url": URL}, "m", True),
        ({"base_url": URL}, "http://localhost:8080/other", True),
        ({"base_url": URL}, "m@HTTP://LOCALHOST:8080/v1", True),
        ({"base_url": URL}, "https://localhost:8080/v1", False),
        ({"base_url": URL}, "http://localhost:8081/v1", False),
        ({"base_url": URL}, "http://localhost/v1", False),
        ({"base_url": URL}, "http://127.0.0.1:8080/v1", False),
        ({"base_url": URL}, f"m@{OPENAI_URL}", False),
        ({"base_url": "http://h/v1"}, "http://h:80/v2", True),
        ({"base_url": "https://h:443"}, "https://h/v2", True),
        ({"base_url": "https://h"}, "https://h.", False),
        ({"base_url": "https://h"}, "https://h.test", False),
        ({"base_url": "https://bücher.test"}, "https://bücher.test/v1", True),
        ({"base_url": "https://k.test"}, "https://\u212a.test", False),
        ({}, "gpt-4", True),
        ({}, f"gpt-4@{OPENAI_URL}", True),
        ({}, "https://api.openai.com:443/v2", True),
        ({}, "http://api.openai.com/v1", False),
        ({}, f"gpt-4@{OTHER}", False),
        ({}, "embedded", False),
        ({"gguf": Path("/m/q.gguf")}, "gpt-4", True),
        ({"model": "embedded"}, "gpt-4", True),
        ({"model": "embedded"}, OTHER, False),
        # The key goes with the server that was configured beside it, even if another target is first this time.
        ({"model": "embedded", "base_url": URL}, "m", True),
        ({"model": "embedded", "base_url": URL}, URL, True),
        ({"model": "embedded", "base_url": URL}, f"m@{OPENAI_URL}", False),
    ],
)
def test_the_key_goes_nowhere_else(values: dict[str, object], name: str, has_key: bool) -> None:
    overruled = {"base_url": "environment OPENAI_BASE_URL"} if values.get("model") == "embedded" else {}
    [target] = chain(name, origins=overruled, api_key=KEY, **values)
    assert target.api_key == (KEY if has_key else None)
    assert KEY not in repr(target)


def _spelled(scheme: str, host: str, port: str, path: str) -> str:
    return f"{scheme}://{host}{port}{path}"


URLS = st.builds(
    _spelled,
    st.sampled_from(["http", "https", "HTTPS"]),
    st.sampled_from(["a.test", "A.test", "b.test", "a.test.", "[::1]", "xa.test", "a.testb"]),
    st.sampled_from(["", ":80", ":443", ":8080"]),
    st.sampled_from(["", "/v1", "/v2/"]),
)


def _where(url: str) -> tuple[str, str, str]:
    """Scheme, host and port, taken apart by hand."""
    scheme, _, rest = url.lower().partition("://")
    netloc = rest.partition("/")[0]
    host, colon, port = netloc.rpartition(":")
    if not colon or "]" in port:
        host, port = netloc, {"http": "80", "https": "443"}[scheme]
    return scheme, host, port


@settings(deadline=None)
@given(URLS, URLS)
def test_a_key_never_travels_to_another_scheme_host_or_port(base_url: str, other: str) -> None:
    [target] = chain(f"another@{other}", base_url=base_url, api_key=KEY)
    assert target.api_key == (KEY if _where(base_url) == _where(other) else None)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40), st.sampled_from(["", OTHER, "http://h"])
)
def test_every_name_is_a_target_or_an_error_without_the_key(model: str, url: str) -> None:
    name = f"{model}@{url}" if url else model
    if not name.strip():
        return
    try:
        targets = chain(name, base_url=URL, api_key=KEY)
    except AppError as error:
        assert KEY not in error.message + error.hint
        return
    for target in targets:
        assert target.base_url in (URL, OTHER, "http://h", EMBEDDED) or "://" in model
        assert target.api_key is None or target.base_url == URL


@settings(deadline=None)
@given(st.text(max_size=30), st.sampled_from(["http", "https"]), st.text(max_size=30))
def test_the_last_at_before_the_scheme_separates(model: str, scheme: str, rest: str) -> None:
    if "://" not in model:
        assert model_and_url(f"{model}@{scheme}://{rest}") == (model.strip(), f"{scheme}://{rest.strip()}")


# -- no key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", PLACES)
@pytest.mark.parametrize(
    "values", [{}, {"model": "embedded"}, {"gguf": Path("/m/q.gguf")}, {"gguf": Path("/m/q.gguf"), "model": "gpt-4"}]
)
def test_a_model_without_its_key_is_an_error_with_a_way_out(values: dict[str, object], origin: str) -> None:
    error = refused(OTHER, "gpt-4o", origin=origin, **values)
    assert type(error) is ConfigError
    assert error.message == f"{PLACES[origin]} names gpt-4o, which needs an API key, and none is set"
    assert error.hint == "set OPENAI_API_KEY, name its server as MODEL@URL, or drop it"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("gpt-4o",), []),
        (("embedded",), []),
        (("gpt-4o", "embedded", OTHER), [(OTHER, "")]),
        (("gpt-4o", f"m@{OTHER}"), [(OTHER, "m")]),
        ((f"gpt-4o@{OPENAI_URL}",), [(OPENAI_URL, "gpt-4o")]),
    ],
)
def test_where_the_embedded_model_stands_in_for_a_missing_key_what_lacks_it_too_is_left_out(
    names: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert places(chain(*names, model="gpt-4")) == expected


# -- duplicates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "names", "told"),
    [
        ({"base_url": URL}, ("a", "b", "a"), f"names a at {URL} twice"),
        ({"base_url": URL}, ("a", f"a@{URL}/"), f"names a at {URL} twice"),
        ({"base_url": URL}, ("embedded", "SMOLLM2-135m-instruct"), "names smollm2-135m-instruct (embedded) twice"),
        ({"base_url": URL}, ("https://H:443/v1", "https://h/v1"), "names https://h/v1 twice"),
        # Also where both would be left out.
        ({"model": "gpt-4"}, ("gpt-4o", "gpt-4o"), f"names gpt-4o at {OPENAI_URL} twice"),
        ({"model": "gpt-4"}, ("embedded", "embedded"), "names smollm2-135m-instruct (embedded) twice"),
    ],
)
@pytest.mark.parametrize("origin", PLACES)
def test_a_target_stands_in_the_chain_once(
    values: dict[str, object], names: tuple[str, ...], told: str, origin: str
) -> None:
    error = refused(*names, origin=origin, **values)
    assert type(error) is (UsageProblem if origin == FLAG else ConfigError)
    assert error.message == f"{PLACES[origin]} {told}"
    assert error.hint == "drop one of them"


@pytest.mark.parametrize(
    ("values", "name", "told"),
    [
        ({"base_url": URL, "model": "a"}, "a", f"a at {URL}"),
        ({"base_url": URL}, "HTTP://LocalHost:8080/v1/", "HTTP://LocalHost:8080/v1"),
        ({"model": "embedded"}, "embedded", "smollm2-135m-instruct (embedded)"),
        ({}, "embedded", "smollm2-135m-instruct (embedded)"),
        ({"api_key": KEY}, "gpt-4o-mini", f"gpt-4o-mini at {OPENAI_URL}"),
    ],
)
def test_the_first_target_behind_itself_is_an_error_if_typed_and_left_out_if_configured(
    values: dict[str, object], name: str, told: str
) -> None:
    error = refused(name, origin=FLAG, **values)
    assert isinstance(error, UsageProblem)
    assert error.message == f"--fallback names {told}, which is asked first"
    assert error.hint == "drop it, or name another one"
    for origin in PLACES:
        if origin != FLAG:
            assert chain(name, origin=origin, **values) == ()


def test_another_model_or_path_or_port_is_another_target() -> None:
    names = ("A", URL, "a@http://localhost:8080/v2", "a@http://localhost:8081/v1", "a@https://localhost:8080/v1")
    assert len(chain(*names, model="a", base_url=URL)) == len(names)


# -- what a target is like -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "is_deterministic"),
    [({}, False), ({"temperature": 0.7}, False), ({"temperature": 0}, True), ({"seed": 0}, True)],
)
def test_servers_behind_the_first_are_judged_as_the_first_is(values: dict[str, object], is_deterministic: bool) -> None:
    server, ours = chain(OTHER, "embedded", base_url=URL, finish_reason_optional=True, **values)
    assert server.is_deterministic is is_deterministic
    assert ours.is_deterministic
    assert server.finish_reason_optional
    assert ours.finish_reason_optional
