"""The loop of a chat: read, ask, keep; and what its commands do."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from commands.chat_commands import COMMANDS, Typed, help_lines, parse
from commands.chat_figures import ChatFigures
from commands.chat_files import read_conversation, write_conversation
from commands.chat_servers import ChatServers
from commands.chat_signals import ChatSignals
from commands.continued import continued, left_out_note, new_conversation_id
from commands.prompt_files import read_file
from commands.turn import Turn, note, render_options
from utils.attachments import Assembled, Attachment, assembled
from utils.clock import monotonic
from utils.conversation import Conversation, Exchange, Window
from utils.errors import AppError, Cancelled, OutputClosed, RequestRefused, Terminated, UsageProblem
from utils.guardrails.policy import compile_rules
from utils.guardrails.redactor import cleaned
from utils.history import History, history_path
from utils.render.chat_input import LineReader, open_reader
from utils.render.figures import counted
from utils.render.harmless import make_harmless
from utils.run_context import Parameters, Target
from utils.session import Session
from utils.settings import EMBEDDED_SEED, load, toxicity_mode
from utils.state_store import state_directory

if TYPE_CHECKING:
    from utils.embedded_model.fetch import ProgressCallback
    from utils.resilience.resilient_stream import Opener
    from utils.run_report import RunReport

__all__ = ["ChatLoop"]

_PIPE_S = 3.0
"""How long a pipe in the place of a file may take."""


class ChatLoop:
    """One chat. `run` reads prompts until they end; the exit code is 0, for a pipe that of the last failure if any.

    Targets that were asked once keep their breakers, limits and figures when another model is asked meanwhile.
    """

    def __init__(
        self,
        session: Session,
        *,
        flags: Mapping[str, object],
        options: Mapping[str, Any],
        config: Path | None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._session = session
        self._sessions: dict[Target, Session] = {session.choice.target: session}
        self._openers: dict[Target, Opener] = {}
        self._typed: Mapping[str, object] = dict(flags)
        """The settings of the command line."""
        self._flags = self._typed
        """The same, as the commands of the chat have changed them."""
        self._servers = ChatServers(flags, session.loaded, session.choice.target)
        self._own_keys = session.own_keys
        self._warned = session.loaded.warnings
        self._options, self._config, self._progress = options, config, progress
        kept = continued(newest=options["continue_newest"], cid=options["cid"])
        self._is_continued = kept is not None
        self._cid, self._talk = kept or (new_conversation_id(), Conversation())
        if session.settings.system is not None:
            self._talk.system = session.settings.system
        self._figures = ChatFigures()
        self._prompt: Assembled | None = None
        """The newest prompt, also if it got no answer."""
        self._files: list[Attachment] = []
        """What goes with the next prompt."""
        self._is_answered = False
        """Whether the newest exchange is that of the newest prompt."""
        self._retries = 0
        self._go_on_from_newest()
        self._signals = ChatSignals()

    async def run(self) -> int:
        """Read and answer until the input ends."""
        settings = self._session.settings
        # A pack that cannot be used is an error before the first line, and not one for each of them.
        guarded = self._guarded()
        directory = state_directory() if self._keeps else None
        reader = open_reader(
            [f"/{name}" for name in COMMANDS],
            limit_chars=settings.prompt_limit_chars,
            kept_in=None if directory is None else directory / "chat_input",
            cleaned=self._cleaned,
        )
        note(*self._session.loaded.warnings, reader.notice, quiet=self._quiet)
        if reader.is_interactive:
            self._welcome(guarded)
        with self._signals.handled(with_ctrl_c=reader.is_interactive):
            try:
                return await self._converse(reader)
            except asyncio.CancelledError:
                if self._signals.stopped is None:
                    raise
                return self._signals.stopped.exit_code
            finally:
                for session in self._sessions.values():
                    await session.aclose()

    async def _converse(self, reader: LineReader) -> int:
        code, is_warned = 0, False
        while True:
            try:
                line = await reader.read()
                is_warned = False
                ended = await self._take(line)
            except EOFError:
                return 0 if reader.is_interactive else code
            except KeyboardInterrupt:
                if is_warned or self._signals.was_just_pressed:
                    return Cancelled.exit_code
                is_warned = True
                self._say("Ctrl-C again leaves, and so does Ctrl-D")
                continue
            except AppError as error:
                self._fail(error)
                ended = error.exit_code
            leaving = (Terminated, OutputClosed) if reader.is_interactive else (Terminated, OutputClosed, Cancelled)
            if ended in (cause.exit_code for cause in leaving):
                return ended
            code = ended or code

    async def _take(self, line: str) -> int:
        """Obey or ask; the exit code of the answer, 0 without one. Raises EOFError to leave."""
        typed = parse(line)
        if isinstance(typed, Typed):
            return await self._obey(typed)
        if not typed.strip():
            return 0
        files, self._files = self._files, []
        return await self._ask(assembled(files, typed))

    @property
    def _quiet(self) -> bool:
        return bool(self._options["quiet"])

    def _welcome(self, guarded: str) -> None:
        kept = f"kept in the history as {self._cid}" if self._keeps else "kept by /save only (--log-text keeps it)"
        lines = [f"chat with {self._session.choice.target.name}", f"/help lists commands, Ctrl-D leaves; {kept}"]
        if self._session.guards.packs:
            lines.append(guarded)
        if self._is_continued:
            lines.append(f"going on with {self._cid}: {counted(len(self._talk.exchanges), 'exchange')}")
        if not self._quiet:
            self._say(*lines)

    @property
    def _keeps(self) -> bool:
        return self._session.settings.log and self._session.settings.log_text

    def _say(self, *lines: str) -> None:
        # A file that was loaded may hold anything.
        for line in lines:
            click.echo(make_harmless(line), err=True)

    def _fail(self, error: AppError) -> None:
        self._say(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []))

    def _cleaned(self, text: str) -> str:
        return cleaned(text, compile_rules(("pii", "secrets"), own_keys=self._own_keys))

    async def _ask(self, prompt: Assembled, parameters: Parameters | None = None) -> int:
        """One turn; the exit code of its run. If the server finds the conversation too long, half of it is left out."""
        self._prompt = prompt
        if parameters is None:
            self._retries = 0
        window = self._talk.window(prompt.text, self._session.guards.prompt.limits.room_tokens)
        while True:
            report, code = await self._turn(prompt, window, parameters)
            error = report.error
            if not (isinstance(error, RequestRefused) and error.is_too_long and not report.text):
                return code
            shorter = self._talk.shorten(window, prompt.text)
            if shorter is None:
                return code
            window = shorter

    async def _turn(self, prompt: Assembled, window: Window, parameters: Parameters | None) -> tuple[RunReport, int]:
        session, settings = self._session, self._session.settings
        turn = Turn(
            prompt.text,
            monotonic(),
            None if settings.timeout_s is None else monotonic() + settings.timeout_s,
            render_options(settings, session.guards, mode=None, quiet=self._quiet, raw=bool(self._options["raw"])),
            earlier=window.messages,
            parts=prompt.parts,
            system=self._talk.system,
            notes=[left_out_note(window)],
            conversation=self._cid,
            parameters=parameters,
        )
        report = await turn.run(session, self._opener(session))
        self._figures.add(report)
        if isinstance(report.error, Cancelled):
            self._signals.press()
        if usage := (report.usage or {}).get("prompt_tokens"):
            self._talk.observe(window, prompt.text, usage)
        whole = report.outcome == "complete" and report.finish_reason != "length"
        self._talk.add(prompt.text, report.text, is_whole=whole, run_id=turn.run_id)
        self._is_answered = bool(report.text)
        # The last newline may be the first thing that nobody took.
        return report, OutputClosed.exit_code if turn.output_closed else report.exit_code

    def _opener(self, session: Session) -> Opener:
        target = session.choice.target
        if target not in self._openers:
            self._openers[target] = session.opener()
        return self._openers[target]

    async def _obey(self, typed: Typed) -> int:
        argument = typed.argument
        match typed.name:
            case "help":
                self._say(*help_lines())
            case "model":
                self._model(argument)
            case "system":
                self._system(argument)
            case "file":
                self._file(argument)
            case "guard":
                self._guard(argument)
            case "retry":
                return await self._retry()
            case "undo":
                self._undo()
            case "stats":
                self._say(*self._figures.lines(self._openers.values()))
            case "save":
                path = write_conversation(Path(argument), self._talk, model=self._session.choice.target.name)
                self._say(f"saved {counted(len(self._talk.exchanges), 'exchange')} in {str(path)!r}")
            case "load":
                self._load(Path(argument))
            case "quit":
                raise EOFError
        return 0

    def _model(self, name: str) -> None:
        if name:
            flags, environment, server = self._servers.changes(name, self._session.loaded.targets)
            self._change({**flags, "fallback": self._other_fallbacks(name)}, environment)
            self._servers.remember(server, self._session.loaded, self._session.choice.target)
            self._talk.meet_another_model()
        target = self._session.choice.target
        without = " without your key, which is meant for another host" if self._servers.is_key_withheld else ""
        self._say(f"asking {target.name}{'' if target.is_embedded else without}")

    def _other_fallbacks(self, name: str) -> tuple[str, ...]:
        return tuple(other for other in self._options["fallback"] if other.casefold() != name.casefold())

    def _system(self, text: str) -> None:
        if text:
            self._talk.system = None if text == "-" else text
        self._say(f"system prompt: {self._talk.system}" if self._talk.system else "no system prompt")

    def _file(self, name: str) -> None:
        if name == "-":
            self._files.clear()
        elif name:
            limit_chars = self._session.settings.prompt_limit_chars
            # Nothing else goes on meanwhile, so a pipe has little time.
            self._files.append(read_file(name, limit_chars=limit_chars, deadline_s=monotonic() + _PIPE_S))
        sizes = [f"{file.source!r} ({counted(len(file.text), 'character')})" for file in self._files]
        self._say(f"with the next prompt: {', '.join(sizes)}" if sizes else "no file is attached")

    def _guard(self, what: str) -> None:
        if what in ("on", "off"):
            # A pack that was typed would guard the answers whatever else is said.
            self._change({"guardrails": what == "on", "guard": self._typed["guard"] if what == "on" else None})
        elif what:
            packs = tuple(filter(None, map(str.strip, what.split(","))))
            if not packs:
                raise UsageProblem("/guard got no name", hint="/guard on, /guard off, or names of packs with commas")
            self._change({"guardrails": None, "guard": packs})
        self._say(self._guarded())

    def _guarded(self) -> str:
        """What guards the answers. Raises as `Guards` does."""
        names, toxicity = ", ".join(self._session.guards.packs), toxicity_mode(self._session.settings)
        judged = "" if toxicity == "off" else f"; toxic sentences: {toxicity}"
        return (f"answers are guarded by {names}" if names else "answers are not guarded") + judged

    def _change(self, changes: Mapping[str, object], environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Other settings from now on, as if they had been typed at the start. Raises AppError; then all stays."""
        flags = {**self._flags, **changes}
        loaded = load(flags, environ={**os.environ, **environment}, config_file=self._config)
        loaded = self._servers.without_foreign_key(loaded)
        session = Session(
            loaded,
            allow_secrets=bool(self._options["allow_secrets"]),
            progress=self._progress,
            other_keys=self._own_keys,
        )
        known = self._sessions.setdefault(session.choice.target, session)
        try:
            known.reguard(loaded)
        except AppError:
            if known is session:
                del self._sessions[session.choice.target]
            raise
        note(*(line for line in loaded.warnings if line not in self._warned), quiet=self._quiet)
        self._warned += loaded.warnings
        self._flags, self._session = flags, known
        if session.choice.fell_back is not None:
            note(session.choice.warning, quiet=self._quiet)

    async def _retry(self) -> int:
        if self._prompt is None:
            raise UsageProblem("there is no prompt to ask again", hint="type one")
        replaced = self._talk.undo() if self._is_answered else None
        self._retries += 1
        code = await self._ask(self._prompt, self._other_parameters())
        if replaced is not None and self._is_answered:
            self._detach(replaced)
        elif replaced is not None:
            self._talk.exchanges.append(replaced)
            self._is_answered = True
            note("no new answer: the earlier one stays", quiet=self._quiet)
        return code

    def _other_parameters(self) -> Parameters:
        """With another seed, where one decides: the same request would get the same answer."""
        parameters, target = self._session.guards.parameters, self._session.choice.target
        seed = EMBEDDED_SEED if parameters.seed is None and target.is_embedded else parameters.seed
        return parameters if seed is None else dataclasses.replace(parameters, seed=seed + self._retries)

    def _undo(self) -> None:
        forgotten = self._talk.undo()
        if forgotten is None:
            raise UsageProblem("there is nothing to undo", hint="type a prompt")
        self._detach(forgotten)
        self._go_on_from_newest()
        self._say(f"forgotten; {counted(len(self._talk.exchanges), 'exchange')} left")

    def _go_on_from_newest(self) -> None:
        """`/retry` asks the prompt of the newest exchange."""
        newest = self._talk.exchanges[-1] if self._talk.exchanges else None
        self._prompt = Assembled(newest.prompt) if newest is not None else None
        self._is_answered, self._retries = newest is not None, 0

    def _detach(self, exchange: Exchange) -> None:
        """*exchange* is no part of the kept conversation any more."""
        path = history_path()
        if exchange.run_id and self._keeps and path is not None:
            with History(path) as history:
                history.detach(exchange.run_id)
                note(history.take_warning(), quiet=self._quiet)

    def _load(self, path: Path) -> None:
        self._talk = read_conversation(path)
        self._go_on_from_newest()
        # What was read is in no history: a conversation of which only the rest is there would be another one.
        self._cid = new_conversation_id()
        self._say(f"loaded {counted(len(self._talk.exchanges), 'exchange')} from {str(path)!r}")
