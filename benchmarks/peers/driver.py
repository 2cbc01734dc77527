"""What every driver does: it reads requests from standard input and answers on standard output, one JSON line each.

`{"do": "show", "setting": n, "tokens": [...]}` is answered with what a reader had been shown: the whole
text, and how many characters of it after each token. `{"do": "time", ..., "repeat": n}` is answered with the process
CPU seconds of one pass, without the bookkeeping of the former. Network calls are refused for the life of the process.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

__all__ = ["CARD_REGEX", "EMAIL_REGEX", "KEYWORD", "KEY_REGEX", "Setting", "serve"]

KEYWORD = "projectnightfall"
KEY_REGEX = r"sk-ant-api03-[A-Za-z0-9_-]{20,}"
EMAIL_REGEX = r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b"
CARD_REGEX = r"\b4\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b"
"""For guards that have no detector of their own; every guard gets the same expressions."""

Show = Callable[[str], None]


class Setting(ABC):
    """One way to configure a guard. *note* is printed under the table."""

    label = ""
    note = ""
    is_timed = True
    """False: the stream is not guarded at all, so that there is no cost to tell."""

    def prepare(self, tokens: Sequence[str]) -> Sequence[Any]:
        """The tokens in the form in which the guard is fed; not timed."""
        return tokens

    def prepare_timed(self, tokens: Sequence[str]) -> Sequence[Any]:
        """What `time_stream` is fed with; by default the same."""
        return self.prepare(tokens)

    @abstractmethod
    def stream(self, source: Iterator[Any], show: Show) -> bool:
        """Read *source*, `show` what a reader gets as early as he gets it. False: the guard ended the answer."""

    def time_stream(self, source: Iterator[Any], show: Show) -> bool:
        """What is timed; by default the same."""
        return self.stream(source, show)


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"no network in a benchmark: {event} {str(arguments)[:80]}")


def _show(setting: Setting, tokens: list[str]) -> dict[str, Any]:
    shown: list[str] = []
    after: list[int] = []
    total = 0

    def show(text: str) -> None:
        nonlocal total
        total += len(text)
        shown.append(text)

    def source() -> Iterator[Any]:
        for n, item in enumerate(setting.prepare(tokens)):
            if n:
                after.append(total)
            yield item
        after.append(total)

    is_complete = setting.stream(source(), show)
    return {"text": "".join(shown), "after": after[: len(tokens)], "is_complete": is_complete}


def _time(setting: Setting, tokens: list[str], repeat: int) -> dict[str, Any]:
    cpu_s, text = 0.0, ""
    for _ in range(repeat):
        items = iter(setting.prepare_timed(tokens))
        shown: list[str] = []
        started_s = time.process_time()
        setting.time_stream(items, shown.append)
        cpu_s += time.process_time() - started_s
        text = "".join(shown)
    return {"cpu_s": cpu_s / repeat, "text": text}


def serve(load: Callable[[], list[Setting]], packages: Sequence[str]) -> None:
    """Import the guard by *load*, tell its cost and the versions of *packages*, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a package prints must not come between the answers
    sys.addaudithook(_refuse_network)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    started_s = time.process_time()
    settings = load()
    unit = 1 if sys.platform == "darwin" else 1024
    answer(
        {
            "import_cpu_s": time.process_time() - started_s,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
            "versions": {name: version(name) for name in packages},
            "settings": [{"label": s.label, "note": s.note, "is_timed": s.is_timed} for s in settings],
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        setting = settings[request["setting"]]
        try:
            if request["do"] == "show":
                answer(_show(setting, request["tokens"]))
            else:
                answer(_time(setting, request["tokens"], request["repeat"]))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]})
