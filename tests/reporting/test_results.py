"""The values that an evaluation writes, and that the next one reads."""

import csv
import io
import json
import math

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.reporting.published import OXFORD, OXFORD_MORE, PARIS
from cwf_jax.reporting.results import Measured, format_queries, read_results, to_results
from cwf_jax.systems.settings import Settings
from tests.evaluation.found import QUERIES, ROWS, made_row, measured_of, report_of


class TestReading:
  @pytest.fixture
  def folder(self, tmp_path):
    """The output of a run whose query without a positive is that of this one."""
    rows = (made_row("ofa@other", [0.5, math.nan, 0.0]), made_row("raw", [0.1, math.nan, 0.2]), ROWS[3], ROWS[5])
    more = (measured_of(ROWS[:1], OXFORD_MORE, "Oxford105k"), Measured("x", "X", (), QUERIES, "gone"))
    report = report_of(Measured(OXFORD, "Oxford5k", rows, QUERIES), *more, settings=Settings.preset("reference"))
    (tmp_path / "results.json").write_text(json.dumps(to_results(report)))
    return tmp_path

  def test_values_come_back_in_the_order_of_the_queries(self, folder):
    found = read_results(folder, OXFORD, QUERIES[::-1])
    assert list(found.values[OXFORD]) == ["ofa@other", "raw", "fixed"]  # what was not run has no values
    np.testing.assert_array_equal(found.values[OXFORD]["ofa@other"], [0.0, math.nan, 0.5])
    assert list(found.values[OXFORD_MORE]) == ["raw"] and found.values["x"] == {}
    assert found.classes == {"fixed": ("dome", "analog clock")}
    assert found.where == str(folder) and found.head["weights"] == "made" and found.settings["ties"] == "reversed"

  def test_what_is_refused(self, folder, tmp_path):
    file = tmp_path / "results.json"
    with pytest.raises(InputError, match=f"^the results {file} are of oxford5k, not of paris6k$"):
      read_results(folder, PARIS, QUERIES)
    with pytest.raises(InputError, match=r"are of other queries of oxford5k: 3 there and 2 here, keble_1 in one of both"):
      read_results(folder, OXFORD, QUERIES[:2])
    more = '"head": {}, "settings": {}, "with_distractors": {}}'
    row = '{"dataset": "oxford5k", "systems": {"b": {"name": "b", "classes": [], "per_query": %s}}, '
    for content in (
      row % '["q"]' + more, row % '{"q": []}' + more, row % '{"q": "a"}' + more, row % "1" + more,
      row % ('{"q": 1' + "0" * 400 + "}") + more, "[" * 100_000,
      "", "[]", "{}", "\xff", '{"dataset": "oxford5k", "systems": [1], ' + more, '{"dataset": "oxford5k", "systems": {}}',
      '{"dataset": "oxford5k", "systems": {"b": 1}, ' + more,
      '{"dataset": "oxford5k", "systems": {}, "head": 1, "settings": {}}',
    ):  # fmt: skip
      file.write_bytes(content.encode("latin-1"))
      with pytest.raises(InputError, match=f"^{file} holds no results of an evaluation$"):
        read_results(folder, OXFORD, QUERIES)
    file.unlink()
    with pytest.raises(InputError, match=f"^the results {file} cannot be read: "):
      read_results(folder, OXFORD, QUERIES)


class TestResults:
  def test_it_is_json_without_nan_and_comes_back(self):
    report = report_of(measured_of(), measured_of(ROWS[:1], OXFORD_MORE, "Oxford105k"), Measured("x", "X", (), QUERIES, "gone"))
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
    results = to_results(report_of(measured_of(), settings=Settings.preset("reference", {"ties": "by_row"})))
    assert results["preset"] == "reference" and results["changed_settings"] == {"ties": "by_row"}
    assert results["settings"] == Settings.preset("reference", {"ties": "by_row"}).to_json()

  def test_other_metrics_have_values_of_each_query_too(self):
    rows = (made_row("ofa", {"mAP Medium": [0.5, 0.25, 0.0], "mP@1 Medium": [1.0, math.nan, 0.0]}),)
    told = to_results(report_of(measured_of(rows)))["systems"]["ofa"]
    assert told["map"] == 0.25 and told["metrics"] == {"mAP Medium": 0.25, "mP@1 Medium": 0.5}
    assert told["per_query_of_other_metrics"] == {
      "mP@1 Medium": {"all_souls_1": 1.0, "bod,leian_1": None, "keble_1": 0.0}
    }  # fmt: skip


class TestQueries:
  def test_a_column_a_row_and_a_line_a_query(self):
    header, *lines = csv.reader(io.StringIO(format_queries(measured_of())))
    assert header == ["query", "raw", "raw+pca", "crow@default", "ofa", "fixed"]  # what was not run has none
    assert [line[0] for line in lines] == list(QUERIES)
    assert lines[0][1:] == ["0.1", "0.25", "0.5", "0.75", ""] and lines[1][1:] == [""] * 5

  def test_values_come_back_to_the_bit(self):
    values = np.random.default_rng(0).random(3).tolist()
    _, *lines = csv.reader(io.StringIO(format_queries(measured_of((made_row("ofa", values),)))))
    assert [float(line[1]) for line in lines] == values

  def test_columns_of_several_metrics(self):
    rows = (made_row("ofa", {"mAP Easy": [0.5] * 3, "mP@1 Easy": [1.0] * 3}),)
    assert format_queries(measured_of(rows)).splitlines()[0] == "query,ofa mAP Easy,ofa mP@1 Easy"
