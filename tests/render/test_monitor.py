import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.render.rendering import FakeClock, report, snapshot, until
from tests.render.screen_emulator import ScreenEmulator
from utils.events import TextDelta
from utils.metrics.snapshot import Snapshot
from utils.render.blocks import BlockSplitter
from utils.render.figures import format_figure, report_lines
from utils.render.monitor import PANEL_ROWS, TICK_S, MonitorPanel
from utils.render.painter import Painter
from utils.render.screen import Screen
from utils.render.sparkline import BLOCK_LEVELS, sparkline
from utils.render.terminal import TerminalSink


class Monitored:
    def __init__(self, width: int = 100, height: int = 24, **fields: object) -> None:
        self.clock = FakeClock()
        self.terminal = ScreenEmulator(width, height)
        self.screen = Screen(self.terminal.write, self.terminal.size, self.clock)
        self.asked = 0
        self.fields = fields
        self.answer = TerminalSink(self.screen, BlockSplitter(), Painter("none"))
        self.panel = MonitorPanel(self.screen, Painter("none"), self.snapshot, self.clock, breaker=lambda: "closed")

    def snapshot(self, now: float) -> Snapshot:
        self.asked += 1
        return snapshot(**self.fields)

    def feed(self, text: str, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        for sink in (self.answer, self.panel):
            sink.handle(TextDelta(text), self.clock.now)


def test_the_panel_stands_below_the_answer_and_leaves_figures() -> None:
    monitored = Monitored()
    monitored.feed("Hello **wor")
    assert monitored.terminal.lines() == [
        "Hello **wor",
        "─" * 100,
        "streaming · 12.3 s · first token 412 ms · 1,024 tokens by logprobs · m",
        "87.2 tokens/s now · 80.1 average · retries 1 resumes 2 fallbacks 0 · breaker closed · hidden 3 flag…",
        "latency    ▁▁█ max 300 ms",
        "confidence ▅█",
    ]
    monitored.feed("ld**\n\nmore")
    assert monitored.terminal.lines()[:4] == ["Hello world", "", "more", "─" * 100]
    monitored.answer.finish(report())
    monitored.panel.finish(report(metrics={"ttft_s": 0.412}, quality={"repetition": None}))
    assert monitored.terminal.lines()[:4] == ["Hello world", "", "more", "run:"]
    assert "  ttft           412.0 ms" in monitored.terminal.lines()
    assert "─" not in monitored.terminal.text()


def test_unknown_figures_are_said_to_be_unknown() -> None:
    monitored = Monitored(
        ttft_s=None, tokens_per_s=None, tokens_per_s_now=None, latencies_s=(), longest_stall_s=None, confidence=(),
        model=None, target=None,
    )  # fmt: skip
    lines = monitored.terminal.lines()
    assert lines[1] == "streaming · 12.3 s · first token n/a · 1,024 tokens by logprobs · no model yet"
    assert lines[2].startswith("n/a tokens/s now · n/a average")
    assert lines[3:] == ["latency    n/a max n/a", "confidence n/a"]


def test_figures_are_asked_for_at_most_eight_times_a_second() -> None:
    monitored = Monitored()
    for _ in range(100):
        monitored.feed("word ", 1 / 50)
    assert monitored.asked <= 2 / TICK_S + 1


@pytest.mark.parametrize("width", [1, 5, 20, 40, 300])
def test_the_panel_has_a_fixed_height_at_any_width(width: int) -> None:
    monitored = Monitored(width, latencies_s=tuple(n / 100 for n in range(64)), confidence=(0.5,) * 64)
    assert len(monitored.terminal.lines()) == PANEL_ROWS
    assert all(len(line) <= width for line in monitored.terminal.lines())


def test_a_low_terminal_shows_the_answer_alone() -> None:
    monitored = Monitored(80, 8)
    monitored.feed("text")
    assert monitored.terminal.lines() == ["text"]
    assert monitored.asked == 0


def test_closing_takes_the_panel_away_and_keeps_the_answer() -> None:
    monitored = Monitored()
    monitored.feed("half")
    for _ in range(2):
        monitored.answer.close()
        monitored.panel.close()
    assert monitored.terminal.lines() == ["half", ""]


def test_figures_that_fail_do_not_take_the_answer_with_them() -> None:
    clock, terminal = FakeClock(), ScreenEmulator(40)

    def fail(now: float) -> Snapshot:
        raise ZeroDivisionError

    panel = MonitorPanel(Screen(terminal.write, terminal.size, clock), Painter("none"), fail, clock)
    assert terminal.lines()[0] == "no figures: ZeroDivisionError"
    panel.close()
    assert terminal.lines() == [""]


def test_the_panel_ticks_while_nothing_happens_and_stops_when_closed() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        terminal = ScreenEmulator(80)
        elapsed = iter(range(100))
        screen = Screen(terminal.write, terminal.size, loop.time)
        panel = MonitorPanel(screen, Painter("none"), lambda now: snapshot(elapsed_s=next(elapsed)), loop.time)
        started_s = loop.time()
        await until(lambda: terminal.writes == 3)
        assert loop.time() - started_s >= 2 * TICK_S - 0.01
        assert "2.0 s" in terminal.text()
        panel.close()
        writes = terminal.writes
        await asyncio.sleep(2 * TICK_S)
        assert terminal.writes == writes
        assert terminal.lines() == [""]

    asyncio.run(run())


def test_an_ascii_terminal_gets_an_ascii_panel() -> None:
    clock, terminal = FakeClock(), ScreenEmulator(60)
    painter = Painter("none", "ascii")
    screen = Screen(terminal.write, terminal.size, clock)
    panel = MonitorPanel(screen, painter, lambda now: snapshot(), clock, is_ascii=painter.is_ascii)
    assert terminal.text().isascii()
    panel.close()


@pytest.mark.parametrize(
    ("values", "width", "options", "expected"),
    [
        ([], 10, {}, ""),
        ([1.0], 0, {}, ""),
        ([0, 1], 10, {}, "▁█"),
        ([0, 0], 10, {}, "▁▁"),
        ([1, 2, 3, 4], 2, {"top": 4.0}, "▆█"),
        ([-1, 0.5, 9], 10, {"top": 1.0}, "▁▅█"),
        ([5, 6, 7], 10, {"bottom": 5.0}, "▁▅█"),
        ([0, 1], 10, {"levels": "ab"}, "ab"),
    ],
)
def test_a_sparkline_looks_like_this(
    values: list[float], width: int, options: dict[str, object], expected: str
) -> None:
    assert sparkline(values, width, **options) == expected  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e9)), st.integers(0, 50))
