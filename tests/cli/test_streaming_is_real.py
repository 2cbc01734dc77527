"""Text reaches a pipe when it arrives, not when a buffer is full or the answer is over."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.cli.command_line import CommandLine
from tests.support import wire
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import Action, Connection, ScriptedServer, Send, WaitEvent
from tests.support.terminal import Arrival

WORDS = ("Kraków ", "lies ", "on ", "the ", "river. ", "Its ", "cafés ", "open ", "at ", "noon. ")
MODES: dict[str, Sequence[str]] = {
    "text": (),
    "guardrails": ("--enable-guardrails",),
    "events": ("--events",),
    "monitor": ("--monitor-performance", "--quiet"),
}


def _delays(pieces: Sequence[str], sent_at: Sequence[float], arrivals: Sequence[Arrival]) -> list[float]:
    """Seconds between the sending of each piece and the arrival of its last byte."""
    delays: list[float] = []
    coming = iter(arrivals)
    have = needed = 0
    at = 0.0
    for piece, sent in zip(pieces, sent_at, strict=True):
        needed += len(piece.encode())
        while have < needed:
            arrival = next(coming)
            have, at = have + len(arrival.data), arrival.at
        delays.append(at - sent)
    return delays


def test_every_chunk_reaches_a_pipe_at_once_and_the_first_before_the_second_is_sent(cli: CommandLine) -> None:
    # Another process may hold a core for longer than the bound; a buffer, however, would be late every time.
    for _ in range(3):
        with PacedServer(100, 0.02) as server:
            result = cli.run("--base-url", server.base_url, "Count.")
            (stream,) = server.streams
        assert result.exit_code == 0
        assert result.text.rstrip("\n") == server.text
        delays = _delays(server.pieces, stream.sent_at, result.stdout_arrivals)
        first_at = stream.sent_at[0] + delays[0]
        if first_at < stream.sent_at[1] + 0.05 and max(delays) < 0.1 and statistics.median(delays) < 0.02:
            return
    pytest.fail(f"first {delays[0]:.3f} s, median {statistics.median(delays):.3f} s, longest {max(delays):.3f} s")


@pytest.mark.parametrize("mode", MODES)
def test_all_that_has_arrived_is_written_before_more_is_awaited(warm: CommandLine, mode: str) -> None:
    """In lock step: the server goes on only when the text of every whole event is seen at the far end of the pipe.

    What it has sent ends inside the next event, and between the bytes of a character where there is one to split.
    """
    seen = [threading.Event() for _ in WORDS]
    events = [wire.sse(wire.delta(word)) for word in WORDS]
    cuts = [_inside(event) for event in events]

    def answer(connection: Connection) -> Iterator[Action]:
        assert connection.request is not None
        if connection.request.path.endswith("/models"):
            yield Send(wire.json_response({"object": "list", "data": [{"id": wire.MODEL}]}))
            return
        yield Send(wire.head() + wire.chunk(wire.sse(wire.role()) + events[0][: cuts[0]]))
        for number, is_seen in enumerate(seen):
            rest = events[number][cuts[number] :]
            is_last = number + 1 == len(events)
            yield Send(wire.chunk(rest if is_last else rest + events[number + 1][: cuts[number + 1]]))
            yield WaitEvent(is_seen, 20.0)
        yield Send(wire.chunked(wire.sse(wire.finish(), wire.DONE)))

    with ScriptedServer(default=answer) as server, warm.start(*MODES[mode], "--base-url", server.base_url, "x") as run:
        for number, is_seen in enumerate(seen):
            run.wait_for(_as_shown(mode, number), 10.0)
            is_seen.set()
        assert run.wait().exit_code == 0


def _inside(event: bytes) -> int:
    """Between the bytes of the first non-ASCII character, or in the middle."""
    return next((at for at, byte in enumerate(event) if byte & 0xC0 == 0x80), len(event) // 2)


def _as_shown(mode: str, number: int) -> bytes:
    if mode == "events":
        return f'"text": {json.dumps(WORDS[number], ensure_ascii=False)}'.encode()
    return "".join(WORDS[: number + 1]).encode()
