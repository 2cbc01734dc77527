"""How each program is asked: its command line, its variables, its files. `{url}`, `{key}` and `{model}` are filled in.

Every program runs with its defaults, in a home directory of its own that is new for every run; what is set says where
the server is. shell-gpt's cache is off, since an answer from it would come from no server. No program can reach
another machine: a proxy that refuses stands between.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["OURS", "PEERS", "Client", "pins_of", "version_of"]

ROOT = Path(__file__).resolve().parents[2]
_NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


@dataclass(frozen=True, slots=True)
class Client:
    """One program. *command* comes before the prompt; *from_stdin* instead of it, if all of it is piped (None: never).

    The first word of *command* is a file in the `bin` of the program's environment, unless it is a path. *note* is
    printed under the table.
    """

    id: str
    title: str
    command: tuple[str, ...]
    from_stdin: tuple[str, ...] | None
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def argv(self, python: Path, values: Mapping[str, str]) -> tuple[str, ...]:
        """The command line without a prompt; *python* is that of the environment."""
        program, *rest = self.command
        path = program if program.startswith("/") else str(python.parent / program)
        return (path, *(word.format_map(values) for word in rest))

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        return {**_NO_NETWORK, **{name: text.format_map(values) for name, text in self.env.items()}}

    def write_files(self, home: Path, values: Mapping[str, str]) -> None:
        for name, text in self.files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format_map(values), encoding="utf-8")


OURS = Client(
    "ours",
    "this project",
    (sys.executable, str(ROOT / "main.py"), "--base-url", "{url}", "--model", "{model}"),
    ("-",),
    {"OPENAI_API_KEY": "{key}"},
)

PEERS: dict[str, Client] = {
    client.id: client
    for client in (
        Client(
            "llm",
            "llm",
            ("llm", "-m", "{model}"),
            (),
            {"OPENAI_API_KEY": "{key}", "LLM_USER_PATH": "llm"},
            {
                "llm/extra-openai-models.yaml": "- model_id: {model}\n  model_name: {model}\n"
                '  api_base: "{url}"\n  api_key_name: openai\n'
            },
            "the server is a model of its `extra-openai-models.yaml`",
        ),
        Client(
            "shell_gpt",
            "shell-gpt",
            ("sgpt", "--no-cache", "--model", "{model}"),
            (),
            {"OPENAI_API_KEY": "{key}", "API_BASE_URL": "{url}"},
            note="with `click`, which it imports but does not declare; its cache is off; with `--no-md` it streams "
            "into pipes",
        ),
        Client(
            "clai",
            "clai",
            ("clai", "-m", "openai-chat:{model}"),
            None,
            {"OPENAI_API_KEY": "{key}", "OPENAI_BASE_URL": "{url}"},
            note="asked through chat completions; it has no way to take its whole prompt from a pipe",
        ),
    )
}


def pins_of(peer: str) -> Path:
    """The file with the exact versions that *peer* is installed with."""
    return Path(__file__).parent / f"{peer}.txt"


def version_of(peer: str) -> str:
    """The version of *peer* itself, from its pins. Raises: ValueError if it is not among them."""
    for line in pins_of(peer).read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if name.replace("-", "_") == peer:
            return version
    raise ValueError(f"{peer} is not pinned")
