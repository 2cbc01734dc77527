"""Where the lines of a chat come from: an editor on a terminal (the only importer of prompt_toolkit), else plain lines.

Both give one prompt at a time, which may have several lines, and take up no time while they wait.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from utils.errors import UsageProblem

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

__all__ = ["LineReader", "PlainReader", "open_reader"]

_READ_BYTES = 1 << 16
_KEPT_INPUTS = 1_000
_KEPT_BYTES = 1 << 20
"""A file beyond this is cut to the newest inputs when a chat begins."""


class LineReader(Protocol):
    """Gives prompts one after the other. *notice*: what the user should know of it before the first one."""

    notice: str | None

    @property
    def is_interactive(self) -> bool:
        """Whether a person types."""
        ...

    async def read(self) -> str:
        """The next prompt. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        ...


def open_reader(
    words: Iterable[str],
    *,
    limit_chars: int,
    kept_in: Path | None = None,
    cleaned: Callable[[str], str] = str,
    environ: Mapping[str, str] = os.environ,
) -> LineReader:
    """An editor if stdin and stderr are a terminal that can move its cursor, else plain lines.

    *words* can be completed at the beginning of a line. *kept_in*: the file that remembers what was typed, *cleaned*;
    None: it is forgotten at the end. *limit_chars*: of one prompt.
    """
    is_smart = environ.get("TERM", "") not in ("", "dumb", "unknown") and not environ.get("CI")
    if os.isatty(0) and os.isatty(2) and is_smart:
        return _Editor(words, kept_in=kept_in, cleaned=cleaned)
    return PlainReader(0, is_interactive=os.isatty(0), limit_chars=limit_chars)


