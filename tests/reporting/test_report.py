"""The page and the JSON: tables in the paper's order, measured beside published, each cell where it belongs."""

import math

import pytest

from cwf_jax.evaluation.rows import Row
from cwf_jax.metrics.bootstrap import Interval
from cwf_jax.reporting.published import OXFORD_MORE, TABLES
from cwf_jax.reporting.report import format_report
from cwf_jax.reporting.results import Comparison, Difference, Measured, form_of, to_results
from cwf_jax.systems.settings import Settings, list_settings
from cwf_jax.systems.system import SYSTEMS
from tests.evaluation.found import QUERIES, ROWS, made_row, measured_of, report_of, tables_of


class TestPublished:
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
    return tables_of(format_report(report_of(measured_of())))

  def test_the_tables_are_those_of_the_paper_in_its_order(self):
    page = format_report(report_of(measured_of()))
    places = [page.index(f"\n## {table.title}\n") for table in TABLES]
    assert places == sorted(places) and page.startswith("# Oxford5k: measured beside published\n")
    assert page.endswith("\n\nCached rows and vectors of earlier runs took no time in this one.\n")
    tables = tables_of(page)
    for table in TABLES:
      assert [cells[0] for cells in tables[table.title][1:]] == [line.title for line in table.lines]

  def test_measured_stands_beside_published(self, tables):
    header, *lines = tables[TABLES[0].title]
    assert header == ["system", "row", "Oxford5k, published", "dim", "Oxford5k, measured (mAP of 2 of 3 queries)", "dim"]
    cells = {line[1]: line[2:] for line in lines}
    assert cells["`raw`"] == ["0.396", "512", "0.200", "32"]
    assert cells["`raw+pca`"] == ["0.589", "512", "0.375", "512"]
    assert cells["`ofa`"] == ["0.712", "512", "0.625", "512"]
    assert cells["`raw_cw`"] == ["0.420", "512", "not run: not asked for", ""]
    assert cells["`ofa@resnet50`"] == ["0.699", "512", "not yet", ""]
    assert {line[4] for line in tables[TABLES[2].title][1:]} == {"not yet"}

  def test_a_row_is_called_by_its_network_and_tells_why_it_was_not_run(self, tables):
    cells = {line[1]: line[2:] for line in tables[TABLES[1].title][1:]}
    assert cells["`crow@default`"] == ["0.682", "512", "0.500", "512"]
    assert cells["`rmac@default`"] == ["0.669", "512", r"not run: 3 vectors are \| too few\nto whiten by", ""]
    assert {line[1]: line[2:] for line in tables[TABLES[3].title][1:]}["`fixed`"][2:] == ["no query has a positive", "512"]

  def test_a_set_without_published_numbers(self):
    tables = tables_of(format_report(report_of(measured_of(name="toy_oxford", title="toy Oxford"))))
    header, *lines = tables[TABLES[1].title]
    assert header == ["system", "row", "toy Oxford, measured (mAP of 2 of 3 queries)", "dim"]
    assert lines[-1][2:] == ["0.625", "512"]
    # Neural codes alone have a number of Holidays.
    page = format_report(report_of(measured_of(name="holidays", title="Holidays")))
    assert [line[2:4] for line in tables_of(page)[TABLES[3].title][1:]] == [
      *[["-", ""]] * 6,
      *(["0.749", "4096"], ["0.690", ""], ["0.736", "4096"]),
    ]

  def test_distractors_stand_beside_it(self):
    more = measured_of((made_row("ofa", [0.5, math.nan, 0.5]),), OXFORD_MORE, "Oxford105k")
    header, *lines = tables_of(format_report(report_of(measured_of(), more)))[TABLES[1].title]
    assert header[6:] == ["Oxford105k, published", "dim", "Oxford105k, measured (mAP of 2 of 3 queries)", "dim"]
    assert lines[-1][2:] == ["0.712", "512", "0.625", "512", "0.672", "512", "0.500", "512"]
    missing = Measured(OXFORD_MORE, "Oxford105k", (), QUERIES, "flickr100k is not there")
    lines = tables_of(format_report(report_of(measured_of(), missing)))[TABLES[1].title]
    assert lines[-1][6:] == ["0.672", "512", "not run: flickr100k is not there", ""]

  def test_how_each_row_was_made(self, tables):
    header, *lines = tables["How: Oxford5k"]
    assert header == ["row", "mAP", "network, map", "sizes", "query", "dim", "whitened by (vectors)", "s"]
    assert [line[0] for line in lines] == ["`raw`", "`raw+pca`", "`crow@default`", "`ofa`", "`fixed`"]
    assert lines[0] == ["`raw`", "0.200", "vgg16_cam, conv5_1", "shorter side 720", "cells", "32", "-", "0.0"]
    assert lines[1][-3:] == ["512", "paris6k (12)", "1.3"] and lines[-1][1] == "-"
    assert "\n\nFixed list: `fixed`: dome, analog clock.\n" in format_report(report_of(measured_of()))

  def test_what_is_zero_or_not_finite(self):
    page = format_report(report_of(measured_of()))
    told = next(line for line in page.splitlines() if line.startswith("Zero or not finite: "))
    assert "Oxford5k, `crow@default`: 3 of vectors left out of the whitening" in told
    assert "Oxford5k, `ofa`: 2 zero, 1 of queries" in told and "`raw`" not in told
    none = "No descriptor is zero or not finite, and no vector that a whitening was fitted on."
    assert none in format_report(report_of(measured_of(ROWS[:2])))

  def test_head_settings_and_time(self, tables):
    assert tables["Oxford5k: measured beside published"][1:] == [["command", r"`main.py --a=b\|c`"], ["weights", "made"]]
    settings = Settings.preset("reference", {"ties": "shuffled"})
    _, *lines = tables_of(format_report(report_of(measured_of(), settings=settings)))["Settings"]
    assert [line[0] for line in lines] == [f"`{field.name}`" for field in list_settings()]
    cells = {line[0]: line[1:] for line in lines}
    assert cells["`ties`"][:3] == ["shuffled (set)", "shuffled", "reversed"]
    assert cells["`size_rule`"][:3] == ["fixed_frame", "shorter_side", "fixed_frame"]
    assert tables["Time of this run"][1:] == [["check", "0.0"], ["rows", "12.3"]]

  def test_several_metrics(self):
    rows = (made_row("ofa", {"N-S": [4.0, 3.0, 1.0], "mP@1": [1.0, 1.0, math.nan]}),)
    page = format_report(report_of(measured_of(rows, "ukbench", "UKBench")))
    header, line = tables_of(page)["How: UKBench"]
    assert header[:3] == ["row", "N-S", "mP@1"] and line[:3] == ["`ofa`", "2.67", "1.000"]
    assert form_of("N-S") == "z.2f" and form_of("mAP Hard") == "z.3f"

  def test_nothing_was_run(self):
    rows = (Row("ofa", "ofa", "there is nothing to whiten by"),)
    tables = tables_of(format_report(report_of(measured_of(rows))))
    assert tables[TABLES[1].title][-1][4] == "not run: there is nothing to whiten by"

  def test_the_revisited_sets_show_every_average_precision(self):
    values = {f"{what} {level}": [0.5, 0.25, 0.0] for level in ("Medium", "Easy", "Hard") for what in ("mAP", "mP@1")}
    values["mAP Easy"] = [math.nan, 0.5, 0.25]
    tables = tables_of(format_report(report_of(measured_of((made_row("ofa", values),), "roxford5k", "ROxford5k"))))
    header, *lines = tables[TABLES[1].title]
    assert header[2] == "ROxford5k, measured (mAP Medium / mAP Easy of 2 of 3 queries / mAP Hard)"
    assert lines[-1][2] == "0.250 / 0.375 / 0.250"

  def test_rows_of_earlier_runs_say_when_and_by_what(self):
    made = {"measured": "yesterday", "device": "cpu"}
    rows = (*(row._replace(made=made) for row in ROWS[:3]), ROWS[4]._replace(made={**made, "measured": "today"}))
    measured = measured_of(rows)._replace(made={"measured": "today", "device": "cpu"})
    page = format_report(report_of(measured))
    assert "\n\nOf an earlier run (measured: yesterday): `raw`, `raw+pca`, `crow@default`.\n" in page and "`ofa`.\n" not in page
    more = measured_of(rows[:1], "more", "More")._replace(made={"measured": "today", "device": "gpu"})
    page = format_report(report_of(measured, more))
    assert "\n\nOf an earlier run, More (measured: yesterday; device: cpu): `raw`.\n" in page
    assert to_results(report_of(measured))["systems"]["raw"]["made"] == made

  def test_no_name_leaves_its_cell_or_line(self):
    row = made_row("raw@a|b\nc", [0.5] * 3, odd=("d\n\n## e|",), zero=1, classes=("f\n# g",), whitened_by="h|i\nj")
    other = Difference("raw@a|b\nc", "k|l", (0.5, 0.5), Interval(0.0, 0.0, 0.0))
    comparison = Comparison("m", "mAP", (other,), ("n\n# o",))
    report = report_of(measured_of((row,)), comparisons=[comparison])._replace(seconds={"p|q\nr": 1.0})
    page = format_report(report)
    tables = tables_of(page)  # all lines have as many cells as their header
    assert ["p\\|q\\nr", "1.0"] in tables["Time of this run"]
    assert "\n## e" not in page and "\n# g" not in page and "\n# o" not in page

  def test_notes(self):
    page = format_report(report_of(measured_of()))
    assert "its measured number is not comparable with the published one." in page and "Kept from" not in page
    page = format_report(report_of(measured_of(ROWS[:2])))
    assert "is not comparable" not in page
    few = [made_row(name, [0.5] * 3, dimensions=57, capped_by="171 vectors (3 for each)") for name in ("spoc", "crow")]
    narrow, enough = made_row("gem", [0.5] * 3, dimensions=256, capped_by="256 channels"), made_row("mac", [0.5] * 3)
    page = format_report(report_of(measured_of((*few, narrow, enough))))
    told = "57, capped by 171 vectors (3 for each): `spoc`, `crow`; 256, capped by 256 channels: `gem`"
    assert f"\n\nDimensions: {told}.\n" in page
