"""The settings of the exporters: what is allowed, and that no message shows a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.exporters.records import whole_run
from utils.errors import AppError, ConfigError, UsageProblem
from utils.exporters.prometheus import write_textfile
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
    environ = {"KAYGRAPH_OTEL": "https://c.example/v1/traces", "KAYGRAPH_PROMETHEUS": str(tmp_path / "x.prom")}
    settings = load({}, environ=environ).settings
    assert (settings.otel, settings.prometheus) == ("https://c.example", tmp_path / "x.prom")
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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("LICENSE", "its name does not end in .prom"),
        ("none/run.prom", "there is no directory"),
        ("other.prom", "it is there and is no file of such figures"),
        ("pipe.prom", "it is not a regular file"),
    ],
)
def test_figures_that_cannot_be_written_are_told_before_the_run(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "LICENSE").write_text("mine")
    (tmp_path / "other.prom").write_text("# HELP node_disk_io_now\n")
    os.mkfifo(tmp_path / "pipe.prom")
    place = str(tmp_path / name)
    told = f": {place!r} cannot be written: {reason}"
    with pytest.raises(UsageProblem) as typed:
        load({"prometheus": place}, environ={})
    assert typed.value.message.startswith(f"--prometheus{told}")
    assert typed.value.hint == "name a new file, such as run.prom, or an earlier one of these"
    with pytest.raises(ConfigError) as configured:
        load({}, environ={"KAYGRAPH_PROMETHEUS": place})
    assert f"KAYGRAPH_PROMETHEUS{told}" in configured.value.message


def test_figures_of_an_earlier_run_may_be_replaced(tmp_path: Path) -> None:
    write_textfile(whole_run(), tmp_path / "run.prom")
    assert load({"prometheus": str(tmp_path / "run.prom")}, environ={}).settings.prometheus == tmp_path / "run.prom"


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
