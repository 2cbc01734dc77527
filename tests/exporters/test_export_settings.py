"""The settings of the exporters: what is allowed, and that no message shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.errors import AppError, ConfigError, UsageProblem
from utils.exporters.semconv import INSTRUMENTS, generation_in
from utils.settings import load

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_flags_variables_and_the_file(tmp_path: Path) -> None:
    flags = {"otel": "http://localhost:4318/", "otel_semconv": "latest", "prometheus": "run.prom"}
    settings = load(flags, environ={}).settings
    assert (settings.otel, settings.otel_semconv, settings.prometheus) == (
        "http://localhost:4318",
        "latest",
        Path("run.prom"),
    )
    environ = {"KAYGRAPH_OTEL": "https://c.example/v1/traces", "KAYGRAPH_PROMETHEUS": "/var/lib/x.prom"}
    settings = load({}, environ=environ).settings
    assert (settings.otel, settings.prometheus) == ("https://c.example", Path("/var/lib/x.prom"))
    path = tmp_path / "config.toml"
    path.write_text('otel = "http://c:4318"\notel_semconv = "current"\nprometheus = "run.prom"\n')
    settings = load({}, environ={}, config_file=path).settings
    # A path in the file is relative to the file.
    assert settings.prometheus == tmp_path / "run.prom"


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://c", "http://", "http://c?x=1", ""])
def test_what_is_no_url_is_told_with_an_example(url: str) -> None:
    with pytest.raises(UsageProblem, match=r"--otel must") as caught:
        load({"otel": url}, environ={})
    assert "4318" in caught.value.hint
    assert "chat/completions" not in f"{caught.value.message} {caught.value.hint}"


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, environ={"KAYGRAPH_OTEL": "https://me:hunter2@c.example"})
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"
    assert "OTEL_EXPORTER_OTLP_HEADERS" in caught.value.hint


def test_a_set_of_names_that_does_not_exist() -> None:
    with pytest.raises(AppError, match="otel-semconv must be current or latest"):
        load({"otel_semconv": "next"}, environ={})


def test_the_variable_may_hold_several_words() -> None:
    assert generation_in({}) == "current"
    assert generation_in({"OTEL_SEMCONV_STABILITY_OPT_IN": "http,database"}) == "current"
    assert generation_in({"OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental"}) == "latest"


def test_the_page_has_the_table_of_names() -> None:
    for row in INSTRUMENTS:
        names = [f"`{name}`" if name else "-" for name in (row.current, row.latest)]
        assert f"| {names[0]} | {names[1]} | {row.kind} | {row.unit} |" in PAGE
