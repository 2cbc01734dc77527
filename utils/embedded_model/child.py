"""The process that runs llama.cpp; started as a script by `EmbeddedServer`, and the only importer of xllamacpp.

A process of its own because a bad parameter aborts it, and because llama.cpp finishes the running answer before it
lets go (up to 30 s): here the way out is `os._exit`.

Protocol: one JSON line of configuration on standard input; one JSON line on standard output, either
`{"base_url": ...}` once requests are served, or `{"error": ..., "kind": ...}`. Then it waits until standard input
closes, which the kernel does for a parent that dies in any way, and ends at once.
Kinds: `file` (missing, unreadable, not GGUF), `corrupt` (not the expected SHA-256), `load`, `import`.
This file imports nothing of ours: what it needs to start is what the first token waits for.
"""

import hashlib
import json
import mmap
import os
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

__all__: list[str] = []

GGUF_MAGIC = b"GGUF"
PROMPT_CACHE_MIB = 256
KEPT: list[object] = []
"""The server is never let go of: its destructor waits for a running answer, and right after the start it may hang."""


class Failure(Exception):
    """Why there will be no server: *kind* for the parent, the text for people."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Hasher(threading.Thread):
    """Hashes the file while the model loads.

    One `update` over a memory map: it runs without the interpreter lock, which the loader holds all the time.
    """

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.hex = ""

    def run(self) -> None:
        """Hash; an unreadable file leaves the empty string, which equals no hash."""
        try:
            with open(self._path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                self.hex = hashlib.sha256(content).hexdigest()
        except (OSError, ValueError):
            return


def check_magic(path: str) -> None:
    """Raise Failure unless *path* begins like a GGUF file."""
    try:
        with open(path, "rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise Failure("file", error.strerror or str(error)) from error
    if magic != GGUF_MAGIC:
        raise Failure("file", "it is not a GGUF file")


def serve(config: dict[str, Any]) -> str:
    """Load the model and listen; returns the base URL. Raises Failure."""
    path, expected = str(config["gguf"]), config["sha256"]
    check_magic(path)
    hasher = Hasher(path)
    if expected is not None:
        hasher.start()
    try:
        return load(config)
    finally:
        # Also when loading failed: a damaged file does so in many ways, and the hash tells it from a machine that
        # cannot run a good one.
        if expected is not None:
            hasher.join()
            if hasher.hex != expected:
                raise Failure("corrupt", "its SHA-256 is not the pinned one")


def load(config: dict[str, Any]) -> str:
    """Start llama.cpp's server on 127.0.0.1 and a free port."""
    try:
        import xllamacpp  # type: ignore[import-untyped]  # it ships no types
    except (ImportError, OSError) as error:
        raise Failure("import", str(error)) from error
    params = xllamacpp.CommonParams()
    params.model.path = config["gguf"]
    params.model_alias = {config["model"]}
    # llama.cpp divides the context between the slots.
    params.n_ctx = config["context"] * config["slots"]
    params.n_parallel = config["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.verbosity = -1
    params.endpoint_slots = params.endpoint_metrics = params.endpoint_props = True
    params.ui = False
    # The default echoes any origin and allows credentials: every web page could use the model and read its slots.
    params.cors_origins = "http://127.0.0.1"
    params.cors_credentials = False
    if config["api_key"] is not None:
        params.api_keys = [config["api_key"]]
    if config["cpu_only"]:
        # Fitting loads a model once more to measure it for a GPU (0.13 s of 0.37 s here); a small one needs neither.
        params.fit_params = False
        params.n_gpu_layers = 0
    # The default may grow to 8 GiB.
    params.cache_ram_mib = PROMPT_CACHE_MIB
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        raise Failure("load", f"llama.cpp cannot load it ({str(error).strip() or type(error).__name__})") from error
    KEPT.append(server)
    return f"{server.listening_address}/v1"


def main() -> int:
    """Read the configuration, serve, answer, and wait for the end of standard input; returns the exit status."""
    # Only the one line may reach the parent's pipe, whatever native code prints.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    try:
        message = {"base_url": serve(json.loads(line))}
    except Failure as failure:
        message = {"error": str(failure), "kind": failure.kind}
    # The parent may be gone already.
    with suppress(BrokenPipeError), answer:
        print(json.dumps(message), file=answer)
    if "base_url" in message:
        while os.read(0, 4096):
            pass
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)
