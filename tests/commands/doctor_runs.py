"""`doctor` run in this process, and its findings by section and name."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from commands.doctor import command

__all__ = ["KEY", "findings", "run"]

KEY = "sk-proj-0123456789abcdef"


def run(*arguments: str, **environ: str) -> Result:
    result = CliRunner().invoke(command, arguments, env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stderr == ""
    return result


def findings(*arguments: str, code: int = 0, **environ: str) -> dict[tuple[str, str], dict[str, Any]]:
    result = run("--json", *arguments, **environ)
    assert result.exit_code == code, result.stdout
    answer = json.loads(result.stdout)
    assert answer["exit_code"] == code
    assert answer["ok"] is (code == 0)
    return {(row["section"], row["name"]): row for row in answer["findings"]}
