"""The benchmark suite: its table names what is there, and its drawing can be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from benchmarks import bench_curves, suite


def test_every_benchmark_of_the_table_exists() -> None:
    for name in suite.BENCHMARKS:
        assert (suite.HERE / f"{name}.py").is_file()
    assert set(suite.HAS_JSON) <= set(suite.BENCHMARKS)


def test_the_machine_is_told_with_its_versions() -> None:
    told = suite.machine()
    assert told["python"]
    assert told["openai"].count(".") == 2


def test_curves_are_drawn_from_zero_with_a_point_for_each_count() -> None:
    curves = {"rules": {10: [4.0, 5.0, 6.0], 100: [5.0]}, "streams": {1: [20.0], 1_000: [10.0]}}
    root = ElementTree.fromstring(bench_curves.drawing(curves))
    space = "{http://www.w3.org/2000/svg}"
    rules, streams = root.findall(f"{space}g")
    heights = [float(point.attrib["cy"]) for point in rules.iter(f"{space}circle")]
    assert heights == [heights[0], heights[0]]
    first, second = (float(point.attrib["cy"]) for point in streams.iter(f"{space}circle"))
    bottom = bench_curves._HEIGHT - bench_curves._BOTTOM
    assert abs((bottom - first) - 2 * (bottom - second)) < 0.2
    assert "100" in [text.text for text in rules.iter(f"{space}text")]
