"""What is around the program: the interpreter, the packages and the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from utils.diagnosis.findings import EXIT_CONFIG, Finding, Situation

__all__ = ["REQUIREMENTS", "check_packages", "check_python", "check_terminal"]

REQUIREMENTS = {
    "openai": ">=3.50,<4",
    "httpx2": ">=2,<3",
    "click": ">=8.2,<9",
    "rich": ">=14,<16",
    "prompt-toolkit": ">=3.0.50,<4",
    "pydantic": ">=2.9,<3",
    "msgspec": ">=0.19,<1",
    "llguidance": ">=1.9.1,<2",
    "xllamacpp": ">=2026.10",
}
"""What a run needs, with the bounds of pyproject.toml."""


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
