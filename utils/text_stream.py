"""An answer as an async iterator of text, for programs that pull: the writer waits for the reader, by a few pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from utils.errors import Cancelled
from utils.run_report import RunReport

__all__ = ["TextStream", "left"]


def left() -> Cancelled:
    """Why a run ends whose reader is gone."""
    return Cancelled("the program left the stream")


_AHEAD = 16
"""Pieces that may wait for the reader before the answer is not read on."""


class TextStream:
    """`async with` begins the run and ends it; iterating gives what has come since the last time.

    *begin* starts the run, whose text is to be handed to `put`, and gives it and how to stop it. Leaving the block
    early stops the run, which closes its connection; `report` is there afterwards.
    """

    def __init__(self, begin: Callable[[TextStream], tuple[Awaitable[RunReport], Callable[[], None]]]) -> None:
        self._begin = begin
        self._pieces: list[str] = []
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_left = False

    async def __aenter__(self) -> Self:
        run, self._stop = self._begin(self)
        self._task = asyncio.ensure_future(run)
        self._task.add_done_callback(lambda task: _wake(self._reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_left = True
        if not self._task.done():
            self._stop()
            _wake(self._writer)
        await self._task

    @property
    def report(self) -> RunReport:
        """The report of the run, once the block was left or the text has ended. Raises InvalidStateError before."""
        return self._task.result()

    async def put(self, text: str) -> bool:
        """Hand *text* to the reader; waits while that lags behind. Whether there still is a reader."""
        if self._is_left:
            return False
        self._pieces.append(text)
        _wake(self._reader)
        if len(self._pieces) >= _AHEAD:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        return not self._is_left

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._pieces:
            if self._task.done():
                self._task.result()
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        text = "".join(self._pieces)
        self._pieces.clear()
        _wake(self._writer)
        return text


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
