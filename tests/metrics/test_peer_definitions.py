"""What other tools report of a stream: computed by hand, by the module, and as it stands on the page."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs.test_readme import run_options
from utils.events import Finished, Opened, TextDelta, Usage
from utils.metrics.definitions import DEFINITIONS
from utils.metrics.peer_definitions import (
    EXAMPLE,
    FORMULAS,
    TOOLS,
    Chunk,
    Figures,
    all_figures,
    figures_table,
    formulas_table,
    stream_table,
)
from utils.metrics.recorder import Recorder

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def values(figures: Figures) -> list[float | None]:
    return [
        *(figures.ttft_s, figures.gap_s, figures.per_token_s, figures.with_first_s),
        *(figures.tokens_per_s, figures.e2e_s),
    ]


# The stream of the page by hand. Instants in hundredths of a second:
#   12 role | 30 34 38 138 142 146 text, 1+3+2+1+4+1 = 12 tokens | 150 finish_reason | 154 usage | 158 [DONE]
BY_HAND: dict[str, list[Fraction | None]] = {
    # Text to text: (4 + 4 + 100 + 4 + 4) / 5; 116 hundredths for the 11 tokens after the first.
    "ours": [Fraction(30), Fraction(116, 5), Fraction(116, 11), None, Fraction(1100, 116), Fraction(158)],
    # With choices: 18 4 4 100 4 4 4 = 138 in 7 gaps; 150 - 12 = 138 for 11 tokens; 12 tokens in 150.
    "vLLM": [Fraction(12), Fraction(138, 7), Fraction(138, 11), None, Fraction(1200, 150), Fraction(150)],
    # Content only: the last one is at 146.
    "aiperf": [Fraction(30), Fraction(116, 5), Fraction(116, 11), None, Fraction(1100, 116), Fraction(146)],
    # 146 / 12 with the first token; 12 tokens in 158.
    "guidellm": [Fraction(30), None, Fraction(116, 11), Fraction(146, 12), Fraction(1200, 158), Fraction(158)],
    # The wait of 30 is the first of 6 gaps: 146 / 6; 8 lines (without usage) in 158.
    "llmperf": [Fraction(30), Fraction(146, 6), None, None, Fraction(800, 158), Fraction(158)],
    # Chunks of any kind: 12 to 154 in 8 gaps.
    "OpenTelemetry": [Fraction(12), Fraction(142, 8), None, None, None, Fraction(158)],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_stream_of_the_page_by_hand(tool: str) -> None:
    expected = [None if value is None else float(value) for value in BY_HAND[tool]]
    for place in (0, 1, 2, 3, 5):
        if (hundredths := expected[place]) is not None:
            expected[place] = hundredths / 100
    assert values(all_figures(EXAMPLE)[tool]) == pytest.approx(expected)  # type: ignore[index]


def recorded(stream: tuple[Chunk, ...], tokens: int) -> Recorder:
    """The stream as a run of ours has it: a first data event, texts, usage, the end."""
    recorder = Recorder(0.0)
    recorder.handle(Opened("t", "m", 1), stream[0].at_s)
    for chunk in stream:
        match chunk.kind:
            case "text":
                recorder.handle(TextDelta("word " * max(1, chunk.tokens)), chunk.at_s)
            case "usage":
                recorder.handle(Usage(9, tokens, tokens + 9), chunk.at_s)
            case "end":
                recorder.handle(Finished("stop"), chunk.at_s)
            case "empty":
                pass
    return recorder


def streams() -> st.SearchStrategy[tuple[Chunk, ...]]:
    """A first chunk of any kind, text after it, usage and end."""
    middle = st.lists(
        st.tuples(st.sampled_from(["text", "empty"]), st.integers(1, 5), st.integers(0, 500)), max_size=30
    )

    def made(first_ms: int, parts: list[tuple[str, int, int]]) -> tuple[Chunk, ...]:
        now, chunks = first_ms / 1e3, [Chunk(first_ms / 1e3, "empty")]
        for kind, tokens, gap_ms in parts:
            now += gap_ms / 1e3
            chunks.append(Chunk(now, kind, tokens if kind == "text" else 0))  # type: ignore[arg-type]
        return (*chunks, Chunk(now + 0.01, "usage"), Chunk(now + 0.02, "end"))

    return st.builds(made, st.integers(1, 1000), middle)


@given(streams())
def test_our_row_is_what_the_recorder_says(stream: tuple[Chunk, ...]) -> None:
    tokens = sum(chunk.tokens for chunk in stream)
    ours = all_figures(stream)["ours"]
    metrics = recorded(stream, tokens).metrics(stream[-1].at_s)
    assert ours.ttft_s == metrics["ttft_s"]
    assert ours.gap_s == pytest.approx(metrics["inter_chunk_latency_s"]["mean"])
    assert ours.e2e_s == metrics["e2e_s"]
    assert ours.per_token_s == pytest.approx(metrics["tpot_s"])
    assert ours.tokens_per_s == pytest.approx(metrics["tokens_per_s"])


@given(streams())
def test_how_the_definitions_lie_to_each_other(stream: tuple[Chunk, ...]) -> None:
    figures = all_figures(stream)
    assert figures["OpenTelemetry"].ttft_s == figures["vLLM"].ttft_s == stream[0].at_s
    assert figures["ours"].ttft_s == figures["aiperf"].ttft_s == figures["guidellm"].ttft_s == figures["llmperf"].ttft_s
    lasting = [figures[tool].e2e_s for tool in ("aiperf", "vLLM", "guidellm")]  # type: ignore[index]
    known = [value for value in lasting if value is not None]
    assert known == sorted(known)


def test_a_stream_that_was_cut_has_no_usage_and_no_end() -> None:
    cut = EXAMPLE[:4]
    figures = all_figures(cut)
    assert figures["ours"] == Figures(
        0.30, pytest.approx(0.04), pytest.approx(0.08 / 5), None, pytest.approx(62.5), 0.38
    )
    assert (figures["vLLM"].e2e_s, figures["OpenTelemetry"].e2e_s, figures["llmperf"].e2e_s) == (0.38, 0.38, 0.38)
    assert figures["llmperf"].tokens_per_s == pytest.approx(4 / 0.38)


def test_one_chunk_and_none() -> None:
    nothing = [None] * 6
    assert all(values(figures) == nothing for figures in all_figures(()).values())
    only_role = all_figures((Chunk(0.1, "empty"), Chunk(0.2, "end")))
    assert only_role["ours"].ttft_s is None
    assert only_role["aiperf"].e2e_s is None
    assert only_role["vLLM"].ttft_s == only_role["vLLM"].e2e_s == 0.1
    # All five tokens came at once: we do not know their pace, the others divide nothing by four.
    burst = all_figures((Chunk(0.1, "text", 5), Chunk(0.2, "end")))
    assert (burst["ours"].per_token_s, burst["ours"].tokens_per_s) == (None, None)
    assert burst["vLLM"].per_token_s == burst["guidellm"].per_token_s == 0.0
    assert burst["aiperf"].tokens_per_s is None
    single = all_figures((Chunk(0.1, "text", 1), Chunk(0.2, "end")))
    assert all(figures.per_token_s is None for figures in single.values())


def test_usage_wins_over_what_the_chunks_seem_to_hold() -> None:
    figures = all_figures(EXAMPLE, tokens=30)
    assert figures["ours"].per_token_s == pytest.approx(1.16 / 29)
    assert figures["vLLM"].tokens_per_s == pytest.approx(20)
    assert figures["llmperf"] == all_figures(EXAMPLE)["llmperf"], "it counts lines"


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="before the one before"):
        all_figures((Chunk(0.2, "text", 1), Chunk(0.1, "end")))


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_tables_of_the_page_are_computed() -> None:
    assert stream_table(EXAMPLE) in PAGE
    assert figures_table(EXAMPLE) in PAGE
    assert formulas_table() in PAGE
    assert set(FORMULAS) == set(TOOLS)


def test_the_page_has_every_definition_as_it_is() -> None:
    rows = [f"| `{name}` | {text} |" for name, text in DEFINITIONS.items()]
    assert not [row for row in rows if row not in PAGE]
    table = PAGE.split("## Our definitions")[1].split("###")[0]
    assert table.count("\n| `") == len(rows)


def test_every_option_that_the_page_names_exists() -> None:
    assert set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE)) <= run_options()
