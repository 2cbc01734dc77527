"""Virtual time: an event loop whose clock stands still while somebody works, and jumps while everybody waits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualLoop", "virtually"]

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Hours pass in milliseconds, in the order in which they would have."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            # A cancelled timer may still lie in front; jumping to it alone would leave a real wait for the next one.
            alive = (timer._when for timer in self._scheduled if not timer._cancelled)  # type: ignore[attr-defined]
            self._now = max(self._now, min(alive, default=self._now))
        super()._run_once()  # type: ignore[misc]


def virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run *main*; a task that is left running and an exception that nobody saw are errors."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(watched())
        gc.collect(1)
    assert not complaints, complaints
    return result
