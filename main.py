"""KayGraph Streaming LLM, as it is typed: `python main.py`. The commands stand in commands/cli.py.

Only click is imported here and there, so that `--help` and usage errors answer at once.
"""

from __future__ import annotations

import sys

from commands.startup import STARTED_S, prepare_process, use_own_environment

if __name__ == "__main__":
    prepare_process()

try:
    from commands.cli import COMMANDS, cli
    from commands.ending import run_command_line
    from utils.cheaper_openai import make_import_cheaper
except ModuleNotFoundError as error:  # pragma: no cover - needs a Python without the packages
    use_own_environment(error)
    raise

__all__ = ["COMMANDS", "cli", "main"]


def main(args: list[str] | None = None) -> int:
    """Run the program; the exit code."""
    return run_command_line(sys.argv[1:] if args is None else args, STARTED_S)


if __name__ == "__main__":
    make_import_cheaper()
    sys.exit(main())
