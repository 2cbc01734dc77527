"""What makes a process safe before anything of weight is imported. Standard library only."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

__all__ = ["STARTED_S", "prepare_process", "use_own_environment"]

_GC_OBJECTS = 100_000

STARTED_S = time.monotonic()
"""The start of the process, as near as Python code can see it: what `--timeout` counts from."""


def prepare_process() -> None:
    """Make the process safe for the imports that follow.

    Ctrl-C during an import ends it silently instead of with a traceback. A standard stream that was closed is opened
    on /dev/null, or the next file or socket would take its number and receive what is printed; standard output in a
    way that makes writing fail, because an answer that goes nowhere is no success.

    The garbage collector looks less often: what the imports make stays, and searching it for cycles every 700 objects
    takes 5 % of the time to the first token.
    """
    gc.set_threshold(_GC_OBJECTS)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
            if number == 1:
                # Without a stream, what is printed would be lost without a word.
                sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as we do
            if number == 2:
                sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as we do


def use_own_environment(error: ModuleNotFoundError) -> None:
    """Start again with the Python of `make run`'s environment; without one, say how to make it and end (78)."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    own = os.path.join(root, ".venv", "bin", "python")
    if os.path.exists(own) and sys.prefix != os.path.dirname(os.path.dirname(own)):
        os.execv(own, [own, *sys.argv])  # noqa: S606 - our own interpreter, our own arguments
    sys.stderr.write(
        f"error: the package {error.name!r} is not installed for {sys.executable}\n"
        "hint: `make run`, or the two lines of the README with pip, install everything\n"
    )
    sys.exit(78)
