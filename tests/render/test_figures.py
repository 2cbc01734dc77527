from typing import Any

import pytest

from tests.render.rendering import report
from utils.render.figures import NARROW_COLUMNS, duration, report_lines
from utils.render.wrapping import printed_width
from utils.run_report import RunReport

METRICS: dict[str, Any] = {
    "ttfc_s": 1.47, "ttfr_s": None, "ttft_s": 1.48, "e2e_s": 1.98, "tpot_s": 0.0231, "tokens_per_s": 43.33,
    "inter_chunk_latency_s": {
        "n": 20, "p50": 0.0223, "p90": 0.0361, "p99": None, "max": 0.0382, "mean": 0.024, "left_out": 0,
    },
    "tokens": 22, "token_source": "usage", "tokens_by_source": {"usage": 22}, "prompt_tokens": 32, "chunks": 21,
    "chars": 76, "longest_stall_s": 0.0382, "attempts": 1, "interruptions": 0, "retries": 0, "resumes": 0,
    "fallbacks": 0, "redactions": 0, "flags": 0, "adaptations": 0, "gap_s": [], "events_left_out": 0,
}  # fmt: skip
QUALITY: dict[str, Any] = {
    "completeness": {
        "finish_reason": "stop", "is_complete": True, "open_code_fence": False, "usage_mismatch": False,
        "unaccounted_tokens": 0,
    },
    "repetition": {"detected": False, "at_end": False, "first_seen_at_char": None, "period_chars": None},
    "confidence": {
        "tokens": 40, "mean_logprob": -0.8, "perplexity": 2.233, "low_probability_share": 0.5,
        "lowest_window": {"mean_logprob": -1.2, "tokens": 32, "start_char": 12, "end_char": 1076},
    },
}  # fmt: skip
BREAKER = {"state": "closed", "failures_in_a_row": 0, "admitted": 1}


def ended(metrics: Any = None, quality: Any = None, **fields: Any) -> RunReport:
    return report(
        metrics={**METRICS, **(metrics or {})},
        quality={**QUALITY, **(quality or {})},
        **{"breaker": BREAKER, "target": "smollm2 (embedded)", "model_used": "smollm2", **fields},
    )


EVENTFUL = ended(
    {"retries": 2, "resumes": 1, "gap_s": [0.42], "redactions": 3, "flags": 1},
    guard={"prompt": [], "answer": {"held_max_chars": 1}},
)


def value_of(name: str, end: RunReport) -> str | None:
    found = [line for line in report_lines(end) if line.startswith(f"  {name}  ")]
    assert len(found) <= 1
    return found[0].removeprefix(f"  {name}  ").strip() if found else None


def test_an_ordinary_run_is_a_dozen_lines_of_words_that_fit_eighty_columns() -> None:
    assert report_lines(ended(), 80) == [
        "performance of smollm2 (embedded)",
        "  first token (ttft)     1.48 s",
        "  total                  1.98 s",
        "  tokens                 22, counted by the server; 32 in the prompt",
        "  tokens/s               43.3 after the first token",
        "  time per token (tpot)  23 ms",
        "  inter-chunk latency    p50 22 ms, p90 36 ms, max 38 ms (n 20; p99 needs 100)",
        "  longest stall          38 ms",
        "  circuit breaker        closed",
        "  quality                complete (finish_reason stop); no repetition",
        "  model's confidence     mean probability 45% (geometric), perplexity 2.23",
        "  lowest window          30% over 32 tokens, characters 12 to 1,076",
    ]


def test_an_eventful_run_says_what_recovery_and_guard_did() -> None:
    assert value_of("recovery", EVENTFUL) == "2 retries, 1 resume, gap 420 ms"
    assert value_of("guard", EVENTFUL) == "3 hidden, 1 flagged, at most 1 character held back"
    assert len(report_lines(EVENTFUL)) == 14


def test_under_sixty_columns_a_figure_stands_behind_its_name() -> None:
    assert report_lines(EVENTFUL, 30) == [
        "performance of smollm2",
        "  (embedded)",
        "first token: 1.48 s",
        "total: 1.98 s",
        "tokens: 22, counted by the",
        "  server; 32 in the prompt",
        "tokens/s: 43.3 after the first",
        "  token",
        "time per token: 23 ms",
        "inter-chunk latency: p50",
        "  22 ms, p90 36 ms, max 38 ms",
        "  (n 20; p99 needs 100)",
        "longest stall: 38 ms",
        "recovery: 2 retries, 1 resume,",
        "  gap 420 ms",
        "guard: 3 hidden, 1 flagged, at",
        "  most 1 character held back",
        "circuit breaker: closed",
        "quality: complete",
        "  (finish_reason stop); no",
        "  repetition",
        "model's confidence: mean",
        "  probability 45% (geometric),",
        "  perplexity 2.23",
        "lowest window: 30% over 32",
        "  tokens, characters 12 to",
        "  1,076",
    ]


