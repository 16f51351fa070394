"""Passes that are made up: classes of queries, distractors, vectors that are zero or not finite."""

import dataclasses
import shutil

import numpy as np
import pytest

from cwf_jax.evaluation import experiment
from cwf_jax.extraction import vectors
from cwf_jax.extraction.image_check import Checked
from cwf_jax.images.image_set import ImageSet
from cwf_jax.metrics.ranks import find_places, shuffled_order
from tests.evaluation.made_up import BOX, FOUND, IMAGES, QUERIES, by_name, changed, key_of, row_of, values_of
from tests.oracle import systems as oracle


class TestClasses:
  def test_ona_is_ofa_where_every_image_has_the_query_s_classes(self, open_, made_up):
    rows = {key_of(row): row for row in open_(changed(num_classes=10)).make_rows(["ofa", "ona"])}
    assert rows["ona"].values["mAP"] == pytest.approx(rows["ofa"].values["mAP"], abs=1e-12)
    few = {key_of(row): row for row in open_().make_rows(["ofa", "ona"])}
    assert few["ona"].values != few["ofa"].values  # with fewer than all of them they differ

  def test_a_fixed_list_is_ona_for_queries_of_that_list(self, open_, made_up, tiny_encoder):
    for image in ("a?", "c", "e?"):
      made_up.orders[image] = [7, 2, 5, 0, 1, 3, 4, 6, 8, 9]
    rows = {key_of(row): row for row in open_(classes=(5, 7, 2)).make_rows(["ona", "fixed"])}
    assert rows["fixed"].values["mAP"] == pytest.approx(rows["ona"].values["mAP"], abs=1e-12)
    counted = row_of(open_(folder="counted"), "fixed")
    assert counted.values["mAP"] == pytest.approx(rows["ona"].values["mAP"], abs=1e-12)
    names = tiny_encoder.settings.classes.names
    assert rows["fixed"].classes == tuple(names[one] for one in (5, 7, 2))

  def test_the_fixed_list_is_what_most_queries_have(self, open_, made_up, tiny_encoder):
    for image, order in (("a?", [7, 2, 5]), ("c", [2, 7, 0]), ("e?", [9, 2, 1])):
      made_up.orders[image] = [*order, *(set(range(10)) - set(order))]
    # 2 is among those of three queries, 7 of two; of 0, 1, 5 and 9, of one each, the first
    names = tiny_encoder.settings.classes.names
    assert row_of(open_(), "fixed").classes == tuple(names[one] for one in (2, 7, 0))

  def test_the_database_keeps_no_more_classes_than_the_queries_need(self, make_benchmark, open_, made_up):
    benchmark = make_benchmark("abcdefgh", (("a", BOX), ("b", BOX)), ("ac", "bd"), ("", ""), name="boxed")
    made_up.orders |= {"a?": [7, 2, 5, 0, 1, 3, 4, 6, 8, 9], "b?": [2, 7, 1, 0, 5, 3, 4, 6, 8, 9]}
    listed = []
    see = made_up.see
    made_up.see = lambda image, columns: listed.extend(c.listed for c in columns if c.listed) or see(image, columns)
    row = row_of(open_(benchmark=benchmark), "ona")
    assert row.was_run and set(listed) == {(1, 2, 5, 7)}


@pytest.fixture
def distractors(make_files):
  """Forty images."""
  listing = make_files([f"z{number}.jpg" for number in range(40)], "more")
  return ImageSet("more", listing, listing.ids)


