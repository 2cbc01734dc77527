import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.render.rendering import FakeClock, report, snapshot, until
from tests.render.screen_emulator import ScreenEmulator
from tests.support.virtual_time import virtually
from utils.events import TextDelta
from utils.metrics.snapshot import Snapshot, StageStates
from utils.render.blocks import BlockSplitter
from utils.render.monitor import PANEL_ROWS, TICK_S, MonitorPanel
from utils.render.painter import Painter
from utils.render.screen import Screen
from utils.render.sparkline import BLOCK_LEVELS, sparkline
from utils.render.terminal import TerminalSink


class Monitored:
    def __init__(self, width: int = 80, height: int = 24, **fields: object) -> None:
        self.clock = FakeClock()
        self.terminal = ScreenEmulator(width, height)
        self.screen = Screen(self.terminal.write, self.terminal.size, self.clock)
        self.asked = 0
        self.fields = fields
        self.answer = TerminalSink(self.screen, BlockSplitter(), Painter("none"))
        self.stages = StageStates(breaker="closed", held_chars=12)
        self.panel = MonitorPanel(self.screen, Painter("none"), self.snapshot, self.clock, stages=lambda: self.stages)

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
        "─" * 80,
        "streaming · 12.3 s · first token 412 ms · 1,024 tokens · m",
        "87.2 tokens/s now · 80.1 average · 1 retry, 2 resumes",
        "breaker closed · guard 3 hidden, 4 flagged, 12 held back",
        "latency    ▁▁█ max 300 ms",
        "confidence ▅█",
    ]
    monitored.feed("ld**\n\nmore")
    assert monitored.terminal.lines()[:4] == ["Hello world", "", "more", "─" * 80]
    monitored.answer.finish(report())
    monitored.panel.finish(report(metrics={"ttft_s": 0.412}, quality={"repetition": None}))
    assert monitored.terminal.lines()[:4] == ["Hello world", "", "more", "performance of m at http://127.0.0.1/v1"]
    assert monitored.terminal.lines()[4:] == ["  first token (ttft)  412 ms", ""]
    assert "─" not in monitored.terminal.text()


NOTHING_YET: dict[str, object] = {
    "state": "waiting", "elapsed_s": 1.44, "ttft_s": None, "tokens": 0, "tokens_per_s": None, "tokens_per_s_now": None,
    "latencies_s": (), "longest_stall_s": None, "confidence": (), "model": None, "target": None, "retries": 0,
    "resumes": 0, "redactions": 0, "flags": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "width", "row"),
    [
        ({}, 80, "waiting for the first token · 1.4 s · attempt 1"),
        ({"retries": 2, "state": "recovering"}, 80, "waiting for the first token · 1.4 s · attempt 3"),
        ({"target": "m (embedded)"}, 80, "waiting for the first token · 1.4 s · attempt 1 · m (embedded)"),
        ({"target": "m (embedded)"}, 50, "waiting for the first token · 1.4 s · attempt 1"),
        ({}, 40, "waiting for the first token · 1.4 s"),
        ({}, 20, "waiting · 1.4 s"),
        ({"state": "aborted"}, 80, "aborted · 1.4 s · attempt 1"),
    ],
)
def test_before_the_first_text_the_panel_says_what_is_waited_for(
    fields: dict[str, object], width: int, row: str
) -> None:
    monitored = Monitored(width, **{**NOTHING_YET, **fields})
    assert monitored.terminal.lines() == ["─" * width, row]


def test_what_the_first_text_does_not_tell_is_said_to_be_unknown() -> None:
    monitored = Monitored(**{**NOTHING_YET, "state": "streaming", "ttft_s": 0.412, "tokens": 1})
    assert monitored.terminal.lines()[1:] == [
        "streaming · 1.4 s · first token 412 ms · 1 token",
        "n/a tokens/s now · n/a average",
        "breaker closed · guard 12 held back",
        "latency    n/a until the second chunk",
        "confidence n/a (no logprobs)",
    ]