@pytest.mark.parametrize("width", [20, 21, 40, NARROW_COLUMNS - 1, NARROW_COLUMNS, 61, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    lines = report_lines(EVENTFUL, width)
    assert max(map(printed_width, lines)) <= width
    shown = " ".join(" ".join(lines).replace(":", "").split())
    for words in ("38 ms (n 20; p99 needs 100)", "at most 1 character held back", "characters 12 to 1,076"):
        assert words in shown


@pytest.mark.parametrize(
    ("name", "end", "value"),
    [
        ("model's confidence", ended(quality={"confidence": None}), "n/a (the server sent no logprobs)"),
        ("lowest window", ended(quality={"confidence": None}), None),
        ("tokens/s", ended({"tokens_per_s": None, "chunks": 1}), "n/a (the answer came in one piece)"),
        ("tokens/s", ended({"tokens_per_s": None}), "n/a (more tokens were counted than shown)"),
        ("time per token (tpot)", ended({"tpot_s": None}), None),
        ("tokens", ended({"token_source": "logprobs", "prompt_tokens": None}), "22, counted by their logprobs"),
        ("tokens", ended({"token_source": "chunks", "prompt_tokens": None}), "22, estimated: one per chunk"),
        ("inter-chunk latency", ended({"inter_chunk_latency_s": {"n": 0, "p50": None, "max": None}}), None),
        (
            "inter-chunk latency",
            ended({"inter_chunk_latency_s": {"n": 1200, "p50": 0.02, "p90": 0.2, "p99": 1.25, "max": 124.0}}),
            "p50 20 ms, p90 200 ms, p99 1.25 s, max 124 s (n 1,200)",
        ),
        ("recovery", ended(), None),
        ("recovery", ended({"fallbacks": 1, "adaptations": 2}), "1 fallback"),
        ("recovery", ended({"retries": 2, "breaker_changes": 2}), "2 retries, 2 breaker changes"),
        ("recovery", ended({"resumes": 2, "gap_s": [0.5, 2.0]}), "2 resumes, gaps 500 ms, 2.00 s"),
        ("recovery", ended({"resumes": 9, "gap_s": [0.5] * 8 + [2.0]}), "9 resumes, longest gap 2.00 s"),
        ("guard", ended(), None),
        ("guard", ended(guard={"answer": {"held_max_chars": 0}}), "nothing hidden"),
        ("guard", ended(guard={"answer": {"held_max_chars": 12}}), "nothing hidden, at most 12 characters held back"),
        ("guard", ended({"flags": 2}), "2 flagged"),
        ("circuit breaker", ended(breaker={"state": "open", "failures_in_a_row": 5}), "open, 5 failures in a row"),
        ("circuit breaker", ended(breaker={}), None),
        (
            "quality",
            ended(
                quality={
                    "completeness": {"finish_reason": None, "is_complete": False, "open_code_fence": True},
                    "repetition": {
                        "detected": True,
                        "at_end": True,
                        "first_seen_at_char": 1200,
                        "period_chars": 4,
                        "repeats": 9.6,
                    },
                }
            ),
            "not complete (the server gave no finish_reason), a code block is open; "
            "in a loop at its end of 4 characters, 10 times, seen at character 1,200",
        ),
        (
            "quality",
            ended(
                quality={
                    "completeness": {"finish_reason": "stop\x1b", "is_complete": True, "usage_mismatch": True},
                    "repetition": {"detected": True, "at_end": False},
                }
            ),
            "complete (finish_reason stop\\x1b), its token count does not fit the text; in a loop on the way",
        ),
    ],
)
def test_a_figure_reads_like_this(name: str, end: RunReport, value: str | None) -> None:
    assert value_of(name, end) == value


@pytest.mark.parametrize(
    ("completeness", "outcome", "value"),
    [
        (
            {"finish_reason": "stop", "is_complete": True, "structure": None},
            "complete",
            "complete (finish_reason stop)",
        ),
        (
            {"finish_reason": "stop", "is_complete": True, "structure": "valid"},
            "complete",
            "complete (finish_reason stop), structure valid",
        ),
        (
            {"finish_reason": None, "is_complete": False, "structure": "invalid"},
            "blocked",
            "not complete (blocked), structure invalid",
        ),
    ],
)
def test_the_structure_is_told_where_one_was_judged(completeness: Any, outcome: Any, value: str) -> None:
    assert value_of("quality", ended(quality={"completeness": completeness}, outcome=outcome)) == (
        f"{value}; no repetition"
    )


def test_an_answer_that_was_stopped_is_not_blamed_on_the_server() -> None:
    cut = {"completeness": {"finish_reason": None, "is_complete": False}}
    end = ended(quality=cut, outcome="cancelled")
    assert value_of("quality", end) == "not complete (cancelled); no repetition"


def test_a_run_without_text_says_so_and_nothing_of_its_quality() -> None:
    nothing = {
        "ttft_s": None, "tokens": 0, "tokens_per_s": None, "tpot_s": None, "inter_chunk_latency_s": {"n": 0},
        "longest_stall_s": None, "chunks": 0, "chars": 0, "prompt_tokens": None, "retries": 2,
    }  # fmt: skip
    end = ended(nothing, {"confidence": None}, target=None, model_used=None, model_requested="m\x1b")
    assert report_lines(end) == [
        "performance of m\\x1b",
        "  first token (ttft)  n/a (no text came)",
        "  total               1.98 s",
        "  recovery            2 retries",
        "  circuit breaker     closed",
    ]


@pytest.mark.parametrize(
    ("model", "target", "title"),
    [
        ("m", "m at http://127.0.0.1/v1", "m at http://127.0.0.1/v1"),
        ("m-0613", "m at http://127.0.0.1/v1", "m-0613, m at http://127.0.0.1/v1"),
        ("x", "at http://127.0.0.1/v1", "x at http://127.0.0.1/v1"),
        (None, "m (embedded)", "m (embedded)"),
    ],
)
def test_the_title_says_who_answered(model: str | None, target: str, title: str) -> None:
    assert report_lines(ended(model_used=model, target=target))[0] == f"performance of {title}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "n/a"), (0.0, "0.0 ms"), (0.00234, "2.3 ms"), (0.00994, "9.9 ms"), (0.00996, "10 ms"), (0.412, "412 ms"),
        (0.9994, "999 ms"), (0.9996, "1.00 s"), (1.984, "1.98 s"), (99.95, "100 s"), (3723.4, "3,723 s"),
    ],
)  # fmt: skip
def test_a_duration_has_the_digits_that_matter(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
