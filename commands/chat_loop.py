"""The loop of a chat: read, ask, keep; and what its commands do."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.chat_commands import COMMANDS, Typed, help_lines, parse
from commands.chat_figures import ChatFigures
from commands.chat_files import read_conversation, write_conversation
from commands.continued import continued, left_out_note, new_conversation_id
from commands.turn import Turn, note, render_options
from utils.clock import monotonic
from utils.conversation import Conversation, Window
from utils.errors import AppError, Cancelled, OutputClosed, RequestRefused, Terminated, UsageProblem
from utils.guardrails.policy import compile_rules
from utils.guardrails.redactor import cleaned
from utils.history import History, history_path
from utils.render.chat_input import open_reader
from utils.render.figures import counted
from utils.run_context import EMBEDDED, Parameters, Target
from utils.session import Session
from utils.settings import EMBEDDED_SEED, Loaded, load
from utils.settings_sources import model_and_url
from utils.state_store import state_directory

if TYPE_CHECKING:
    from utils.embedded_model.fetch import ProgressCallback
    from utils.resilience.resilient_stream import Opener
    from utils.run_report import RunReport

__all__ = ["ChatLoop"]

_TWICE_S = 1.0
"""A Ctrl-C so soon after the one that ended an answer leaves."""


class ChatLoop:
    """One chat. `run` reads prompts until they end; the exit code is 0, or that of the last answer for a pipe.

    Targets that were asked once keep their breakers, limits and figures when another model is asked meanwhile.
    """

    def __init__(
        self,
        session: Session,
        *,
        flags: Mapping[str, object],
        options: Mapping[str, Any],
        config: Path | None,
        started_s: float,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._session = session
        self._sessions: dict[Target, Session] = {session.choice.target: session}
        self._openers: dict[Target, Opener] = {}
        self._flags = dict(flags)
        self._options, self._config, self._progress = options, config, progress
        self._started_s: float | None = started_s
        kept = continued(newest=options["continue_newest"], cid=options["cid"])
        self._is_continued = kept is not None
        self._cid, self._talk = kept or (new_conversation_id(), Conversation())
        if session.settings.system is not None:
            self._talk.system = session.settings.system
        self._figures = ChatFigures()
        self._run_ids: list[str] = [""] * len(self._talk.exchanges)
        """The history's name of each exchange; "" for those of an earlier chat."""
        self._prompt: str | None = None
        """The newest prompt, also if it got no answer."""
        self._retries = 0
        self._cancelled_s = -_TWICE_S
        """When the newest answer was cancelled."""

    async def run(self) -> int:
        """Read and answer until the input ends. Raises KeyboardInterrupt if the user leaves by Ctrl-C."""
        settings = self._session.settings
        directory = state_directory() if settings.log_text else None
        reader = open_reader(
            [f"/{name}" for name in COMMANDS],
            limit_chars=settings.prompt_limit_chars,
            kept_in=None if directory is None else directory / "chat_input",
            cleaned=self._cleaned,
        )
        # What a bad rule pack costs is a message before the first line.
        note(*self._session.loaded.warnings, quiet=self._quiet)
        if reader.is_interactive:
            self._welcome()
        code, is_leaving = 0, False
        try:
            while True:
                try:
                    line = await reader.read()
                except EOFError:
                    return 0 if reader.is_interactive else code
                except KeyboardInterrupt:
                    if is_leaving or monotonic() - self._cancelled_s < _TWICE_S:
                        return Cancelled.exit_code
                    is_leaving = True
                    self._say("Ctrl-C again leaves, and so does Ctrl-D")
                    continue
                is_leaving = False
                try:
                    typed = parse(line)
                    if isinstance(typed, Typed):
                        if typed.name == "quit":
                            return 0 if reader.is_interactive else code
                        code = await self._obey(typed) or code
                    elif typed.strip():
                        code = await self._ask(typed)
                except AppError as error:
                    self._fail(error)
                    code = error.exit_code
                if code in (Terminated.exit_code, OutputClosed.exit_code):
                    return code
        finally:
            for session in self._sessions.values():
                await session.aclose()

    @property
    def _quiet(self) -> bool:
        return bool(self._options["quiet"])

    def _welcome(self) -> None:
        settings = self._session.settings
        kept = "texts are kept in the history" if self._keeps else "nothing is kept but /save (--log-text keeps it)"
        lines = [f"chat with {self._session.choice.target.name}; /help, Ctrl-D leaves; {kept}"]
        if self._is_continued:
            lines.append(f"going on with {self._cid}: {counted(len(self._talk.exchanges), 'exchange')}")
        if settings.log and settings.log_text and not self._quiet:
            lines.append(f"this conversation is {self._cid}")
        if not self._quiet:
            self._say(*lines)

    @property
    def _keeps(self) -> bool:
        return self._session.settings.log and self._session.settings.log_text

    def _say(self, *lines: str) -> None:
        for line in lines:
            click.echo(line, err=True)

    def _fail(self, error: AppError) -> None:
        self._say(f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []))

    def _cleaned(self, text: str) -> str:
        key = self._session.settings.api_key
        rules = compile_rules(("pii", "secrets"), own_keys=(key.get_secret_value(),) if key is not None else ())
        return cleaned(text, rules)

    async def _ask(self, prompt: str, parameters: Parameters | None = None) -> int:
        """One turn; the exit code of its run. If the server finds the conversation too long, half of it is left out."""
        self._prompt = prompt
        if parameters is None:
            self._retries = 0
        window = self._talk.window(prompt, self._session.guards.prompt.limits.room_tokens)
        while True:
            report = await self._turn(prompt, window, parameters)
            error = report.error
            kept = len(window.messages) // 2
            if not (isinstance(error, RequestRefused) and error.is_too_long and kept and not report.text):
                return report.exit_code
            window = self._talk.newest(kept // 2)

    async def _turn(self, prompt: str, window: Window, parameters: Parameters | None) -> RunReport:
        session, settings = self._session, self._session.settings
        started_s, self._started_s = self._started_s or monotonic(), None
        turn = Turn(
            prompt,
            started_s,
            None if settings.timeout_s is None else monotonic() + settings.timeout_s,
            render_options(settings, session.guards, mode=None, quiet=self._quiet, raw=bool(self._options["raw"])),
            earlier=window.messages,
            system=self._talk.system,
            notes=[left_out_note(window)],
            conversation=self._cid,
            parameters=parameters,
        )
        report = await turn.run(session, self._opener(session))
        self._figures.add(report)
        if isinstance(report.error, Cancelled):
            self._cancelled_s = monotonic()
        if usage := (report.usage or {}).get("prompt_tokens"):
            self._talk.observe(window, prompt, usage)
        before = len(self._talk.exchanges)
        whole = report.outcome == "complete" and report.finish_reason != "length"
        self._talk.add(prompt, report.text, is_whole=whole)
        self._run_ids += [turn.run_id] * (len(self._talk.exchanges) - before)
        return report

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
        return 0

    def _model(self, name: str) -> None:
        if name:
            model, url = model_and_url(name)
            changes: dict[str, object] = {"model": model or None}
            # A name alone is a model of the server that is asked now; the embedded one needs no server.
            if url or model == EMBEDDED:
                changes["base_url"] = url or None
            self._change(changes)
        self._say(f"asking {self._session.choice.target.name}")

    def _system(self, text: str) -> None:
        if text:
            self._talk.system = None if text == "-" else text
        self._say(f"system prompt: {self._talk.system}" if self._talk.system else "no system prompt")

    def _guard(self, what: str) -> None:
        if what in ("on", "off"):
            self._change({"guardrails": what == "on", "guard": None})
        elif what:
            self._change({"guardrails": None, "guard": tuple(name.strip() for name in what.split(",") if name.strip())})
        packs = ", ".join(self._session.guards.packs)
        self._say(f"answers are guarded by {packs}" if packs else "answers are not guarded")

    def _change(self, changes: Mapping[str, object]) -> None:
        """Other settings from now on, as if they had been typed at the start. Raises AppError; then all stays."""
        flags = {**self._flags, **changes}
        loaded: Loaded = load(flags, environ=os.environ, config_file=self._config)
        session = Session(loaded, allow_secrets=bool(self._options["allow_secrets"]), progress=self._progress)
        known = self._sessions.get(session.choice.target)
        if known is None:
            assert session.guards
            self._sessions[session.choice.target] = session
        else:
            known.reguard(loaded)
            session = known
        self._flags, self._session = flags, session
        if session.choice.fell_back is not None:
            note(session.choice.warning, quiet=self._quiet)

    async def _retry(self) -> int:
        if self._prompt is None:
            raise UsageProblem("there is no prompt to ask again", hint="type one")
        prompt = self._prompt
        if self._talk.exchanges and self._talk.exchanges[-1].prompt == prompt:
            self._forget_newest()
        self._retries += 1
        return await self._ask(prompt, self._other_parameters())

    def _other_parameters(self) -> Parameters:
        """With another seed, where one decides: the same request would get the same answer."""
        parameters, target = self._session.guards.parameters, self._session.choice.target
        seed = EMBEDDED_SEED if parameters.seed is None and target.is_embedded else parameters.seed
        return parameters if seed is None else dataclasses.replace(parameters, seed=seed + self._retries)

    def _undo(self) -> None:
        if not self._talk.exchanges:
            raise UsageProblem("there is nothing to undo", hint="type a prompt")
        self._forget_newest()
        self._prompt = self._talk.exchanges[-1].prompt if self._talk.exchanges else None
        self._say(f"forgotten; {counted(len(self._talk.exchanges), 'exchange')} left")

    def _forget_newest(self) -> None:
        self._talk.undo()
        run_id = self._run_ids.pop()
        path = history_path()
        if run_id and self._keeps and path is not None:
            with History(path) as history:
                history.detach(run_id)

    def _load(self, path: Path) -> None:
        self._talk = read_conversation(path)
        self._run_ids = [""] * len(self._talk.exchanges)
        self._prompt = self._talk.exchanges[-1].prompt if self._talk.exchanges else None
        # What was read is in no history: a conversation of which only the rest is there would be another one.
        self._cid = new_conversation_id()
        self._say(f"loaded {counted(len(self._talk.exchanges), 'exchange')} from {str(path)!r}")
