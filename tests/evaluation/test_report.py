"""The page and the JSON: tables in the paper's order, measured beside published, each cell where it belongs."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.evaluation.bootstrap import paired_bootstrap
from cwf_jax.evaluation.cells import Row
from cwf_jax.evaluation.published import OXFORD, OXFORD_MORE, PARIS, PARIS_MORE, TABLES
from cwf_jax.evaluation.report import (
  Measured,
  Report,
  compare,
  compare_runs,
  form_of,
  format_queries,
  format_report,
  read_results,
  to_results,
)
from cwf_jax.evaluation.settings import Settings, list_settings
from cwf_jax.evaluation.systems import SYSTEMS

QUERIES = ("all_souls_1", "bod,leian_1", "keble_1")


def _row(name, values, system=None, whitened_by="paris6k", **more):
  values = values if isinstance(values, dict) else {"mAP": values}
  defaults = {"network": "vgg16_cam", "layer": "conv5_1", "sizes": "shorter side 720", "query": "cells", "dimensions": 512}
  system = system or name.partition("@")[0].partition("+")[0]
  return Row(name, system, whitened_by=whitened_by, values=values, **{**defaults, **more})


ROWS = (
  _row("raw", [0.1, math.nan, 0.3], whitened_by="", dimensions=32),
  _row("raw+pca", [0.25, math.nan, 0.5], vectors=12, seconds=1.26),
  _row("crow@default", [0.5, math.nan, 0.5], vectors=12, left_out=3),
  Row("rmac@default", "rmac", "3 vectors are | too few\nto whiten by"),
  _row("ofa", [0.75, math.nan, 0.5], vectors=12, zero=2, odd_queries=1),
  _row("fixed", [math.nan] * 3, classes=("dome", "analog clock")),
)


def _measured(rows=ROWS, name=OXFORD, title="Oxford5k", reason=""):
  return Measured(name, title, rows, QUERIES, reason)


def _report(*measured, differences=None, settings=None):
  head = {"command": "`main.py --a=b|c`", "weights": "made"}
  return Report(measured, head, settings or Settings.preset("paper"), {"check": 0.04, "rows": 12.345}, differences or {})


def _tables(page):
  """By heading, the cells of each table's lines; every table is whole."""
  found, heading, lines = {}, "", []
  for line in [*page.splitlines(), ""]:
    if line.startswith("|"):
      lines.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    elif lines:
      assert len({len(cells) for cells in lines}) == 1, f"{heading}: lines of other lengths"
      assert set(lines[1]) == {"---"}, f"{heading}: no line below the header"
      assert heading not in found
      found[heading], lines = [lines[0], *lines[2:]], []
    heading = line.lstrip("# ") if line.startswith("#") else heading
  return found


class TestPublished:
  def test_the_numbers_are_those_of_the_paper(self):
    """As METHOD section 6 has them, checked by hand."""
    lines = {(place, line.system): line for place, table in enumerate(TABLES) for line in table.lines}
    assert lines[0, "raw"].published == {OXFORD: "0.396", PARIS: "0.526"}
    assert lines[0, "raw_cw"].published == {OXFORD: "0.420", PARIS: "0.549"}
    assert lines[0, "raw+pca"].published == {OXFORD: "0.589", PARIS: "0.662"}
    assert lines[0, "raw_cw+pca"].published == {OXFORD: "0.607", PARIS: "0.685"}
    assert lines[1, "spoc"].published == {OXFORD: "0.531", OXFORD_MORE: "0.501"}
    assert lines[1, "crow"].published == {OXFORD: "0.682", PARIS: "0.796", OXFORD_MORE: "0.632", PARIS_MORE: "0.710"}
    assert lines[1, "rmac"].published[OXFORD_MORE] == "0.616" and lines[1, "rmac"].published[PARIS] == "0.830"
    assert lines[1, "ona"].published == {OXFORD: "0.729 (0.736)", PARIS: "0.858 (0.855)"}
    assert lines[1, "ofa"].published[PARIS_MORE] == "0.727 (0.733)"
    assert lines[2, "ofa+r1000+qe5"].published[OXFORD] == "0.803 (0.801)"
    assert lines[3, "mac"].published == {OXFORD: "0.564", PARIS: "0.723"}

  def test_the_order_is_the_slides(self):
    assert [line.system for line in TABLES[1].lines] == ["spoc", "ucrow", "crow", "rmac", "bow", "razavian", "ona", "ofa"]

  def test_every_system_has_a_line_and_every_line_that_can_be_run_a_system(self):
    runnable = {line.system for table in TABLES for line in table.lines if not line.later}
    assert {name.partition("+")[0] for name in runnable} == set(SYSTEMS)
    assert {name for name in runnable if name.endswith("+pca")} == {"raw+pca", "raw_cw+pca"}
    assert all("." in number for table in TABLES for line in table.lines for number in line.published.values())