class TestDistractors:
  @pytest.mark.parametrize("key", ["raw", "raw+pca", "rmac", "ofa", "fixed"])
  def test_they_never_help_and_are_ranked_as_of_one_database(self, open_, made_up, distractors, make_benchmark, key):
    alone, with_them = values_of(open_(), key), values_of(open_(distractors=distractors), key)
    assert all(more <= less for more, less in zip(with_them, alone, strict=True)) and with_them != alone
    union = make_benchmark([*IMAGES, *(name[:-4] for name in distractors.ids)], QUERIES, FOUND, ("c", "", "ij"), name="union")
    assert with_them == pytest.approx(values_of(open_(benchmark=union), key), abs=1e-12)

  def test_they_are_counted_where_they_are_odd(self, open_, made_up, distractors):
    made_up.given |= {("z3", "raw"): np.zeros(6), ("z5", "raw"): np.full(6, np.nan), ("b", "raw"): np.zeros(6)}
    row = row_of(open_(distractors=distractors), "raw")
    assert (row.zero, row.not_finite) == (2, 1)

  def test_of_all_classes_nothing_is_kept_of_them(self, open_, made_up, distractors):
    row = row_of(open_(distractors=distractors), "ona")
    assert row.reason == "the distractors' vectors of all classes are not kept" and not row.values and not made_up.passes

  def test_only_they_are_passed_when_the_others_are_there(self, open_, made_up, distractors):
    row_of(open_(), "raw")
    made_up.passes.clear()
    row_of(open_(distractors=distractors), "raw")
    assert {image for image, _ in made_up.passes} == {name[:-4] for name in distractors.ids}

  @pytest.mark.parametrize(
    ("changes", "columns"),
    [
      ({"ties": "by_row"}, set()),
      ({"query_row": "replaced"}, set()),
      ({"crow_epsilon": 0.5}, set()),
      ({"eigenvalue_floor": 0.5}, {"raw", "own10-no_vector"}),  # they are kept whitened
      ({"dimensions": 2}, {"raw", "own10-no_vector"}),
      ({"n_pca": 1}, {"own10-no_vector"}),
      ({"num_classes": 2, "n_pca": 3}, {"own10-no_vector"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
  )
  def test_other_settings_compute_only_what_they_change(self, open_, made_up, distractors, changes, columns):
    list(open_(distractors=distractors).make_rows(["raw", "ofa"]))
    made_up.passes.clear()
    list(open_(changed(**changes), distractors=distractors).make_rows(["raw", "ofa"]))
    passed = {image for image, _ in made_up.passes}
    assert passed == ({name[:-4] for name in distractors.ids} if columns else set())
    assert {column.rpartition("-")[0] for _, some in made_up.passes for column in some} == columns

  def test_a_run_that_was_stopped_is_taken_up(self, open_, made_up, distractors, tmp_path):
    undisturbed = by_name(open_(distractors=distractors, folder="undisturbed").make_rows(["raw", "ofa"]))
    total = len(made_up.passes)
    made_up.passes.clear()
    made_up.fails_after = total - 13
    with pytest.raises(RuntimeError, match="stopped"):
      list(open_(distractors=distractors).make_rows(["raw", "ofa"]))
    made_up.fails_after = None
    assert by_name(open_(distractors=distractors).make_rows(["raw", "ofa"])) == undisturbed
    assert len(made_up.passes) == total
    shutil.rmtree(tmp_path / "results" / "rows")
    assert by_name(open_(distractors=distractors).make_rows(["raw", "ofa"])) == undisturbed and len(made_up.passes) == total

  def test_their_order_is_that_of_their_names(self, open_, made_up, distractors, make_benchmark, monkeypatch):
    """However they came, in however many parts: scores are equal or not by it."""
    scores, find = [], find_places
    monkeypatch.setattr(experiment, "find_places", lambda given, *rest: scores.append(given.copy()) or find(given, *rest))
    monkeypatch.setattr(vectors, "BYTES_A_PART", 100)
    see = made_up.see_images
    monkeypatch.setattr("cwf_jax.extraction.distractors.see_images", lambda e, i, ids, *rest: see(e, i, ids[::-1], *rest))
    row_of(open_(distractors=distractors), "raw")
    row_of(open_(distractors=distractors, settings=changed(ties="by_row")), "raw")
    query, rows = made_up.vectors("a?", "raw")[0], [made_up.vectors(name[:-4], "raw")[0] for name in distractors.ids]
    for found in (scores[0], scores[2]):
      np.testing.assert_allclose(found[0, 16:], np.stack(rows) @ query, atol=1e-6)  # float32

  def test_those_that_cannot_be_read_are_left_out_and_told(self, open_, made_up, distractors):
    made_up.unreadable = {"z3.jpg", "z7.jpg"}
    opened = open_(distractors=distractors)
    row = row_of(opened, "raw")
    assert row.unreadable == ("z3.jpg", "z7.jpg") and opened.unreadable == ("z3.jpg: not an image", "z7.jpg: not an image")
    fewer = dataclasses.replace(distractors, ids=tuple(name for name in distractors.ids if name not in made_up.unreadable))
    assert row.values["mAP"] == values_of(open_(distractors=fewer, folder="fewer"), "raw")

  def test_rows_without_some_are_kept_until_those_can_be_read(self, open_, made_up, distractors, monkeypatch):
    made_up.unreadable = {"z3.jpg"}
    opened = open_(distractors=distractors)
    row = row_of(opened, "raw")
    assert list(opened.make_rows(["mac"])) and opened.unreadable == ("z3.jpg: not an image",)  # of all sizes
    made_up.passes.clear()
    assert row_of(open_(distractors=distractors), "raw") == row and not made_up.passes
    # It is not told by the file that the disk gives it back.
    monkeypatch.setattr(experiment, "check_images", lambda images: Checked((), {}))
    made_up.unreadable = set()
    assert row_of(open_(distractors=distractors), "raw").unreadable == ()
    assert [image for image, _ in made_up.passes] == ["z3"]

  def test_none_is_passed_for_rows_that_cannot_be_whitened(self, open_, made_up, distractors, others):
    few = dataclasses.replace(others, name="few", ids=others.ids[:5])
    reason = row_of(open_(distractors=distractors, whitened_by=few), "mac").reason
    assert reason.startswith("too few vectors") and not any(image.startswith("z") for image, _ in made_up.passes)


class TestNamesOfDescriptors:
  def test_each_part_of_what_they_depend_on_makes_another(self, open_, made_up, distractors, others, monkeypatch):
    def name(system="ofa", whitened=True, **changes):
      opened = open_(distractors=distractors, **changes)
      opened._scorer.make_passes([("raw", True), ("ofa", True), ("fixed", True)])
      return opened._scorer._row_column(system, whitened)

    names = [
      *(name(), name("raw"), name(whitened=False), name("fixed"), name("fixed", classes=(1, 2))),
      *(name(settings=changed(num_classes=2)), name(settings=changed(n_pca=1)), name(settings=changed(eigenvalue_floor=0.5))),
      name(whitened_by=dataclasses.replace(others, ids=others.ids[1:])),
      name(settings=changed(empty_maps="divided")),
    ]
    assert len(set(names)) == len(names) and name() == names[0]
    monkeypatch.setattr("cwf_jax.evaluation.scoring.hash_sources", lambda *_: "another")
    assert name() not in names


class TestFixedLists:
  def test_classes_that_no_query_has(self, open_, made_up, make_benchmark):
    """They are passed beside the others, which stay, and the online rows with them."""
    boxed = make_benchmark(IMAGES, (("a", BOX), ("e", BOX)), ("bd", "hk"), name="boxed")
    made_up.orders |= {"a?": [0, 1, 2, *range(3, 10)], "e?": [1, 2, 3, 0, *range(4, 10)]}
    rows = {key_of(row): row for row in open_(benchmark=boxed).make_rows(["ona", "fixed"])}
    made_up.passes.clear()
    listed = {key_of(row): row for row in open_(benchmark=boxed, classes=(8, 3)).make_rows(["ona", "fixed"])}
    assert listed["ona"] == rows["ona"]  # with the same time
    assert listed["fixed"].values != rows["fixed"].values and len(listed["fixed"].classes) == 2
    columns = {column for _, columns in made_up.passes for column in columns}
    assert {column.partition("-")[0][:4] for column in columns} == {"some"} and len(made_up.passes) == 16
    alone = row_of(open_(benchmark=boxed, classes=(8, 3), folder="alone"), "fixed")
    assert alone.values == listed["fixed"].values
    made_up.passes.clear()
    assert row_of(open_(benchmark=boxed, classes=(0, 3)), "fixed").was_run and not made_up.passes  # the queries' own


class TestOddVectors:
  def test_a_system_of_zeros_scores_as_a_random_order(self, open_, made_up, asked, make_benchmark):
    # Files in the order of the queries: the positives are the first ones.
    sorted_ = make_benchmark(IMAGES, (("a", BOX),), ("abcd",), ("",), name="sorted")
    made_up.given |= {(image + mark, "raw"): np.zeros(6) for image in IMAGES for mark in ("", "?")}
    row = row_of(open_(benchmark=sorted_), "raw")
    assert (row.zero, row.not_finite, row.odd_queries) == (16, 0, 1)
    zeros, positive = np.zeros((1, 16)), [[0, 1, 2, 3]]
    assert row.values["mAP"] == oracle.measure(zeros, shuffled_order(16, 0), positive, [[]])
    assert values_of(open_(changed(ties="by_row"), sorted_), "raw") == [1.0]
    # A random order finds about four of sixteen: the mean of all seeds is far from that of the files' order.
    seeds = [values_of(open_(changed(seed=seed), sorted_), "raw")[0] for seed in range(30)]
    assert len(set(seeds)) > 10 and 0.2 < np.mean(seeds) < 0.45

  def test_zeros_and_what_is_not_finite_are_counted(self, open_, made_up):
    made_up.given |= {("b", "raw"): np.zeros(6), ("d", "raw"): [np.nan] * 6, ("f", "raw"): [np.inf, 0, 0, 0, 0, 0]}
    made_up.given |= {("a?", "raw"): np.zeros(6), ("03", "raw"): np.zeros(6), ("04", "raw"): [np.nan] * 6}
    rows = {key_of(row): row for row in open_().make_rows(["raw"])}
    for key in ("raw", "raw+pca"):
      assert (rows[key].zero, rows[key].not_finite, rows[key].odd_queries) == (1, 2, 1)
      assert all(0 <= value <= 1 for value in rows[key].values["mAP"])
    assert (rows["raw"].left_out, rows["raw+pca"].left_out, rows["raw+pca"].vectors) == (0, 2, 28)

  def test_online_they_are_counted_by_query_and_image(self, open_, made_up):
    made_up.given |= {("b", "classes"): np.zeros((10, 6)), ("d", "classes"): np.full((10, 6), np.nan)}
    row = row_of(open_(), "ona")
    assert (row.zero, row.not_finite) == (3, 3)

  def test_what_is_not_finite_comes_last(self, open_, made_up, make_benchmark):
    benchmark = make_benchmark("abcd", (("a", BOX),), ("b",), ("",), name="last")
    made_up.given |= {("a?", "raw"): [1, 0], ("b", "raw"): [np.nan, 0]}
    made_up.given |= {(image, "raw"): [-1, 0] for image in "acd"}
    assert values_of(open_(benchmark=benchmark, whitened_by=None), "raw") == [pytest.approx((0 + 1 / 4) / 2)]
