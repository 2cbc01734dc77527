import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.render.rendering import report, until
from tests.render.screen_emulator import ScreenEmulator
from utils.events import TextDelta
from utils.render.blocks import BlockSplitter
from utils.render.painter import Painter
from utils.render.screen import Screen
from utils.render.suspension import Suspension
from utils.render.terminal import TerminalSink


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
    yield
    found = signal.getsignal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    assert found is signal.SIG_DFL


def test_ctrl_z_takes_the_live_region_away_and_the_next_frame_comes_below(monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[tuple[int, int, list[str], object]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        terminal = ScreenEmulator(40)
        screen = Screen(terminal.write, terminal.size, loop.time)
        sink = TerminalSink(screen, BlockSplitter(), Painter("none"))
        suspension = Suspension(screen)

        def stopped(pid: int, number: int) -> None:
            stops.append((pid, number, terminal.lines(), signal.getsignal(number)))
            terminal.write("$ fg\n")

        monkeypatch.setattr(os, "kill", stopped)
        sink.handle(TextDelta("final\n\nopen"), loop.time())
        await until(lambda: terminal.lines()[-1] == "open")
        for _ in range(2):
            terminal.write("^Z")
            signal.raise_signal(signal.SIGTSTP)
            await until(lambda: terminal.lines()[-1] == "open")
        sink.finish(report())
        suspension.finish(report())
        suspension.close()
        suspension.close()
        assert terminal.lines() == ["final", "$ fg", "$ fg", "", "open", ""]

    asyncio.run(run())
    assert [stop[:2] for stop in stops] == [(os.getpid(), signal.SIGTSTP)] * 2
    assert [stop[2][-1] for stop in stops] == ["", ""]
    assert {stop[3] for stop in stops} == {signal.SIG_DFL}


def test_a_signal_in_the_middle_of_a_frame_leaves_the_frame_alone() -> None:
    written: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        screen.suspend()

    screen = Screen(write, lambda: (40, 24), lambda: 0.0)
    sink = TerminalSink(screen, BlockSplitter(), Painter("none"))
    sink.handle(TextDelta("open"), 0.0)
    assert len(written) == 1
    sink.close()


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        Suspension(Screen(lambda text: None, lambda: (40, 24), lambda: 0.0)).close()
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def test_outside_of_the_main_thread_nothing_is_handled() -> None:
    screen = Screen(lambda text: None, lambda: (40, 24), lambda: 0.0)
    thread = threading.Thread(target=lambda: Suspension(screen).close())
    thread.start()
    thread.join(5)
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