class TestPage:
  @pytest.fixture
  def tables(self):
    return _tables(format_report(_report(_measured())))

  def test_the_tables_are_those_of_the_paper_in_its_order(self):
    page = format_report(_report(_measured()))
    places = [page.index(f"\n## {table.title}\n") for table in TABLES]
    assert places == sorted(places) and page.startswith("# Oxford5k: measured beside published\n") and page.endswith("|\n")
    tables = _tables(page)
    for table in TABLES:
      assert [cells[0] for cells in tables[table.title][1:]] == [line.title for line in table.lines]

  def test_measured_stands_beside_published(self, tables):
    header, *lines = tables[TABLES[0].title]
    assert header == ["system", "row", "Oxford5k, published", "dim", "Oxford5k, measured (mAP)", "dim"]
    cells = {line[1]: line[2:] for line in lines}
    assert cells["`raw`"] == ["0.396", "512", "0.200", "32"]
    assert cells["`raw+pca`"] == ["0.589", "512", "0.375", "512"]
    assert cells["`ofa`"] == ["0.712", "512", "0.625", "512"]
    assert cells["`raw_cw`"] == ["0.420", "512", "not run", ""]
    assert cells["`ofa@resnet50`"] == ["0.699", "512", "not yet", ""]
    assert {line[4] for line in tables[TABLES[2].title][1:]} == {"not yet"}

  def test_a_row_is_called_by_its_network_and_tells_why_it_was_not_run(self, tables):
    cells = {line[1]: line[2:] for line in tables[TABLES[1].title][1:]}
    assert cells["`crow@default`"] == ["0.682", "512", "0.500", "512"]
    assert cells["`rmac@default`"] == ["0.669", "512", r"not run: 3 vectors are \| too few to whiten by", ""]
    assert {line[1]: line[2:] for line in tables[TABLES[3].title][1:]}["`fixed`"][2:] == ["no query has a positive", "512"]

  def test_a_set_without_published_numbers(self):
    tables = _tables(format_report(_report(_measured(name="toy_oxford", title="toy Oxford"))))
    header, *lines = tables[TABLES[1].title]
    assert header == ["system", "row", "toy Oxford, measured (mAP)", "dim"] and lines[-1][2:] == ["0.625", "512"]
    # Neural codes alone have a number of Holidays.
    page = format_report(_report(_measured(name="holidays", title="Holidays")))
    assert [line[2:4] for line in _tables(page)[TABLES[3].title][1:]] == [
      *[["-", ""]] * 5,
      *(["0.749", "4096"], ["0.690", ""], ["0.736", "4096"]),
    ]

  def test_distractors_stand_beside_it(self):
    more = _measured((_row("ofa", [0.5, math.nan, 0.5]),), OXFORD_MORE, "Oxford105k")
    header, *lines = _tables(format_report(_report(_measured(), more)))[TABLES[1].title]
    assert header[6:] == ["Oxford105k, published", "dim", "Oxford105k, measured (mAP)", "dim"]
    assert lines[-1][2:] == ["0.712", "512", "0.625", "512", "0.672", "512", "0.500", "512"]
    missing = Measured(OXFORD_MORE, "Oxford105k", (), QUERIES, "flickr100k is not there")
    lines = _tables(format_report(_report(_measured(), missing)))[TABLES[1].title]
    assert lines[-1][6:] == ["0.672", "512", "not run: flickr100k is not there", ""]

  def test_how_each_row_was_made(self, tables):
    header, *lines = tables["How: Oxford5k"]
    assert header == ["row", "mAP", "network, map", "sizes", "query", "dim", "whitened by (vectors)", "s"]
    assert [line[0] for line in lines] == ["`raw`", "`raw+pca`", "`crow@default`", "`ofa`", "`fixed`"]
    assert lines[0] == ["`raw`", "0.200", "vgg16_cam, conv5_1", "shorter side 720", "cells", "32", "-", "0.0"]
    assert lines[1][-3:] == ["512", "paris6k (12)", "1.3"] and lines[-1][1] == "-"
    assert "\n\nFixed list: `fixed`: dome, analog clock.\n" in format_report(_report(_measured()))

  def test_what_is_zero_or_not_finite(self):
    page = format_report(_report(_measured()))
    told = next(line for line in page.splitlines() if line.startswith("Zero or not finite"))
    assert "Oxford5k, `crow@default`: 3 of vectors left out of the whitening" in told
    assert "Oxford5k, `ofa`: 2 zero, 1 of queries" in told and "`raw`" not in told
    assert "Zero or not finite: no descriptor, no vector." in format_report(_report(_measured(ROWS[:2])))

  def test_head_settings_and_time(self, tables):
    assert tables["Oxford5k: measured beside published"][1:] == [["command", r"`main.py --a=b\|c`"], ["weights", "made"]]
    settings = Settings.preset("reference", {"ties": "shuffled"})
    _, *lines = _tables(format_report(_report(_measured(), settings=settings)))["Settings"]
    assert [line[0] for line in lines] == [f"`{field.name}`" for field in list_settings()]
    cells = {line[0]: line[1:] for line in lines}
    assert cells["`ties`"][:4] == ["shuffled (set)", "shuffled", "reversed", "12"]
    assert cells["`size_rule`"][:4] == ["fixed_frame", "shorter_side", "fixed_frame", "2, 8"]
    assert tables["Time"][1:] == [["check", "0.0"], ["rows", "12.3"]]

  def test_several_metrics(self):
    rows = (_row("ofa", {"N-S": [4.0, 3.0, 1.0], "mP@1": [1.0, 1.0, math.nan]}),)
    page = format_report(_report(_measured(rows, "ukbench", "UKBench")))
    header, line = _tables(page)["How: UKBench"]
    assert header[:3] == ["row", "N-S", "mP@1"] and line[:3] == ["`ofa`", "2.67", "1.000"]
    assert form_of("N-S") == "z.2f" and form_of("mAP Hard") == "z.3f"

  def test_nothing_was_run(self):
    rows = (Row("ofa", "ofa", "there is nothing to whiten by"),)
    tables = _tables(format_report(_report(_measured(rows))))
    assert tables[TABLES[1].title][-1][4] == "not run: there is nothing to whiten by"


