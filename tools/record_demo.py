"""Records the program in a real terminal as an animated SVG: what README.md shows.

    python tools/record_demo.py docs/demo.svg

Runs the command below with the embedded model, follows the screen with a terminal emulator (pyte), and writes one text
element per row and interval in which the row stays the same. Nothing is edited but the prompt line at the top. The
recording ends with the program and is repeated after a pause.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (
    *("--enable-guardrails", "--simulate-failures", "--monitor-performance", "--seed", "3", "--max-tokens", "90"),
    "Write a short letter from bob@example.com about a lighthouse.",
)
COLUMNS, ROWS = 92, 28
FRAME_S = 0.125
PAUSE_S = 5.0
CELL_W, CELL_H, PAD = 8.4, 18, 12
COLORS = {
    "red": "#ff7b72", "green": "#7ee787", "brown": "#d29922", "blue": "#79c0ff", "magenta": "#d2a8ff",
    "cyan": "#76e3ea", "white": "#f0f6fc", "black": "#6e7681", "default": "#d6dee6",
}  # fmt: skip

Style = tuple[str, bool, bool]
Row = tuple[tuple[str, Style], ...]
"""Runs of text with (colour, bold, dim)."""


@dataclass
class Recording:
    """Every row's contents with the instants (seconds) from which they stood there."""

    rows: list[list[tuple[float, Row]]] = field(default_factory=lambda: [[(0.0, ())] for _ in range(ROWS)])
    seconds: float = 0.0

    def take(self, screen: pyte.Screen, now: float) -> None:
        """Note what the screen shows at *now*."""
        for number in range(ROWS):
            row = _row(screen, number)
            if self.rows[number][-1][1] != row:
                self.rows[number].append((now, row))
        self.seconds = now


def _row(screen: pyte.Screen, number: int) -> Row:
    cells = [screen.buffer[number][column] for column in range(COLUMNS)]
    while cells and cells[-1].data == " ":
        cells.pop()
    runs: list[tuple[str, Style]] = []
    for cell in cells:
        style = (cell.fg, cell.bold, getattr(cell, "dim", False))
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + cell.data, style)
        else:
            runs.append((cell.data, style))
    return tuple(runs)


def record(arguments: tuple[str, ...]) -> Recording:
    """Run the program behind a pseudo-terminal. Raises SystemExit if it fails."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    typed = f'$ python main.py {" ".join(arguments[:-1])} \\\r\n    "{arguments[-1]}"\r\n'
    stream.feed(typed.encode())
    recording = Recording()
    recording.take(screen, 0.0)
    with tempfile.TemporaryDirectory() as home:
        pid, fd = pty.fork()
        if pid == 0:
            environment = {**os.environ, "TERM": "xterm-256color", "KAYGRAPH_STATE_DIR": home, "LANG": "C.UTF-8"}
            for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "NO_COLOR", "CI", "COLUMNS", "LINES"):
                environment.pop(name, None)
            time.sleep(0.2)  # until the size of the terminal is set
            program = [sys.executable, str(ROOT / "main.py"), *arguments]
            os.execve(sys.executable, program, environment)  # noqa: S606 - our own interpreter and arguments
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        started_s = time.monotonic()
        next_s = 0.0
        while True:
            now = time.monotonic() - started_s
            if now >= next_s:
                recording.take(screen, now)
                next_s = now + FRAME_S
            try:
                if select.select([fd], [], [], FRAME_S)[0]:
                    stream.feed(os.read(fd, 65536))
            except OSError:  # Linux tells the end of a terminal like this
                break
        recording.take(screen, time.monotonic() - started_s)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        raise SystemExit(f"the program ended with {code}")
    return recording


def to_svg(recording: Recording) -> str:
    """The recording as a picture that needs no script."""
    whole_s = recording.seconds + PAUSE_S
    width, height = round(COLUMNS * CELL_W + 2 * PAD), ROWS * CELL_H + 2 * PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="14">',
        "<title>A recording of the program in a terminal</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
    ]
    for number, contents in enumerate(recording.rows):
        y = PAD + CELL_H * number + 14
        for index, (begin, row) in enumerate(contents):
            if not row:
                continue
            end = contents[index + 1][0] if index + 1 < len(contents) else whole_s
            parts.append(_text(row, y, begin, end, whole_s))
    return "\n".join([*parts, "</svg>", ""])


def _text(row: Row, y: int, begin: float, end: float, whole_s: float) -> str:
    spans, column = [], 0
    for text, (color, bold, dim) in row:
        weight = ' font-weight="700"' if bold else ""
        faint = ' opacity=".6"' if dim else ""
        # Each run has its own place and length: a viewer's font may be wider than ours.
        spans.append(
            f'<tspan x="{PAD + column * CELL_W:.1f}" textLength="{len(text) * CELL_W:.1f}" '
            f'fill="{COLORS.get(color, COLORS["default"])}"{weight}{faint}>{html.escape(text)}</tspan>'
        )
        column += len(text)
    body = "".join(spans)
    if begin <= 0 and end >= whole_s:
        return f'<text y="{y}" xml:space="preserve">{body}</text>'
    at, until = begin / whole_s, min(1.0, end / whole_s)
    values, times = ["none", "inline"], [0.0, at]
    if begin <= 0:
        values, times = ["inline"], [0.0]
    if until < 1:
        values.append("none")
        times.append(until)
    shown = ";".join(f"{instant:.4f}" for instant in times)
    return (
        f'<text y="{y}" xml:space="preserve" display="none">{body}<animate attributeName="display" '
        f'dur="{whole_s:.1f}s" values="{";".join(values)}" keyTimes="{shown}" calcMode="discrete" '
        'repeatCount="indefinite"/></text>'
    )


def main() -> None:
    """Write the recording into the file that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("arguments", nargs="*", help="of the program, instead of the usual ones")
    chosen = parser.parse_args()
    recording = record(tuple(chosen.arguments) or COMMAND)
    chosen.file.write_text(to_svg(recording), encoding="utf-8")
    sys.stderr.write(f"{chosen.file}: {recording.seconds:.1f} s, {chosen.file.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
