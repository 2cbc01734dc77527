"""One run from its options to its exit code: settings, prompt, target, flow, sinks.

The order matters for the first token: the embedded child is spawned before the heavy imports, so that the model loads
while they do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.execution import flags_of, run_loop
from commands.prompt_input import DEMO_PROMPT, GUARDED_DEMO_PROMPT, PromptText, read_prompt
from utils.clock import monotonic
from utils.errors import OutputClosed, UsageProblem
from utils.run_report import RunReport
from utils.session import Session
from utils.settings import load

if TYPE_CHECKING:
    from utils.conversation import Conversation, Window
    from utils.embedded_model.server import EmbeddedServer
    from utils.settings import Loaded
    from utils.templates import Filled

__all__ = ["OneRun"]


class OneRun:
    """The parts of one run, in the order in which they come to be."""

    def __init__(self, options: Mapping[str, Any], started_s: float, started_model: EmbeddedServer | None) -> None:
        self._options = options
        self._started_model = started_model
        self._started_s = started_s
        loaded, template = self._load()
        self._loaded, self._settings = loaded, loaded.settings
        self._template = None if template is None else template.prompt
        self._extract = bool(template and template.extract) if options["extract"] is None else bool(options["extract"])
        total_s = loaded.settings.timeout_s
        self._deadline_s = None if total_s is None else started_s + total_s
        self._talk: tuple[str, Conversation] | None = None
        if options["continue_newest"] or options["cid"] is not None:
            from commands.continued import continued

            self._talk = continued(newest=options["continue_newest"], cid=options["cid"])

    def _load(self) -> tuple[Loaded, Filled | None]:
        options = self._options
        config_file = Path(options["config"]) if options["config"] else None
        if options["template"] is None and not options["template_parameters"]:
            return load(flags_of(options), environ=os.environ, config_file=config_file), None
        from commands.templated import load_with_template

        return load_with_template(
            flags_of(options),
            environ=os.environ,
            config_file=config_file,
            template=options["template"],
            parameters=options["template_parameters"],
        )

    def execute(self) -> int:
        """Run; the exit code. Raises AppError if no run came about."""
        if self._options["dry_run"]:
            session = Session(self._loaded, allow_secrets=bool(self._options["allow_secrets"]))
            return self._dry_run(session, self._read_prompt(session))
        _check_place(self._options["report_file"])
        from utils.render.fetch_progress import FetchProgressBar

        with ExitStack() as stack:
            progress = stack.enter_context(FetchProgressBar())
            session = Session(
                self._loaded,
                allow_secrets=bool(self._options["allow_secrets"]),
                progress=progress,
                started_model=self._started_model,
            )
            stack.callback(session.kill)
            session.start_early()
            prompt = self._read_prompt(session)
            return run_loop(self._stream(session, prompt), leave=stack.close)

    def _read_prompt(self, session: Session) -> PromptText:
        # Before standard input is read: what a bad pack or schema costs is a message, and not the input.
        is_guarded = session.guards.rules is not None
        return read_prompt(
            self._options["prompt"],
            self._options["prompt_option"],
            limit_chars=self._settings.prompt_limit_chars,
            demo=GUARDED_DEMO_PROMPT if is_guarded else DEMO_PROMPT,
            files=self._options["files"],
            template=self._template,
            deadline_s=self._deadline_s,
        )

    def _talk_so_far(self, session: Session, prompt: PromptText) -> tuple[str, Conversation, Window]:
        """The conversation that the prompt goes on with, with the system prompt in force, and what is sent of it."""
        from commands.continued import new_conversation_id
        from utils.conversation import Conversation

        cid, talk = self._talk or (new_conversation_id(), Conversation())
        if self._settings.system is not None:
            talk.system = self._settings.system
        return cid, talk, talk.window(prompt.text, session.guards.prompt.limits.room_tokens)

    def _dry_run(self, session: Session, prompt: PromptText) -> int:
        from commands.continued import left_out_note
        from commands.dry_run import DryRun
        from commands.turn import note
        from utils.guardrails.prompt_guard import check_prompt
        from utils.run_context import Request, RunContext

        _, talk, window = self._talk_so_far(session, prompt)
        request = Request(
            prompt=prompt.text,
            context=RunContext(clock=monotonic, started_s=self._started_s),
            system=talk.system,
            parameters=session.guards.parameters,
            earlier=window.messages,
        )
        verdict = check_prompt(prompt.text, talk.system, session.guards.prompt, prompt.parts)
        dry_run = DryRun(session, request, verdict)
        notes = (*self._loaded.warnings, prompt.notice, left_out_note(window), session.choice.warning)
        note(*notes, quiet=self._options["quiet"])
        if self._options["mode"] is not None:
            dry_run.print_json()
        else:
            dry_run.show()
        return dry_run.exit_code

    async def _stream(self, session: Session, prompt: PromptText) -> int:
        from commands.continued import left_out_note
        from commands.turn import Turn, render_options
        from utils.render.output import silence_stdout

        options, settings = self._options, self._settings
        report_file = options["report_file"]
        cid, talk, window = self._talk_so_far(session, prompt)
        turn = Turn(
            prompt.text,
            self._started_s,
            self._deadline_s,
            render_options(
                settings,
                session.guards,
                mode=options["mode"],
                quiet=options["quiet"],
                raw=options["raw"],
                extract=self._extract,
            ),
            earlier=window.messages,
            parts=prompt.parts,
            system=talk.system,
            report_path=Path(report_file) if report_file else None,
            notes=(*self._loaded.warnings, prompt.notice, left_out_note(window), self._unkept()),
            conversation=cid,
        )
        try:
            report = await turn.run(session, session.opener(prompt.text))
        finally:
            await session.aclose()
        self._say_last(session, report)
        if turn.output_closed:
            silence_stdout()
            return OutputClosed.exit_code
        return report.exit_code

    def _unkept(self) -> str | None:
        if self._talk is None or (self._settings.log and self._settings.log_text):
            return None
        return "this turn will not be part of the conversation: --log-text keeps it"

    def _say_last(self, session: Session, report: RunReport) -> None:
        """What explains the answer that came."""
        from commands.turn import note

        settings, target, quiet = self._settings, session.choice.target, self._options["quiet"]
        is_unasked = target.is_embedded and settings.model is None and settings.gguf is None
        if is_unasked and report.text and report.exit_code == 0:
            note(f"{target.name} answered; OPENAI_API_KEY or --base-url asks another model", quiet=quiet)
        plan = session.plan
        if plan is None:
            return
        from utils.render.recovery import recovery_summary

        doubled = plan.statistics().by_kind.get("duplicate", 0)
        note(recovery_summary(report, injected=plan.injected, doubled=doubled), quiet=quiet)
        if plan.injected < plan.planned:
            missing = plan.planned - plan.injected
            note(f"the answer ended before {missing} of the planned failures could happen", quiet=quiet)


def _check_place(report_file: str | None) -> None:
    """Refuse a report that cannot be written before the answer is paid for; what goes wrong later is a note."""
    if report_file is None:
        return
    from utils.report.place import why_no_page

    hint = "name another file with --report"
    if report_file == "-":
        reason, hint = "- is no file", "name a file; `report last -o -` prints the page of the newest run"
    elif (trouble := why_no_page(Path(report_file))) is not None:
        reason = trouble
    elif os.path.exists(report_file) and not os.access(report_file, os.W_OK):
        reason = "permission denied"  # who made it read-only wants to keep it
    else:
        return
    raise UsageProblem(f"the report {report_file!r} cannot be written: {reason}", hint=hint)
