"""What rows and runs gain over others."""

import math

import pytest

from cwf_jax.metrics.bootstrap import paired_bootstrap
from cwf_jax.reporting.differences import compare, compare_runs
from cwf_jax.reporting.published import OXFORD, OXFORD_MORE
from cwf_jax.reporting.report import format_report
from cwf_jax.reporting.results import OtherRun, to_results
from cwf_jax.systems.settings import Settings
from tests.evaluation.found import ROWS, made_row, measured_of, report_of, tables_of


class TestDifferences:
  def test_class_weighting_less_each_pooling_whitened_alike(self):
    rows = (
      *ROWS, made_row("raw_cw", [0.5, math.nan, 0.0], whitened_by=""), made_row("ona", [0.5, math.nan, 0.75], whitened_by="")
    )  # fmt: skip
    found = compare(measured_of(rows), samples=500, seed=3)
    assert found.title == "Oxford5k" and found.metric == "mAP"
    found = found.differences
    assert [(one.name, one.other) for one in found] == [
      ("ofa", "raw+pca"), ("ofa", "crow@default"), ("ona", "raw"), ("ona", "raw_cw")
    ]  # fmt: skip
    assert found[0].interval == paired_bootstrap(ROWS[4].values["mAP"], ROWS[1].values["mAP"], 500, 3)
    assert found[0].interval.difference == 0.25 and found[0].means == (0.625, 0.375)

  def test_nothing_to_compare(self):
    for rows in ((), ROWS[:3], ROWS[3:4]):
      assert compare(measured_of(rows)).differences == ()

  def test_the_page_and_the_json_have_them(self):
    measured = measured_of()
    report = report_of(measured, comparisons=[compare(measured, samples=200)])
    header, *lines = tables_of(format_report(report))["Differences: Oxford5k"]
    assert header == ["mAP of", "", "less that of", "", "difference", "95 % interval"]
    assert lines[0] == ["`ofa`", "0.625", "`raw+pca`", "0.375", "+0.250", "+0.000 to +0.500"]
    (first, second) = to_results(report)["differences"]["Oxford5k"]
    assert first == {"system": "ofa", "less": "raw+pca", "difference": 0.25, "low": 0.0, "high": 0.5}
    assert second["less"] == "crow@default"


class TestOtherRuns:
  @pytest.fixture
  def there(self):
    """A run on other weights, whose query without a positive is that of this one."""
    values = {"ofa@other": [0.5, math.nan, 0.0], "raw": [0.1, math.nan, 0.2], "mac": [1.0, math.nan, 1.0]}
    settings = {**Settings.preset("paper").to_json(), "ties": "reversed"}
    return OtherRun("a/b", {OXFORD: values}, {}, {"command": "other", "weights": "others"}, settings)

  def test_each_row_is_compared_with_the_same_system_s(self, there):
    (found,) = compare_runs(report_of(measured_of()), there, samples=200, seed=5)
    assert [(one.name, one.other) for one in found.differences] == [("raw", "raw"), ("ofa", "ofa@other")]
    assert found.differences[1].interval == paired_bootstrap([0.75, 0.5], [0.5, 0.0], 200, 5)
    assert found.differences[1].interval.difference == 0.375 and found.differences[1].means == (0.625, 0.25)
    assert found.title == "Oxford5k, less the rows of a/b"
    lines = tables_of(format_report(report_of(measured_of(), comparisons=[found])))[f"Differences: {found.title}"]
    assert lines[2] == ["`ofa`", "0.625", "`ofa@other`", "0.250", "+0.375", "+0.250 to +0.500"]

  def test_what_else_differs_and_what_has_no_counterpart_is_told(self, there):
    (found,) = compare_runs(report_of(measured_of()), there, samples=200)
    assert found.notes == (
      "ties: here shuffled; there reversed",
      "weights: here made; there others",
      "means and differences are over the 2 of 3 queries that count in both",
      "only here: raw+pca, crow@default",
      "only there: mac",
    )
    page = format_report(report_of(measured_of(), comparisons=[found]))
    assert "* weights: here made; there others\n* means and" in page and "\n* only there: mac\n" in page

  def test_means_are_those_of_the_queries_that_count_in_both(self, there):
    """The other run has a positive for the second query, and none for the third."""
    here = measured_of((made_row("raw", [0.25, 0.75, 0.5]),))
    other = there._replace(values={OXFORD: {"raw": [0.5, 0.5, math.nan]}})
    (found,) = compare_runs(report_of(here), other, samples=200)
    assert found.differences[0].means == (0.5, 0.5) and found.differences[0].interval.difference == 0
    assert "means and differences are over the 2 of 3 queries that count in both" in found.notes

  def test_queries_of_which_none_counts_in_both_are_no_difference(self, there):
    other = there._replace(values={OXFORD: {"raw": [math.nan, 0.5, math.nan]}})
    (found,) = compare_runs(report_of(measured_of(ROWS[:1])), other)
    assert found.differences == ()
    assert "Nothing can be compared." in format_report(report_of(measured_of(), comparisons=[found]))

  def test_what_one_of_both_does_not_tell_and_other_lists_are_told(self, there):
    rows = (made_row("fixed", [0.5, math.nan, 0.5], classes=("dome", "pier")),)
    other = there._replace(values={OXFORD: {"fixed@x": [0.5, math.nan, 0.5]}}, classes={"fixed@x": ("pier", "car")})
    settings = Settings.preset("paper").to_json() | {"more": 1}
    other = other._replace(head={"remarks": "odd", "weights": "made"}, settings=settings)
    (found,) = compare_runs(report_of(measured_of(rows)), other, samples=200)
    assert found.notes[:2] == ("more: here not told; there 1", "remarks: here not told; there odd")
    assert found.notes[-1] == "the list of fixed: here dome, pier; there pier, car"
    same = other._replace(classes={"fixed@x": ("pier", "dome")})
    assert not any("list" in note for note in compare_runs(report_of(measured_of(rows)), same, samples=200)[0].notes)

  def test_rows_with_distractors_are_compared_with_such(self, there):
    more = measured_of(ROWS[:1], OXFORD_MORE, "Oxford105k")
    values = {**there.values, OXFORD_MORE: {"raw": [0.2, math.nan, 0.2]}}
    found = compare_runs(report_of(measured_of(), more), there._replace(values=values), samples=200, seed=5)
    assert [one.title for one in found] == ["Oxford5k, less the rows of a/b", "Oxford105k, less the rows of a/b"]
    assert found[1].differences[0].interval == paired_bootstrap([0.1, 0.3], [0.2, 0.2], 200, 5) and len(found[1].notes) == 1
    assert len(compare_runs(report_of(measured_of(), more), there, samples=200)) == 1  # it has none of these
    empty = measured_of((), OXFORD_MORE, "Oxford105k", "gone")
    assert len(compare_runs(report_of(measured_of(), empty), there._replace(values=values), samples=200)) == 1