@pytest.mark.parametrize(
    ("latencies", "line"),
    [
        ((0.03, 0.03, 0.03, 0.03, 0.06), "▅▅▅▅█ max 300 ms"),
        ((*[0.02, 0.04] * 20, 2.5), "▃▅" * 20 + "█ max 300 ms"),
        ((0.0, 0.0, 0.0, 0.0), "▁▁▁▁ max 300 ms"),
        (([0.0] * 40 + [0.1]), "▁" * 40 + "█ max 300 ms"),
    ],
)
def test_a_stall_does_not_flatten_the_other_latencies(latencies: tuple[float, ...], line: str) -> None:
    monitored = Monitored(latencies_s=tuple(latencies))
    assert monitored.terminal.lines()[4] == f"latency    {line}"


LONG_MODEL = "smollm2-135m-instruct-with-a-longer-name"


@pytest.mark.parametrize("width", range(8, 140, 3))
def test_what_does_not_fit_is_left_out_whole(width: int) -> None:
    everything = {
        "streaming", "12.3 s", "first token 412 ms", "1,024 tokens", LONG_MODEL, "87.2 tokens/s now", "80.1 average",
        "1 retry, 2 resumes", "guard 3 hidden, 4 flagged, 12 held back", "breaker closed",
    }  # fmt: skip
    monitored = Monitored(width, model=LONG_MODEL)
    progress, throughput, stages = monitored.terminal.lines()[1:4]
    assert progress.split(" · ")[0].rstrip("…") in "streaming"
    for row in (progress, throughput, stages):
        shown = row.split(" · ")
        assert len(shown) == 1 or set(shown) <= everything
    if width >= 80:
        assert throughput.startswith("87.2 tokens/s now")
        assert stages == "breaker closed · guard 3 hidden, 4 flagged, 12 held back"


STAGES: list[tuple[StageStates, int, str]] = [
    (StageStates(), 80, "guard 3 hidden, 4 flagged"),
    (StageStates(held_chars=0), 80, "guard 3 hidden, 4 flagged, 0 held back"),
    (StageStates("closed", held_chars=0), 40, "guard 3 hidden, 4 flagged, 0 held back"),
    (StageStates("half_open", held_chars=0), 40, "breaker half_open"),
    (StageStates("open"), 45, "breaker open · guard 3 hidden, 4 flagged"),
    (StageStates(queued=2, requests_left=0.5), 80, "guard 3 hidden, 4 flagged · limit 2 waiting"),
    (StageStates(queued=0, requests_left=4.7), 80, "guard 3 hidden, 4 flagged · limit 4 requests left"),
    (
        StageStates(queued=0, requests_left=1.0, tokens_left=-1234.5),
        80,
        "guard 3 hidden, 4 flagged · limit 1 request, -1,235 tokens left",
    ),
]


@pytest.mark.parametrize(("stages", "width", "row"), STAGES)
def test_the_stages_around_the_stream_have_a_row(stages: StageStates, width: int, row: str) -> None:
    monitored = Monitored(width)
    monitored.stages = stages
    monitored.feed("x")
    assert monitored.terminal.lines()[4] == row


@pytest.mark.parametrize(
    ("stages", "row"),
    [
        (StageStates("closed", queued=1), "waiting for the rate limit · 1.4 s · attempt 1"),
        (StageStates("open", queued=0), "waiting for the first token · 1.4 s · attempt 1 · breaker open"),
    ],
)
def test_what_keeps_the_first_token_back_is_said(stages: StageStates, row: str) -> None:
    monitored = Monitored(80, **NOTHING_YET)
    monitored.stages = stages
    monitored.screen.draw()
    monitored.clock.now += 1.0
    monitored.screen.request()
    monitored.screen.draw()
    assert monitored.terminal.lines()[1] == row


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

    virtually(run)


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
