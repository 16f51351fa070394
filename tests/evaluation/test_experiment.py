"""Rows over passes that are made up: ties, a query's own row, what whitens, why a row is not run, progress."""

import dataclasses
import math
import os

import numpy as np
import pytest

from cwf_jax.evaluation.experiment import BUNDLED
from cwf_jax.extraction.vectors import DamagedVectorsError
from cwf_jax.metrics.ranks import shuffled_order
from cwf_jax.ops.whitening import Whitening
from tests.evaluation.made_up import BOX, IMAGES, changed, key_of, row_of, values_of


class TestRanking:
  """One query whose own image scores 0.6, and three others 0.8, 0.8 and 0: b and c are equal."""

  @pytest.fixture
  def plain(self, open_, made_up, make_benchmark):
    made_up.given |= {("a?", "raw"): [1, 0], ("a", "raw"): [0.6, 0.8], ("d", "raw"): [0, 1]}
    made_up.given |= {(image, "raw"): [0.8, 0.6] for image in "bc"}

    def measure(positive, **changes):
      benchmark = make_benchmark("abcd", (("a", BOX),), (positive,), ("",), name="plain")
      return values_of(open_(changed(**changes), benchmark, whitened_by=None), "raw")[0]

    return measure

  def test_row_12_ties(self, plain):
    # b is first or second: 1, or (0 + 1/2)/2
    assert plain("b", ties="by_row") == 1 and plain("c", ties="by_row") == 0.25
    assert plain("b", ties="reversed") == 0.25 and plain("c", ties="reversed") == 1
    for seed in range(6):
      order = shuffled_order(4, seed)
      assert plain("b", seed=seed) == (1 if order[1] < order[2] else 0.25)

  def test_row_15_the_query_s_own_row(self, plain):
    # a comes third, (0 + 1/3)/2, or first
    assert plain("a") == pytest.approx(1 / 6) and plain("a", query_row="replaced") == 1
    assert plain("d", query_row="replaced") == 1 / 8  # the others stay as they are: (0 + 1/4)/2

  def test_a_query_outside_the_database_has_no_row(self, open_, made_up, make_benchmark):
    made_up.given |= {("a?", "raw"): [1, 0], ("b", "raw"): [0, 1], ("c", "raw"): [1, 0]}
    benchmark = make_benchmark("abc", (("a", BOX),), ("b",), ("",), database="bc", name="outside")
    assert values_of(open_(changed(query_row="replaced"), benchmark, whitened_by=None), "raw") == [0.25]

  def test_a_query_without_a_box_finds_itself(self, open_, made_up, make_benchmark):
    benchmark = make_benchmark(IMAGES, (("c", None), ("k", None)), ("c", "k"), name="itself")
    rows = list(open_(benchmark=benchmark).make_rows(["raw", "rmac", "gem", "ofa", "ona", "fixed"]))
    assert [row.values["mAP"] for row in rows] == [[1.0, 1.0]] * 7

  @pytest.mark.parametrize("system", ["raw", "ofa", "ona", "fixed"])
  def test_a_query_without_a_box_beside_a_database_in_an_order_of_its_own(self, open_, made_up, make_benchmark, system):
    benchmark = make_benchmark("abcd", (("a", None),), ("d",), ("",), database="dcb", name="beside")
    for image, vector in {"a": [1, 0], "b": [0.96, 0.28], "c": [0, 1], "d": [0.6, 0.8]}.items():
      made_up.given |= {(image, "raw"): vector, (image, "classes"): [vector] * made_up.classes}
    assert values_of(open_(benchmark=benchmark, whitened_by=None), system) == [0.25]

  def test_a_query_without_positives_leaves_the_mean(self, open_, made_up, make_benchmark):
    benchmark = make_benchmark("abcd", (("a", None), ("b", None)), ("a", ""), ("", ""), name="none")
    values = values_of(open_(benchmark=benchmark), "raw")
    assert values[0] == 1 and math.isnan(values[1])
    again = values_of(open_(benchmark=benchmark), "raw")
    assert math.isnan(again[1])  # from the kept row


def test_vectors_that_stay_damaged_end_the_run(open_, made_up, monkeypatch):
  tries = []

  def fail(*_):
    tries.append(1)
    raise DamagedVectorsError("damaged again")

  monkeypatch.setattr("cwf_jax.extraction.vectors.VectorStore._read_part", fail)
  with pytest.raises(DamagedVectorsError, match="damaged again"):
    list(open_(whitened_by=None).make_rows(["raw"]))
  assert len(tries) == 21