class TestDifferences:
  def test_class_weighting_less_each_pooling_whitened_alike(self):
    rows = (
      *ROWS, _row("raw_cw", [0.5, math.nan, 0.0], whitened_by=""), _row("ona", [0.5, math.nan, 0.75], whitened_by="")
    )  # fmt: skip
    found = compare(_measured(rows), samples=500, seed=3)
    assert [(one.name, one.other) for one in found] == [
      ("ofa", "raw+pca"), ("ofa", "crow@default"), ("ona", "raw"), ("ona", "raw_cw")
    ]  # fmt: skip
    assert found[0].interval == paired_bootstrap(ROWS[4].values["mAP"], ROWS[1].values["mAP"], 500, 3)
    assert found[0].interval.difference == 0.25

  def test_nothing_to_compare(self):
    assert compare(_measured(())) == [] and compare(_measured(ROWS[:3])) == [] and compare(_measured(ROWS[3:4])) == []

  def test_the_page_and_the_json_have_them(self):
    measured = _measured()
    report = _report(measured, differences={"Oxford5k": compare(measured, samples=200)})
    header, *lines = _tables(format_report(report))["Differences: Oxford5k"]
    assert header == ["mAP of", "less that of", "difference", "95 % interval"]
    assert lines[0] == ["`ofa`", "`raw+pca`", "+0.250", "+0.000 to +0.500"]
    (first, second) = to_results(report)["differences"]["Oxford5k"]
    assert first == {"system": "ofa", "less": "raw+pca", "difference": 0.25, "low": 0.0, "high": 0.5}
    assert second["less"] == "crow@default"


class TestOtherRuns:
  @pytest.fixture
  def folder(self, tmp_path):
    """The output of a run on other weights, whose query without a positive is that of this one."""
    rows = (_row("ofa@other", [0.5, math.nan, 0.0]), _row("raw", [0.1, math.nan, 0.2]), ROWS[3])
    report = _report(Measured(OXFORD, "Oxford5k", rows, QUERIES))
    (tmp_path / "results.json").write_text(json.dumps(to_results(report)))
    return tmp_path

  def test_values_come_back_in_the_order_of_the_queries(self, folder):
    found = read_results(folder, OXFORD, QUERIES[::-1])
    assert list(found) == ["ofa@other", "raw"]  # what was not run has no values
    np.testing.assert_array_equal(found["ofa@other"], [0.0, math.nan, 0.5])

  def test_each_row_is_compared_with_the_same_system_s(self, folder):
    found = compare_runs(_measured(), read_results(folder, OXFORD, QUERIES), samples=200, seed=5)
    assert [(one.name, one.other) for one in found] == [("raw", "raw"), ("ofa", "ofa@other")]
    assert found[1].interval == paired_bootstrap([0.75, 0.5], [0.5, 0.0], 200, 5)
    assert found[1].interval.difference == 0.375
    report = _report(_measured(), differences={"Oxford5k, less there": found})
    assert _tables(format_report(report))["Differences: Oxford5k, less there"][2][1] == "`ofa@other`"

  def test_what_is_refused(self, folder, tmp_path):
    file = tmp_path / "results.json"
    with pytest.raises(InputError, match=f"^the results {file} are of oxford5k, not of paris6k$"):
      read_results(folder, PARIS, QUERIES)
    with pytest.raises(InputError, match=r"are of other queries of oxford5k: 3, and here are 2$"):
      read_results(folder, OXFORD, QUERIES[:2])
    for content in ("", "[]", "{}", "\xff", '{"dataset": "oxford5k", "systems": [1]}', '{"dataset": "a", "systems": {"b": 1}}'):
      file.write_bytes(content.encode("latin-1"))
      with pytest.raises(InputError, match=f"^{file} holds no results of an evaluation$"):
        read_results(folder, OXFORD, QUERIES)
    file.unlink()
    with pytest.raises(InputError, match=f"^the results {file} cannot be read: "):
      read_results(folder, OXFORD, QUERIES)