def test_a_sparkline_has_one_level_per_value(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set(BLOCK_LEVELS)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ttft_s", 0.0123456, ("ttft", "12.3 ms")),
        ("e2e_s", 61.234, ("e2e", "61.23 s")),
        ("gap_s", [0.5, 2.0], ("gap", "500.0 ms, 2.00 s")),
        ("gap_s", [], ("gap", "none")),
        ("ttft_s", None, ("ttft", "n/a")),
        ("tokens_per_s", 87.234, ("tokens", "87.23/s")),
        ("tokens", 12345, ("tokens", "12,345")),
        ("held_chars", 3, ("held", "3 characters")),
        ("guard_us", 2.5, ("guard", "2.5 us")),
        ("share", 0.123456, ("share", "0.1235")),
        ("big", 123456.7, ("big", "123,457")),
        ("is_complete", True, ("is complete", "yes")),
        ("source", "usage\x1b", ("source", "usage\\x1b")),
        ("latency_s.p50", 0.02, ("latency p50", "20.0 ms")),
        ("latency_s.n", 12, ("latency n", "12")),
        ("repetition.period_chars", 4, ("repetition period", "4 characters")),
        ("values", list(range(20)), ("values", "20 values")),
    ],
)
def test_a_figure_has_its_unit(name: str, value: object, expected: tuple[str, str]) -> None:
    assert format_figure(name, value) == expected


def test_the_final_figures_are_aligned_and_honest() -> None:
    lines = report_lines(
        report(
            metrics={"ttft_s": 0.5, "latency_s": {"n": 3, "p99": None}, "by_source": {}},
            quality={"confidence": {"mean_logprob": -0.25}, "definition": "not a figure"},
        )
    )
    assert lines == [
        "run:",
        "  outcome                  complete (exit 0)",
        "  finish reason            stop",
        "  model                    m",
        "  target                   m at http://127.0.0.1/v1",
        "performance:",
        "  ttft                     500.0 ms",
        "  latency n                3",
        "  latency p99              n/a",
        "  by source                none",
        "quality:",
        "  confidence mean logprob  -0.25",
        "breaker: n/a",
    ]