class PlainReader:
    """Lines of *fd*; a line that ends with a backslash goes on in the next one.

    An interactive one shows `> ` on stderr. Raises UsageProblem for a prompt that is not UTF-8 or over *limit_chars*,
    and goes on behind it the next time. What is kept of an endless line is bounded.
    """

    def __init__(self, fd: int, *, is_interactive: bool, limit_chars: int) -> None:
        self.notice: str | None = None
        self._fd = fd
        self.is_interactive = is_interactive
        self._limit_bytes = limit_chars * 4
        self._buffer = b""
        self._is_over = False

    async def read(self) -> str:
        """See `LineReader`."""
        lines: list[bytes] = []
        size, goes_on = 0, True
        while goes_on:
            self._show(". " if size else "> ")
            try:
                line = await self._line()
            except KeyboardInterrupt:
                # The terminal has forgotten the line, too.
                self._buffer = b""
                self._show("\n")
                raise
            if line is None and not size:
                self._show("\n")
                raise EOFError
            if line is None:
                break
            goes_on = line.endswith(b"\\")
            line = line.removesuffix(b"\\")
            size += len(line) + 1
            if size <= self._limit_bytes + 1:
                lines.append(line)
        if size > self._limit_bytes + 1:
            raise UsageProblem("a line of standard input is over the limit of a prompt", hint="shorten it")
        return _decoded(b"\n".join(lines))

    def _show(self, text: str) -> None:
        if self.is_interactive:
            sys.stderr.write(text)
            sys.stderr.flush()

    async def _line(self) -> bytes | None:
        """The next line without its end; of one over the limit its beginning and its end. None: there is none."""
        while b"\n" not in self._buffer and not self._is_over:
            if len(self._buffer) > self._limit_bytes + 4:
                self._buffer = self._buffer[: self._limit_bytes + 2] + self._buffer[-2:]
            await self._fill()
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    async def _fill(self) -> None:
        await self._wait()
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._is_over = True
            if error.errno == errno.EIO:  # the terminal has gone
                return
            raise UsageProblem(f"standard input cannot be read: {error.strerror}", hint="name another file") from None
        self._buffer += data
        self._is_over = not data

    async def _wait(self) -> None:
        """Return when there is something to read, or the end. Raises KeyboardInterrupt for Ctrl-C at a terminal."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            return
        # No thread: one that waits for a terminal would keep the program from ending.
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        with ExitStack() as stack:
            try:
                loop.add_reader(self._fd, _settle, ready)
            except OSError:  # /dev/null and the like, which never block
                return
            stack.callback(loop.remove_reader, self._fd)
            if self.is_interactive:

                def interrupt(number: int, frame: FrameType | None) -> None:
                    loop.call_soon_threadsafe(_settle, ready, KeyboardInterrupt())

                stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, interrupt))
            await ready


def _settle(ready: asyncio.Future[None], error: BaseException | None = None) -> None:
    if ready.done():
        return
    if error is None:
        ready.set_result(None)
    else:
        ready.set_exception(error)


def _decoded(prompt: bytes) -> str:
    try:
        return prompt.decode()
    except UnicodeDecodeError as error:
        bad = f"byte 0x{prompt[error.start]:02x} at offset {error.start} of a prompt"
        raise UsageProblem(f"standard input is not UTF-8 text ({bad})", hint="convert it to UTF-8") from None


class _Editor:
    """Line editing, recall and completion. Enter sends; Alt-Enter, or Enter after a backslash, begins a new line.

    Ctrl-C gives a line that holds anything up; on an empty one it is KeyboardInterrupt.
    """

    is_interactive = True

    def __init__(self, words: Iterable[str], *, kept_in: Path | None, cleaned: Callable[[str], str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.output import create_output
        from prompt_toolkit.output.vt100 import Vt100_Output

        history, self.notice = _history(kept_in, cleaned)
        # Standard output carries answers only.
        output = create_output(stdout=sys.stderr)
        if isinstance(output, Vt100_Output):
            # The editor would ask the terminal where its cursor is; the answer may come when nobody reads it.
            output.enable_cpr = False
        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation=". ",
            history=history,
            key_bindings=_keys(),
            completer=WordCompleter(list(words), sentence=True),
            complete_while_typing=False,
            output=output,
            enable_suspend=True,
        )

    async def read(self) -> str:
        """See `LineReader`."""
        text: str = await self._session.prompt_async()
        return text


def _keys() -> KeyBindings:
    from prompt_toolkit.application.current import get_app
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import Condition, has_focus
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()
    # And not a search in what was typed before, which ends with Enter too.
    in_line = has_focus(DEFAULT_BUFFER)

    @keys.add("enter", filter=in_line)
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=in_line)
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    holds_anything = Condition(lambda: bool(get_app().current_buffer.text))

    @keys.add("c-c", filter=in_line & holds_anything)
    @keys.add("<sigint>", filter=in_line & holds_anything)
    def _give_up(event: KeyPressEvent) -> None:
        event.app.exit(result="", style="class:aborting")

    return keys


def _history(path: Path | None, cleaned: Callable[[str], str]) -> tuple[History, str | None]:
    """What was typed before: in memory, or in the file at *path*, which only its owner may read; and why it is not kept
    there although it should be.
    """
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if path is None:
        return InMemoryHistory(), None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            os.fchmod(file, 0o600)
            is_large = os.fstat(file).st_size > _KEPT_BYTES
        finally:
            os.close(file)
        if is_large:
            _shorten(path)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)
        return InMemoryHistory(), f"what is typed is not kept in {str(path)!r}: {reason}"

    class KeptHistory(FileHistory):
        def load_history_strings(self) -> Iterable[str]:
            try:
                return list(super().load_history_strings())[:_KEPT_INPUTS]
            except OSError:
                return []

        def store_string(self, string: str) -> None:
            try:
                super().store_string(cleaned(string))
            except OSError:
                return

    return KeptHistory(os.fspath(path)), None


def _shorten(path: Path) -> None:
    """Keep the newest inputs of the file at *path* only; the bytes of the others are gone. Raises OSError."""
    from prompt_toolkit.history import FileHistory

    newest = list(FileHistory(os.fspath(path)).load_history_strings())[:_KEPT_INPUTS]
    new = path.with_name(f"{path.name}.{os.getpid()}")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        shortened = FileHistory(os.fspath(new))
        for string in reversed(newest):
            shortened.store_string(string)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