class TestResults:
  def test_it_is_json_without_nan_and_comes_back(self):
    report = _report(_measured(), _measured(ROWS[:1], OXFORD_MORE, "Oxford105k"), Measured("x", "X", (), QUERIES, "gone"))
    results = to_results(report)
    text = json.dumps(results, allow_nan=False)
    back = json.loads(text)
    assert json.loads(json.dumps(back, allow_nan=False)) == back
    assert back["dataset"] == OXFORD and list(back["systems"]) == [row.name for row in ROWS]
    ofa = back["systems"]["ofa"]
    assert ofa["map"] == 0.625 and ofa["metrics"] == {"mAP": 0.625}
    assert ofa["per_query"] == {"all_souls_1": 0.75, "bod,leian_1": None, "keble_1": 0.5}
    assert (ofa["zero"], ofa["odd_queries"], ofa["whitened_by"], ofa["vectors"]) == (2, 1, "paris6k", 12)
    assert back["systems"]["fixed"]["map"] is None and back["systems"]["fixed"]["classes"] == ["dome", "analog clock"]
    rmac = back["systems"]["rmac@default"]
    assert rmac["reason"].startswith("3 vectors") and rmac["map"] is None and rmac["per_query"] == {}
    assert back["with_distractors"]["x"] == {"reason": "gone", "systems": {}}
    assert list(back["with_distractors"][OXFORD_MORE]["systems"]) == ["raw"]
    assert back["seconds"] == {"check": 0.04, "rows": 12.345} and back["head"]["weights"] == "made"

  def test_settings_are_all_there(self):
    results = to_results(_report(_measured(), settings=Settings.preset("reference", {"ties": "by_row"})))
    assert results["preset"] == "reference" and results["changed_settings"] == {"ties": "by_row"}
    assert results["settings"] == Settings.preset("reference", {"ties": "by_row"}).to_json()

  def test_other_metrics_have_values_of_each_query_too(self):
    rows = (_row("ofa", {"mAP Medium": [0.5, 0.25, 0.0], "mP@1 Medium": [1.0, math.nan, 0.0]}),)
    told = to_results(_report(_measured(rows)))["systems"]["ofa"]
    assert told["map"] == 0.25 and told["metrics"] == {"mAP Medium": 0.25, "mP@1 Medium": 0.5}
    assert told["per_query_of_other_metrics"] == {
      "mP@1 Medium": {"all_souls_1": 1.0, "bod,leian_1": None, "keble_1": 0.0}
    }  # fmt: skip


class TestQueries:
  def test_a_column_a_row_and_a_line_a_query(self):
    header, *lines = csv.reader(io.StringIO(format_queries(_measured())))
    assert header == ["query", "raw", "raw+pca", "crow@default", "ofa", "fixed"]  # what was not run has none
    assert [line[0] for line in lines] == list(QUERIES)
    assert lines[0][1:] == ["0.1", "0.25", "0.5", "0.75", ""] and lines[1][1:] == [""] * 5

  def test_values_come_back_to_the_bit(self):
    values = np.random.default_rng(0).random(3).tolist()
    _, *lines = csv.reader(io.StringIO(format_queries(_measured((_row("ofa", values),)))))
    assert [float(line[1]) for line in lines] == values

  def test_columns_of_several_metrics(self):
    rows = (_row("ofa", {"mAP Easy": [0.5] * 3, "mP@1 Easy": [1.0] * 3}),)
    assert format_queries(_measured(rows)).splitlines()[0] == "query,ofa mAP Easy,ofa mP@1 Easy"
