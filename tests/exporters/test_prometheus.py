"""The text file for node_exporter: its format, its labels, and that it is replaced as a whole."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from tests.exporters.records import PROMPT, WORDS, cut_run, refused_run, run_record, whole_run
from utils.errors import Unreachable
from utils.events import Finished, Opened
from utils.exporters.prometheus import textfile, write_textfile
from utils.run_record import RunRecord

SAMPLE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\} (\S+)$')


def samples(text: str) -> dict[str, float]:
    """`name` or `name@quantile` -> value, of a text that is checked line by line."""
    found: dict[str, float] = {}
    announced: list[str] = []
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            announced.append(line.split()[2])
            assert len(line.split()) > 3
        elif line.startswith("#"):
            assert line == f"# TYPE {announced[-1]} gauge"
        else:
            match = SAMPLE.match(line)
            assert match is not None, line
            name, labels, value = match.groups()
            assert name == announced[-1]
            quantile = re.search(r'quantile="([^"]+)"', labels)
            key = f"{name}@{quantile[1]}" if quantile else name
            assert key not in found
            found[key.removeprefix("kaygraph_last_run_")] = float(value)
    assert len(set(announced)) == len(announced), "the samples of a name stand together"
    return found


def test_the_figures_of_a_whole_answer() -> None:
    text = textfile(whole_run())
    found = samples(text)
    assert found.pop("time_per_output_token_seconds") == pytest.approx(1.03 / 11)
    assert found.pop("tokens_per_second") == pytest.approx(11 / 1.03)
    assert found.pop("inter_chunk_latency_seconds@0.5") == pytest.approx(0.51)
    assert found.pop("inter_chunk_latency_seconds@0.9") == pytest.approx(0.02 + 0.9 * 0.98)
    assert found == {
        "timestamp_seconds": 1_700_000_001.8,
        "exit_code": 0,
        "simulated": 0,
        "duration_seconds": 1.55,
        "time_to_first_chunk_seconds": 0.3,
        "time_to_first_text_seconds": 0.5,
        "longest_stall_seconds": 1.0,
        "prompt_tokens": 9,
        "output_tokens": 12,
        "attempts": 1,
        "retries": 0,
        "resumes": 0,
        "fallbacks": 0,
        "redactions": 1,
    }
    labels = set(re.findall(r"\{(.*?)\}", re.sub(r',quantile="[^"]*"', "", text)))
    assert labels == {'model="gpt-4o-2024-08-06",provider="openai",outcome="complete"'}


def test_what_is_not_known_is_left_out() -> None:
    found = samples(textfile(refused_run(Unreachable("no route"))))
    assert found["exit_code"] == 69
    assert not [name for name in found if name.startswith(("time_to", "inter_chunk", "tokens_per", "prompt"))]


@pytest.mark.parametrize("record", [whole_run(), cut_run(), refused_run(Unreachable(PROMPT))], ids=["a", "b", "c"])
def test_neither_text_nor_address_nor_run_stands_in_it(record: RunRecord) -> None:
    text = textfile(record)
    for word in (*PROMPT.split(), *WORDS, record.facts.run_id, "127.0.0.1", "api.openai.com"):
        assert len(word) < 5 or word.strip() not in text


def test_a_name_that_is_no_name_cannot_break_the_format(tmp_path: Path) -> None:
    hostile = 'a"b\\c\nkaygraph_evil{} 1 \ud800'
    record = run_record([(0.1, Opened("m", hostile, 1)), (0.2, Finished("stop"))])
    assert samples(textfile(record))
    assert r'model="a\"b\\c\nkaygraph_evil{} 1 ' in textfile(record)
    write_textfile(record, tmp_path / "kaygraph.prom")
    assert samples((tmp_path / "kaygraph.prom").read_text(encoding="utf-8"))


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "kaygraph.prom"
    write_textfile(cut_run(), path)
    with path.open(encoding="utf-8") as reader:
        write_textfile(whole_run(), path)
        # Who had opened the old one reads it to its end.
        assert 'outcome="incomplete"' in reader.read()
    assert path.read_text(encoding="utf-8") == textfile(whole_run())
    assert [entry.name for entry in tmp_path.iterdir()] == ["kaygraph.prom"]


def test_others_may_read_it_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_textfile(whole_run(), tmp_path / "kaygraph.prom")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "kaygraph.prom").stat().st_mode) == 0o644


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.prom"
    link.symlink_to(tmp_path / "real" / "kaygraph.prom")
    write_textfile(whole_run(), link)
    assert link.is_symlink()
    assert (tmp_path / "real" / "kaygraph.prom").exists()


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.prom")
    (tmp_path / "dir.prom").mkdir()
    (tmp_path / "null.prom").symlink_to(os.devnull)
    for name, reason in (("pipe", "not a regular file"), ("null", "not a regular file"), ("dir", "a directory")):
        with pytest.raises(OSError, match=f"it is {reason}"):
            write_textfile(whole_run(), tmp_path / f"{name}.prom")
    assert stat.S_ISFIFO((tmp_path / "pipe.prom").stat().st_mode)
    with pytest.raises(OSError, match="there is no directory"):
        write_textfile(whole_run(), tmp_path / "none" / "kaygraph.prom")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dir.prom", "null.prom", "pipe.prom"]


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("mine")
    (tmp_path / "disk.prom").write_text("# HELP node_disk_io_now Of another program.\n")
    (tmp_path / "link.prom").symlink_to(tmp_path / "LICENSE")
    with pytest.raises(OSError, match=r"its name does not end in \.prom"):
        write_textfile(whole_run(), tmp_path / "LICENSE")
    for name in ("disk.prom", "link.prom"):
        with pytest.raises(OSError, match="it is there and is no file of such figures"):
            write_textfile(whole_run(), tmp_path / name)
    assert (tmp_path / "LICENSE").read_text() == "mine"
    assert "node_disk" in (tmp_path / "disk.prom").read_text()


def test_a_link_that_lies_in_wait_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".kaygraph.prom.{os.getpid()}.new").symlink_to(victim)
    write_textfile(whole_run(), tmp_path / "kaygraph.prom")
    assert victim.read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kaygraph.prom", "victim"]