class TestWhitening:
  def test_there_is_nothing_to_whiten_by(self, open_, made_up):
    opened = open_(whitened_by=None, no_whitening="it is not there")
    rows = {key_of(row): row for row in opened.make_rows(["raw", "mac", "ofa"])}
    assert rows["raw"].was_run and rows["raw"].dimensions == 6 and not rows["raw"].whitened_by
    assert {rows[key].reason for key in ("raw+pca", "mac", "ofa")} == {"it is not there"}
    assert {column.rpartition("-")[0] for _, columns in made_up.passes for column in columns} == {"raw"}

  def test_nothing_is_whitened_on_purpose(self, open_, made_up):
    rows = {key_of(row): row for row in open_(whitened_by=None).make_rows(["raw", "mac", "ofa"])}
    assert rows["raw+pca"].reason == "nothing is whitened"
    assert all(rows[key].was_run and rows[key].dimensions == 6 for key in ("raw", "mac", "ofa"))
    # Kept, they do not stand for rows that cannot be whitened.
    opened = open_(whitened_by=None, no_whitening="it is not there")
    assert [row.reason for row in opened.make_rows(["mac"])] == ["it is not there"]
    assert [row.name for row in opened.find_kept(["mac"])] == ["raw@tiny"]

  def test_rows_that_an_earlier_run_kept(self, open_, made_up):
    made = list(open_().make_rows(["raw", "mac", "ofa"]))
    made_up.passes.clear()
    assert open_().find_kept(["mac"]) == tuple(row for row in made if row.system != "mac")
    assert open_(changed(ties="by_row")).find_kept([]) == () and open_(whitened_by=None).find_kept([]) == (made[0],)
    assert made_up.passes == []

  def test_too_few_vectors(self, open_, made_up, others):
    few = dataclasses.replace(others, name="few", ids=others.ids[:5])
    rows = {key_of(row): row for row in open_(whitened_by=few).make_rows(["raw", "ofa"])}
    assert rows["raw+pca"].reason == "too few vectors to whiten by, at least 6, or all alike: 5"
    assert rows["raw"].was_run and rows["ofa"].was_run and rows["ofa"].vectors == 10
    assert row_of(open_(whitened_by=few), "raw+pca").reason  # it is not kept as a row that was run

  def test_the_checkpoint_s_own(self, open_, made_up, tiny_encoder):
    drawn = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    encoder = tiny_encoder.replace(whitening=Whitening(np.zeros(6, np.float32), drawn))
    rows = {key_of(row): row for row in open_(encoder=encoder, whitened_by=BUNDLED).make_rows(["raw", "mac", "ofa"])}
    assert rows["raw+pca"].reason == rows["mac"].reason == "the checkpoint's whitening is one of class vectors"
    assert (rows["ofa"].dimensions, rows["ofa"].capped_by) == (4, "")
    assert (rows["ofa"].whitened_by, rows["ofa"].vectors) == (BUNDLED, 0)
    for asked, dimensions, capped_by in ((2, 2, ""), (5, 4, "the checkpoint's whitening")):
      row = row_of(open_(changed(dimensions=asked), encoder=encoder, whitened_by=BUNDLED), "ofa")
      assert (row.dimensions, row.capped_by) == (dimensions, capped_by)
    other = tiny_encoder.replace(whitening=Whitening(np.zeros(6, np.float32), drawn[:, :3]))
    assert row_of(open_(encoder=other, whitened_by=BUNDLED), "ofa").dimensions == 3  # not the other's kept row
    assert row_of(open_(whitened_by=BUNDLED), "ofa").reason == "the checkpoint has no whitening: whiten by other images"


def test_rows_tell_when_and_by_what_they_were_made(open_, made_up, monkeypatch):
  first = open_()
  made = list(first.make_rows(["raw", "mac"]))
  assert all(row.made == first.made for row in made)
  monkeypatch.setattr("cwf_jax.evaluation.experiment.describe_run", lambda *_: {"device": "another"})
  again = open_()
  rows = list(again.make_rows(["raw", "gem"]))
  assert [row.made == first.made for row in rows] == [True, True, False] and rows[2].made == {"device": "another"}
  assert again.find_kept(["raw", "gem"]) == (made[2],)


def test_a_boxed_query_whose_image_changed_makes_another_row(open_, made_up, make_benchmark):
  """The query's image need not be in the database."""
  benchmark = make_benchmark("abcd", (("a", BOX),), ("d",), ("",), database="bcd", name="beside")
  key = open_(benchmark=benchmark)._key("raw", False)
  assert open_(benchmark=benchmark)._key("raw", False) == key
  os.utime(benchmark.listing.path("a.jpg"), ns=(5, 5))
  assert open_(benchmark=benchmark)._key("raw", False) != key


def test_a_list_of_classes_of_other_names_makes_another_row(open_, made_up, tiny_encoder):
  settings = tiny_encoder.settings
  names = dataclasses.replace(settings.classes, names=tuple(f"other {number}" for number in range(len(settings.classes))))
  renamed = dataclasses.replace(tiny_encoder, settings=dataclasses.replace(settings, classes=names))
  assert row_of(open_(), "fixed").classes != row_of(open_(encoder=renamed), "fixed").classes


def test_rows_of_other_code_are_made_anew(open_, made_up, monkeypatch):
  made = row_of(open_(), "raw")
  made_up.passes.clear()
  monkeypatch.setattr("cwf_jax.evaluation.experiment.hash_sources", lambda *_: "another")
  again = row_of(open_(), "raw")
  assert again.values == made.values and again.seconds != made.seconds and not made_up.passes


def test_progress_is_told_by_part(open_, made_up):
  told = {}

  class Bar:
    def __init__(self, unit):
      self.unit = unit

    def __enter__(self):
      return lambda done, total: told.setdefault(self.unit, []).append((done, total))

    def __exit__(self, *_):
      return None

  opened = open_(progress=Bar)
  rows = list(opened.make_rows(["raw", "mac"]))
  assert list(told) == ["passes of queries", "passes of made", "passes of others", "rows"]
  assert told["passes of made"] == [(done, 32) for done in range(1, 33)]  # at two sizes
  assert told["passes of queries"][-1] == (4, 4) and told["rows"] == [(1, 3), (2, 3), (3, 3)] and len(rows) == 3
  assert set(opened.seconds) == set(told)
