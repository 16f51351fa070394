"""Experiments from files to values: each system against the oracle, and, over passes that are made up, everything else."""

import dataclasses
import errno
import json
import math
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from cwf_jax.encoder import Encoder
from cwf_jax.evaluation import cells, experiment, passes, vectors
from cwf_jax.evaluation.average_precision import average_precisions
from cwf_jax.evaluation.benchmark import Metric
from cwf_jax.evaluation.cells import to_json
from cwf_jax.evaluation.experiment import BUNDLED, Experiment
from cwf_jax.evaluation.images import ImageSet, stretch_contrast
from cwf_jax.evaluation.places import find_places, shuffled_order
from cwf_jax.evaluation.settings import Settings
from cwf_jax.evaluation.systems import SYSTEMS
from cwf_jax.images.listing import list_images
from cwf_jax.ops.whitening import Whitening
from tests.evaluation.conftest import BOXES, CELLS, SIZES
from tests.oracle import encoding, ranking
from tests.oracle import systems as oracle
from tests.oracle.deviation import assert_close

SMALL = {"num_classes": 3, "n_pca": 2, "fixed_classes": 2, "eigenvalue_floor": 1e-3}
"""The tiny network predicts nearly the same classes everywhere, and of few vectors the least eigenvalues are noise."""

# Vectors come from 14 layers in float32, 1e-6 of the maximum; whitening divides by roots of eigenvalues of which the least is a
# thousandth of the largest. Several vectors of an image are kept in float16: the oracle rounds them likewise, and where the two
# round to neighbors a component differs by 2^-11 of it, 5e-4 of one of the 32.
TOLERANCE = 1e-4

POSITIVE, JUNK = [[3, 7, 0], [1, 5, 10], [5, 8, -1]], [[4, -1], [2, 9], [0, 6]]


def _asked(benchmark):
  """The pictures with answers, so that a value depends on the ranking."""
  return dataclasses.replace(
    benchmark, metrics=(Metric("mAP", np.asarray(POSITIVE), np.asarray(JUNK), average_precisions),)
  )  # fmt: skip


def _set(folder, name=None):
  listing = list_images(folder)
  return ImageSet(name or os.path.basename(folder), listing, listing.ids)


def _key(row):
  return row.name.replace("@tiny", "")


def _values(rows):
  return {_key(row): to_json(row.values) for row in rows}


class Maps:
  """The oracle's forward passes: every picture at the size that METHOD says, in one canvas that is not the product's."""

  def __init__(self, encoder, reference=False):
    self._encoder, self._reference = encoder, reference
    self._activate = jax.jit(Encoder.activate, static_argnames="taps")
    self.class_weights = np.asarray(encoder.network.class_weights)
    if reference:
      changed = encoder.settings.preprocessing.with_means_reversed()
      self._reversed = dataclasses.replace(encoder, settings=dataclasses.replace(encoder.settings, preprocessing=changed))

  def see(self, pixels, size, is_paper=True):
    """The maps of one picture, cut to its cells: X, A, the last ones, and its logits."""
    resized = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    canvas = np.zeros((1, 96, 96, 3), np.uint8)
    canvas[0, : size[0], : size[1]] = resized
    encoder = self._reversed if self._reference and is_paper else self._encoder
    seen = self._activate(encoder, canvas, np.asarray([size], np.int32), taps=("conv5_3", "pool5"))
    rows, columns = size[0] // 16, size[1] // 16
    maps = {"X": seen.features, "A": seen.cam_features, "last": seen.taps["conv5_3"]}
    cut = {name: np.asarray(values)[:, :rows, :columns] for name, values in maps.items()}
    pooled = np.asarray(seen.taps["pool5"])[:, : size[0] // 32, : size[1] // 32]
    return {**cut, "pooled": pooled, "logits": np.asarray(seen.logits)}

  def paper_size(self, pixels):
    """The shorter side becomes 64; or stretched to the frame, in which a square is landscape."""
    height, width = pixels.shape[:2]
    if self._reference:
      return (64, 91) if width >= height else (91, 64)
    scale = 64 / min(height, width)
    return round(height * scale), round(width * scale)


MAP_OF = {"raw": "X", "raw_cw": "X", "spoc": "last", "ucrow": "pooled", "crow": "pooled", "mac": "pooled", "rmac": "pooled",
          "gem": "last"}  # fmt: skip


def _half(rows):
  """As vectors are kept where an image has several."""
  return np.asarray(rows, np.float64).astype(np.float16).astype(np.float64)


def _image_vectors(maps, pixels, name, listed=None, reference=False):
  """The oracle's vectors [r k] of a whole picture, and its classes."""
  size = {"spoc": (52, 52)}.get(name, pixels.shape[:2])  # no picture has a longer side than 91, 1024/720 of 64
  if name in MAP_OF and MAP_OF[name] != "X":
    features = maps.see(pixels, size, is_paper=False)[MAP_OF[name]]
    found = oracle.pool(name, features, np.ones(features.shape[:3], bool), by_channels_alone=reference)[0]
    return (_half(found) if name == "rmac" else found), None
  seen = maps.see(pixels, maps.paper_size(pixels))
  whole = np.ones(seen["X"].shape[:3], bool)
  if name in MAP_OF:
    return oracle.pool(name, seen["X"], whole)[0], None
  ids = encoding.choose_classes(seen["logits"], 3) if listed is None else np.asarray([listed])
  return _half(oracle.pool_classes(seen["X"], seen["A"], maps.class_weights, ids, whole, divided=reference)[0]), ids[0]


def _query_vectors(maps, pixels, box, cells_of, name, listed=None, reference=False):
  """The oracle's vectors [r k] of a box in a picture, and its classes."""
  left, top, right, bottom = map(int, box)
  if reference and name in ("crow", "ucrow"):  # METHOD section 7, row 0
    right, bottom = min(left + right, pixels.shape[1]), min(top + bottom, pixels.shape[0])
  crop = pixels[top:bottom, left:right]
  if name in MAP_OF and MAP_OF[name] != "X":
    return _image_vectors(maps, crop, name, reference=reference)
  seen = maps.see(pixels, maps.paper_size(pixels))
  whole = np.ones(seen["X"].shape[:3], bool)
  inside = np.zeros_like(whole)
  inside[:, cells_of[1] : cells_of[3], cells_of[0] : cells_of[2]] = True
  if name in MAP_OF:
    return oracle.pool(name, seen["X"], inside)[0], None
  if listed is None:
    floored = tuple(side // 16 * 16 for side in crop.shape[:2])
    listed = encoding.choose_classes(maps.see(crop, floored)["logits"], 3)[0]
  found = oracle.pool_classes(seen["X"], seen["A"], maps.class_weights, [listed], inside, whole, divided=reference)[0]
  return _half(found), np.asarray(listed)


def _pixels(images, name):
  with Image.open(images.path(name)) as image:
    return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def pool(photographs, tmp_path_factory):
  """Another dozen pictures, to whiten by."""
  folder = tmp_path_factory.mktemp("whitening")
  for number, path in enumerate(sorted(photographs.rglob("*.png"))):
    with Image.open(path) as image:
      image.rotate(180).resize((40, 50)).crop((3, 2, 30, 45)).resize(SIZES[number % 2]).save(folder / path.name)
  return folder


class Run:
  """An experiment over all systems, and the scores that it ranked by."""

  def __init__(self, benchmark, encoder, settings, folder, pool, names):
    self.scores, self.settings, self.names = {}, settings, names
    self.open = lambda **changes: Experiment(
      benchmark, encoder, changes.pop("settings", settings), folder, **{"whitened_by": _set(pool, "pool"), **changes}
    )
    scores, find = [], find_places
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(experiment, "find_places", lambda given, *rest: scores.append(given.copy()) or find(given, *rest))
      self.rows = list(self.open().make_rows(names))
    self.scores = {_key(row): found for row, found in zip(self.rows, scores, strict=True)}
    self.by_key = {_key(row): row for row in self.rows}


@pytest.fixture(scope="module")
def run(benchmark, tiny_encoder, pool, tmp_path_factory):
  """All systems under the paper's preset."""
  settings = Settings.preset("paper", SMALL)
  return Run(_asked(benchmark), tiny_encoder, settings, tmp_path_factory.mktemp("run"), pool, tuple(SYSTEMS))


@pytest.fixture(scope="module")
def pictures(benchmark, pool):
  """Pixels of the database, of the queries and of the pool."""
  images = {image: _pixels(benchmark.listing, image) for image in benchmark.database}
  others = list_images(pool)
  return list(images.values()), [images[query.image] for query in benchmark.queries], [_pixels(others, n) for n in others.ids]


@pytest.fixture(scope="module")
def maps(tiny_encoder):
  return Maps(tiny_encoder)


def _expect(maps, pictures, name, is_whitened, cells_of, reference=False, floor=1e-3):
  """The oracle's scores and dimensions."""
  database, queries, others = pictures
  base = "ofa" if SYSTEMS[name].classes else name
  boxes = [box for _, box in BOXES.values()]
  of_queries = [
    _query_vectors(maps, *one, base, reference=reference) for one in zip(queries, boxes, cells_of.values(), strict=True)
  ]
  listed = [None] * 3
  if name == "ona":
    listed = [ids for _, ids in of_queries]
  if name == "fixed":
    listed = [oracle.choose_fixed([ids for _, ids in of_queries], 2)] * 3
    of_queries = [
      _query_vectors(maps, *one, base, listed[0], reference) for one in zip(queries, boxes, cells_of.values(), strict=True)
    ]
  fitted = dimensions = None
  if is_whitened:
    given = [_image_vectors(maps, pixels, base, reference=reference)[0] for pixels in others]
    given = np.concatenate([rows[:2] if base == "ofa" else rows for rows in given])
    dimensions = min(32, sum(map(any, given)) // 3)
    fitted = oracle.fit(given, dimensions, floor)
  filled = reference and base == "ofa"
  scores = np.zeros((3, 12))
  for query, (rows, _) in enumerate(of_queries):
    one = oracle.describe([rows], fitted, filled)
    ours = [_image_vectors(maps, pixels, base, listed[query], reference)[0] for pixels in database]
    scores[query] = ranking.score(one, np.concatenate([oracle.describe([rows], fitted, filled) for rows in ours]))[0]
  return scores, dimensions or 32


class TestParity:
  """From files to values on a real network, under both presets."""

  @pytest.mark.parametrize("key", ["raw", "raw+pca", "raw_cw", "raw_cw+pca", *list(SYSTEMS)[2:]])
  def test_scores_and_values_are_the_oracle_s(self, run, maps, pictures, key):
    name, row = key.partition("+")[0], run.by_key[key]
    expected, dimensions = _expect(maps, pictures, name, key != name or not SYSTEMS[name].plain, CELLS)
    assert_close(f"experiment, {key}", run.scores[key], expected, TOLERANCE)
    assert row.dimensions == dimensions and (row.zero, row.not_finite, row.odd_queries) == (0, 0, 0)
    order = shuffled_order(12, 0)
    assert oracle.rank(run.scores[key], order) == oracle.rank(expected, order)
    assert row.values["mAP"] == pytest.approx(oracle.measure(expected, order, POSITIVE, JUNK), abs=1e-12)

  def test_half_precision_changes_little(self, run, maps, pictures, monkeypatch):
    """What keeping float16 does to the scores of the system that sums most vectors."""
    monkeypatch.setattr("tests.evaluation.test_experiment._half", lambda rows: np.asarray(rows, np.float64))
    expected, _ = _expect(maps, pictures, "ofa", True, CELLS)
    # 2^-12 of each component at most, by a root of the least eigenvalue, a thirtieth of the largest one's.
    assert_close("experiment, ofa in float64 throughout", run.scores["ofa"], expected, 5e-3)

  def test_rows_tell_what_they_are_made_of(self, run):
    told = {key: (row.layer, row.sizes, row.query, row.whitened_by, row.vectors) for key, row in run.by_key.items()}
    cam = ("conv5_1", "shorter side 64", "cells")
    assert told == {
      **dict.fromkeys(("raw", "raw_cw"), (*cam, "", 0)),
      **dict.fromkeys(("raw+pca", "raw_cw+pca"), (*cam, "pool", 12)),
      **dict.fromkeys(("ofa", "ona", "fixed"), (*cam, "pool", 24)),
      "spoc": ("conv5_3", "square 52", "box", "pool", 12),
      **dict.fromkeys(("ucrow", "crow", "mac"), ("pool5", "longer side 91", "box", "pool", 12)),
      "rmac": ("pool5", "longer side 91", "box", "pool", 12 * 14),
      "gem": ("conv5_3", "longer side 91", "box_in_proportion", "pool", 12),
    }
    assert run.by_key["gem"].name == "gem" and run.by_key["raw+pca"].name == "raw+pca@tiny"
    assert all(row.was_run and row.seconds > 0 and row.left_out == 0 for row in run.rows)
    assert len(run.by_key["fixed"].classes) == 2

  def test_a_second_run_makes_no_pass(self, run, monkeypatch):
    def see(*_, **__):
      raise AssertionError("a pass is made")

    monkeypatch.setattr(passes, "see", see)
    again = run.open()
    assert _values(again.make_rows(run.names)) == _values(run.rows) and again.seconds == {"rows": 0}
    others = Settings.preset("paper", {**SMALL, "ties": "by_row", "query_row": "replaced", "seed": 5, "n_pca": 1})
    rows = list(run.open(settings=others, whitened_by=None).make_rows(run.names))
    assert [row.reason for row in rows if not row.was_run] == ["nothing is whitened"] * 2
    (row,) = run.open(settings=others).make_rows(["ofa"])
    assert row.vectors == 12

  def test_the_published_code(self, benchmark, tiny_encoder, pictures, pool, tmp_path):
    """The frame, means in the wrong order, unscaled boxes, stretched contrast, divided maps, replaced rows, reversed ties."""
    settings = Settings.preset("reference", {**SMALL, "eigenvalue_floor": 1e-3})
    run = Run(_asked(benchmark), tiny_encoder, settings, tmp_path, pool, ("raw", "crow", "ofa", "ona"))
    maps = Maps(tiny_encoder, reference=True)
    # By hand: 64x91 pixels have 4x5 cells, and a box is divided by 16: (0, 0, 64, 64), (16, 0, 64, 48), (17, 17, 67, 68).
    cells_of = {"all_1": (0, 0, 4, 4), "left_1": (1, 0, 4, 3), "right_1": (1, 1, 4, 4)}
    database, queries, others = pictures
    asked = {query.image for query in benchmark.queries}
    database = [
      stretch_contrast(pixels) if image in asked else pixels for image, pixels in zip(benchmark.database, database, strict=True)
    ]
    order = np.arange(12)[::-1]
    for key in ("raw", "raw+pca", "crow", "ofa", "ona"):
      name = key.partition("+")[0]
      expected, _ = _expect(maps, (database, queries, others), name, key != "raw", cells_of, reference=True)
      expected[range(3), benchmark.own_rows] = 1  # row 15
      assert_close(f"experiment, the published code, {key}", run.scores[key], expected, TOLERANCE)
      assert run.by_key[key].values["mAP"] == pytest.approx(oracle.measure(expected, order, POSITIVE, JUNK), abs=1e-12)
    assert run.by_key["raw"].sizes == "fixed frame 64"


# Over passes that are made up.

PAPER = Settings.preset("paper", {"num_classes": 3, "n_pca": 2, "fixed_classes": 3})
BOX = (0.0, 0.0, 20.0, 20.0)
IMAGES = "abcdefghijklmnop"
QUERIES = (("a", BOX), ("c", None), ("e", BOX))
FOUND = ("abd", "cfg", "ehk")


@pytest.fixture
def asked(make_benchmark):
  """Sixteen images, two queries with a box and one without, each with its own image among three positives."""
  return make_benchmark(IMAGES, QUERIES, FOUND, ("c", "", "ij"))


@pytest.fixture
def others(make_files):
  """Thirty images to whiten by."""
  listing = make_files([f"{number:02d}.jpg" for number in range(30)], "others")
  return ImageSet("others", listing, listing.ids)


@pytest.fixture
def open_(asked, others, tiny_encoder, tmp_path):
  """Opens the same experiment again, or with changes."""

  def make(settings=PAPER, benchmark=asked, encoder=tiny_encoder, folder="results", **changes):
    return Experiment(benchmark, encoder, settings, tmp_path / folder, **{"whitened_by": others, **changes})

  return make


def _with(**changes):
  return Settings.preset("paper", {"num_classes": 3, "n_pca": 2, "fixed_classes": 3, **changes})


def _row(opened, key):
  (row,) = [row for row in opened.make_rows([key.partition("+")[0]]) if _key(row) == key]
  return row


def _ap(opened, key):
  return _row(opened, key).values["mAP"]


class TestClasses:
  def test_ona_is_ofa_where_every_image_has_the_query_s_classes(self, open_, made_up):
    rows = {_key(row): row for row in open_(_with(num_classes=10)).make_rows(["ofa", "ona"])}
    assert rows["ona"].values["mAP"] == pytest.approx(rows["ofa"].values["mAP"], abs=1e-12)
    few = {_key(row): row for row in open_().make_rows(["ofa", "ona"])}
    assert few["ona"].values != few["ofa"].values  # with fewer than all of them they differ

  def test_a_fixed_list_is_ona_for_queries_of_that_list(self, open_, made_up):
    for image in ("a?", "c", "e?"):
      made_up.orders[image] = [7, 2, 5, 0, 1, 3, 4, 6, 8, 9]
    rows = {_key(row): row for row in open_(classes=(5, 7, 2)).make_rows(["ona", "fixed"])}
    assert rows["fixed"].values["mAP"] == pytest.approx(rows["ona"].values["mAP"], abs=1e-12)
    counted = _row(open_(folder="counted"), "fixed")
    assert counted.values["mAP"] == pytest.approx(rows["ona"].values["mAP"], abs=1e-12)
    assert rows["fixed"].classes == ("class 5", "class 7", "class 2") or len(rows["fixed"].classes) == 3

  def test_the_fixed_list_is_what_most_queries_have(self, open_, made_up, tiny_encoder):
    for image, order in (("a?", [7, 2, 5]), ("c", [2, 7, 0]), ("e?", [9, 2, 1])):
      made_up.orders[image] = [*order, *(set(range(10)) - set(order))]
    # 2 is among those of three queries, 7 of two; of 0, 1, 5 and 9, of one each, the first
    names = tiny_encoder.settings.classes.names
    assert _row(open_(), "fixed").classes == tuple(names[one] for one in (2, 7, 0))

  def test_the_database_keeps_no_more_classes_than_the_queries_need(self, make_benchmark, open_, made_up):
    benchmark = make_benchmark("abcdefgh", (("a", BOX), ("b", BOX)), ("ac", "bd"), ("", ""), name="boxed")
    made_up.orders |= {"a?": [7, 2, 5, 0, 1, 3, 4, 6, 8, 9], "b?": [2, 7, 1, 0, 5, 3, 4, 6, 8, 9]}
    listed = []
    see = made_up.see
    made_up.see = lambda image, columns: listed.extend(c.listed for c in columns if c.listed) or see(image, columns)
    row = _row(open_(benchmark=benchmark), "ona")
    assert row.was_run and set(listed) == {(1, 2, 5, 7)}


class TestDistractors:
  @pytest.fixture
  def distractors(self, make_files):
    listing = make_files([f"z{number}.jpg" for number in range(40)], "more")
    return ImageSet("more", listing, listing.ids)

  @pytest.mark.parametrize("key", ["raw", "raw+pca", "rmac", "ofa", "fixed"])
  def test_they_never_help_and_are_ranked_as_of_one_database(self, open_, made_up, distractors, make_benchmark, key):
    alone, with_them = _ap(open_(), key), _ap(open_(distractors=distractors), key)
    assert all(more <= less for more, less in zip(with_them, alone, strict=True)) and with_them != alone
    union = make_benchmark([*IMAGES, *(name[:-4] for name in distractors.ids)], QUERIES, FOUND, ("c", "", "ij"), name="union")
    assert with_them == pytest.approx(_ap(open_(benchmark=union), key), abs=1e-12)

  def test_they_are_counted_where_they_are_odd(self, open_, made_up, distractors):
    made_up.given |= {("z3", "raw"): np.zeros(6), ("z5", "raw"): np.full(6, np.nan), ("b", "raw"): np.zeros(6)}
    row = _row(open_(distractors=distractors), "raw")
    assert (row.zero, row.not_finite) == (2, 1)

  def test_of_all_classes_nothing_is_kept_of_them(self, open_, made_up, distractors):
    row = _row(open_(distractors=distractors), "ona")
    assert row.reason == "the distractors' vectors of all classes are not kept" and not row.values and not made_up.passes

  def test_only_they_are_passed_when_the_others_are_there(self, open_, made_up, distractors):
    _row(open_(), "raw")
    made_up.passes.clear()
    _row(open_(distractors=distractors), "raw")
    assert {image for image, _ in made_up.passes} == {name[:-4] for name in distractors.ids}

  @pytest.mark.parametrize(
    ("changes", "columns"),
    [
      ({"ties": "by_row"}, set()),
      ({"query_row": "replaced"}, set()),
      ({"crow_epsilon": 0.5}, set()),
      ({"eigenvalue_floor": 0.5}, {"raw", "own3-no_vector"}),  # they are kept whitened
      ({"n_pca": 1}, {"own3-no_vector"}),
      ({"num_classes": 2, "n_pca": 3}, {"own3-no_vector"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
  )
  def test_other_settings_compute_only_what_they_change(self, open_, made_up, distractors, changes, columns):
    list(open_(distractors=distractors).make_rows(["raw", "ofa"]))
    made_up.passes.clear()
    list(open_(_with(**changes), distractors=distractors).make_rows(["raw", "ofa"]))
    passed = {image for image, _ in made_up.passes}
    assert passed == ({name[:-4] for name in distractors.ids} if columns else set())
    assert {column for _, some in made_up.passes for column in some} == columns

  def test_a_run_that_was_stopped_is_taken_up(self, open_, made_up, distractors, tmp_path):
    undisturbed = _values(open_(distractors=distractors, folder="undisturbed").make_rows(["raw", "ofa"]))
    total = len(made_up.passes)
    made_up.passes.clear()
    made_up.fails_after = total - 13
    with pytest.raises(RuntimeError, match="stopped"):
      list(open_(distractors=distractors).make_rows(["raw", "ofa"]))
    made_up.fails_after = None
    assert _values(open_(distractors=distractors).make_rows(["raw", "ofa"])) == undisturbed
    assert len(made_up.passes) == total
    shutil.rmtree(tmp_path / "results" / "rows")
    assert _values(open_(distractors=distractors).make_rows(["raw", "ofa"])) == undisturbed and len(made_up.passes) == total

  def test_their_order_is_that_of_their_names(self, open_, made_up, distractors, make_benchmark, monkeypatch):
    """However they came, in however many parts: scores are equal or not by it."""
    scores, find = [], find_places
    monkeypatch.setattr(experiment, "find_places", lambda given, *rest: scores.append(given.copy()) or find(given, *rest))
    monkeypatch.setattr(vectors, "IMAGES_A_PART", 3)
    see = made_up.see_images
    monkeypatch.setattr("cwf_jax.evaluation.seeing.see_images", lambda e, i, ids, *rest: see(e, i, ids[::-1], *rest))
    _row(open_(distractors=distractors), "raw")
    _row(open_(distractors=distractors, settings=_with(ties="by_row")), "raw")
    query, rows = made_up.vectors("a?", "raw")[0], [made_up.vectors(name[:-4], "raw")[0] for name in distractors.ids]
    for found in (scores[0], scores[2]):
      np.testing.assert_allclose(found[0, 16:], np.stack(rows) @ query, atol=1e-6)  # float32

  def test_those_that_cannot_be_read_are_left_out_and_told(self, open_, made_up, distractors):
    made_up.unreadable = {"z3.jpg", "z7.jpg"}
    opened = open_(distractors=distractors)
    row = _row(opened, "raw")
    assert row.unreadable == 2 and opened.unreadable == ("z3.jpg: not an image", "z7.jpg: not an image")
    fewer = dataclasses.replace(distractors, ids=tuple(name for name in distractors.ids if name not in made_up.unreadable))
    assert row.values["mAP"] == _ap(open_(distractors=fewer, folder="fewer"), "raw")


class TestOddVectors:
  def test_a_system_of_zeros_scores_as_a_random_order(self, open_, made_up, asked, make_benchmark):
    # Files in the order of the queries: the positives are the first ones.
    sorted_ = make_benchmark(IMAGES, (("a", BOX),), ("abcd",), ("",), name="sorted")
    made_up.given |= {(image + mark, "raw"): np.zeros(6) for image in IMAGES for mark in ("", "?")}
    row = _row(open_(benchmark=sorted_), "raw")
    assert (row.zero, row.not_finite, row.odd_queries) == (16, 0, 1)
    zeros, positive = np.zeros((1, 16)), [[0, 1, 2, 3]]
    assert row.values["mAP"] == oracle.measure(zeros, shuffled_order(16, 0), positive, [[]])
    assert _ap(open_(_with(ties="by_row"), sorted_), "raw") == [1.0]
    # A random order finds about four of sixteen: the mean of all seeds is far from that of the files' order.
    seeds = [_ap(open_(_with(seed=seed), sorted_), "raw")[0] for seed in range(30)]
    assert len(set(seeds)) > 10 and 0.2 < np.mean(seeds) < 0.45

  def test_zeros_and_what_is_not_finite_are_counted(self, open_, made_up):
    made_up.given |= {("b", "raw"): np.zeros(6), ("d", "raw"): [np.nan] * 6, ("f", "raw"): [np.inf, 0, 0, 0, 0, 0]}
    made_up.given |= {("a?", "raw"): np.zeros(6), ("03", "raw"): np.zeros(6), ("04", "raw"): [np.nan] * 6}
    rows = {_key(row): row for row in open_().make_rows(["raw"])}
    for key in ("raw", "raw+pca"):
      assert (rows[key].zero, rows[key].not_finite, rows[key].odd_queries) == (1, 2, 1)
      assert all(0 <= value <= 1 for value in rows[key].values["mAP"])
    assert (rows["raw"].left_out, rows["raw+pca"].left_out, rows["raw+pca"].vectors) == (0, 2, 28)

  def test_online_they_are_counted_by_query_and_image(self, open_, made_up):
    made_up.given |= {("b", "classes"): np.zeros((10, 6)), ("d", "classes"): np.full((10, 6), np.nan)}
    row = _row(open_(), "ona")
    assert (row.zero, row.not_finite) == (3, 3)

  def test_what_is_not_finite_comes_last(self, open_, made_up, make_benchmark):
    benchmark = make_benchmark("abcd", (("a", BOX),), ("b",), ("",), name="last")
    made_up.given |= {("a?", "raw"): [1, 0], ("b", "raw"): [np.nan, 0]}
    made_up.given |= {(image, "raw"): [-1, 0] for image in "acd"}
    assert _ap(open_(benchmark=benchmark, whitened_by=None), "raw") == [pytest.approx((0 + 1 / 4) / 2)]


class TestRanking:
  """One query whose own image scores 0.6, and three others 0.8, 0.8 and 0: b and c are equal."""

  @pytest.fixture
  def plain(self, open_, made_up, make_benchmark):
    made_up.given |= {("a?", "raw"): [1, 0], ("a", "raw"): [0.6, 0.8], ("d", "raw"): [0, 1]}
    made_up.given |= {(image, "raw"): [0.8, 0.6] for image in "bc"}

    def measure(positive, **changes):
      benchmark = make_benchmark("abcd", (("a", BOX),), (positive,), ("",), name="plain")
      return _ap(open_(_with(**changes), benchmark, whitened_by=None), "raw")[0]

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
    assert _ap(open_(_with(query_row="replaced"), benchmark, whitened_by=None), "raw") == [0.25]

  def test_a_query_without_a_box_finds_itself(self, open_, made_up):
    for row in open_().make_rows(["raw", "rmac", "gem", "ofa", "ona", "fixed"]):
      # The second query is an image of the database: what is first is found, of three 1/3 1 at least.
      assert row.values["mAP"][1] >= 1 / 3

  def test_a_query_without_a_box_beside_the_database(self, open_, made_up, make_benchmark):
    benchmark = make_benchmark("abcd", (("a", None),), ("d",), ("",), database="dcb", name="beside")
    made_up.given |= {("a", "raw"): [1, 0], ("d", "raw"): [0.6, 0.8], ("c", "raw"): [0, 1], ("b", "raw"): [1, 0]}
    assert _ap(open_(benchmark=benchmark, whitened_by=None), "raw") == [0.25]

  def test_a_query_without_positives_leaves_the_mean(self, open_, made_up, make_benchmark):
    benchmark = make_benchmark("abcd", (("a", None), ("b", None)), ("a", ""), ("", ""), name="none")
    values = _ap(open_(benchmark=benchmark), "raw")
    assert values[0] == 1 and math.isnan(values[1])
    again = _ap(open_(benchmark=benchmark), "raw")
    assert math.isnan(again[1])  # from the kept row


class TestStretchedPixels:
  def test_row_17_of_the_database_images_that_are_boxed_queries(self, open_, made_up):
    _row(open_(_with(query_images="stretched")), "raw")
    told = {images.name: images.stretched for images in made_up.sets}
    assert told == {"made": {"a.jpg", "e.jpg"}, "others": set()}
    made_up.sets.clear()
    _row(open_(), "mac")
    assert {images.stretched for images in made_up.sets} == {frozenset()}

  def test_the_set_is_not_stretched_where_another_is_whitened_by_it(self, open_, made_up, asked, make_benchmark):
    """Both keep vectors in one folder, under the set's name."""
    settings = _with(query_images="stretched")
    _row(open_(settings), "raw")
    made_up.passes.clear()
    other = make_benchmark("qrst", (("q", BOX),), ("q",), ("",), name="other")
    _row(open_(settings, other, whitened_by=ImageSet("made", asked.listing, asked.listing.ids)), "raw+pca")
    assert {image for image, _ in made_up.passes} >= set(IMAGES)


class TestWhitening:
  def test_there_is_nothing_to_whiten_by(self, open_, made_up):
    rows = {_key(row): row for row in open_(whitened_by=None, no_whitening="it is not there").make_rows(["raw", "mac", "ofa"])}
    assert rows["raw"].was_run and rows["raw"].dimensions == 6 and not rows["raw"].whitened_by
    assert {rows[key].reason for key in ("raw+pca", "mac", "ofa")} == {"it is not there"}
    assert {column for _, columns in made_up.passes for column in columns} == {"raw"}

  def test_nothing_is_whitened_on_purpose(self, open_, made_up):
    rows = {_key(row): row for row in open_(whitened_by=None).make_rows(["raw", "mac", "ofa"])}
    assert rows["raw+pca"].reason == "nothing is whitened"
    assert all(rows[key].was_run and rows[key].dimensions == 6 for key in ("raw", "mac", "ofa"))

  def test_too_few_vectors(self, open_, made_up, others):
    few = dataclasses.replace(others, name="few", ids=others.ids[:5])
    rows = {_key(row): row for row in open_(whitened_by=few).make_rows(["raw", "ofa"])}
    assert rows["raw+pca"].reason == "5 vectors are too few, or all alike, to whiten by"
    assert rows["raw"].was_run and rows["ofa"].was_run and rows["ofa"].vectors == 10
    assert _row(open_(whitened_by=few), "raw+pca").reason  # it is not kept as a row that was run

  def test_the_checkpoint_s_own(self, open_, made_up, tiny_encoder):
    drawn = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    encoder = tiny_encoder.replace(whitening=Whitening(np.zeros(6, np.float32), drawn))
    rows = {_key(row): row for row in open_(encoder=encoder, whitened_by=BUNDLED).make_rows(["raw", "mac", "ofa"])}
    assert rows["raw+pca"].reason == rows["mac"].reason == "the checkpoint's whitening is one of class vectors"
    assert rows["ofa"].dimensions == 4 and (rows["ofa"].whitened_by, rows["ofa"].vectors) == (BUNDLED, 0)
    other = tiny_encoder.replace(whitening=Whitening(np.zeros(6, np.float32), drawn[:, :3]))
    assert _row(open_(encoder=other, whitened_by=BUNDLED), "ofa").dimensions == 3  # not the other's kept row
    assert _row(open_(whitened_by=BUNDLED), "ofa").reason == "the checkpoint has no whitening"


SYSTEMS_OF_STORES = ("raw", "rmac", "ofa", "ona", "fixed")


class TestStores:
  def _all(self, opened):
    return _values(opened.make_rows(SYSTEMS_OF_STORES))

  def test_a_second_run_makes_no_pass_and_a_lost_row_none(self, open_, made_up, tmp_path):
    first = self._all(open_())
    assert len(made_up.passes) == 3 * 16 - 16 + 2 * 30 + 2 * 2 or made_up.passes
    made_up.passes.clear()
    assert self._all(open_()) == first
    shutil.rmtree(tmp_path / "results" / "rows")
    assert self._all(open_()) == first and made_up.passes == []

  @pytest.mark.parametrize("after", [1, 3, 10, 40])
  def test_a_run_that_was_stopped_is_taken_up(self, open_, made_up, after):
    undisturbed = self._all(open_(folder="undisturbed"))
    total = len(made_up.passes)
    made_up.passes.clear()
    made_up.fails_after = after
    with pytest.raises(RuntimeError, match="stopped"):
      self._all(open_())
    made_up.fails_after = None
    assert self._all(open_()) == undisturbed
    assert len(made_up.passes) == total  # none was made twice

  def test_a_changed_file_is_passed_anew_and_no_other(self, open_, made_up, asked, others):
    first = self._all(open_())
    for listing, name in ((asked.listing, "b.jpg"), (asked.listing, "a.jpg"), (others.source, "07.jpg")):
      made_up.passes.clear()
      with open(listing.path(name), "ab") as file:
        file.write(b"more")
      made_up.given[name[:-4], "raw"] = np.arange(6)
      anew = ImageSet("others", others.source, others.ids)  # signatures are read once
      changed = self._all(open_(whitened_by=anew))
      assert {image for image, _ in made_up.passes} == ({"a", "a?"} if name == "a.jpg" else {name[:-4]})
      assert changed != first
      first = changed

  def test_a_file_that_was_only_touched_is_passed_anew(self, open_, made_up, asked):
    first = self._all(open_())
    made_up.passes.clear()
    os.utime(asked.listing.path("b.jpg"), ns=(5, 5))
    assert self._all(open_()) == first and {image for image, _ in made_up.passes} == {"b"}

  def test_a_query_of_another_box_is_passed_anew(self, open_, made_up, make_benchmark):
    self._all(open_())
    made_up.passes.clear()
    moved = make_benchmark(IMAGES, (("a", (0.0, 0.0, 20.0, 21.0)), *QUERIES[1:]), FOUND, ("c", "", "ij"))
    self._all(open_(benchmark=moved))
    assert {image for image, _ in made_up.passes} == {"a?"}

  def test_other_answers_are_another_row(self, open_, made_up, make_benchmark):
    self._all(open_())
    made_up.passes.clear()
    junk = make_benchmark(IMAGES, QUERIES, ("ab", "cf", "eh"), ("c", "", "ij"))
    assert self._all(open_(benchmark=junk)) == self._all(open_(benchmark=junk, folder="alone"))

  @pytest.mark.parametrize(
    ("changes", "passed"),
    [
      ({"ties": "by_row"}, ""),
      ({"seed": 3}, ""),
      ({"query_row": "replaced"}, ""),
      ({"eigenvalue_floor": 0.1}, ""),
      ({"n_pca": 1}, ""),
      ({"num_classes": 2, "n_pca": 3}, ""),  # as many vectors
      ({"crow_epsilon": 0.5}, ""),
      ({"box_rule": "unscaled"}, "boxed"),
      ({"floor_boxes": False}, "boxed"),
      ({"query_images": "stretched"}, "plain"),
      ({"num_classes": 4}, "boxed plain pool"),
      ({"empty_maps": "divided"}, "boxed plain pool"),
      ({"size_rule": "fixed_frame"}, "boxed plain pool"),
    ],
    ids=str,
  )
  def test_other_settings_compute_only_what_they_change(self, open_, made_up, changes, passed):
    self._all(open_())
    made_up.passes.clear()
    self._all(open_(_with(**changes)))
    sets = {"boxed": {"a?", "e?"}, "plain": set(IMAGES), "pool": {f"{number:02d}" for number in range(30)}}
    assert {image for image, _ in made_up.passes} == set().union(*(sets[name] for name in passed.split()))

  def test_a_full_disk_leaves_nothing_half_written(self, open_, made_up, monkeypatch, tmp_path):
    undisturbed = self._all(open_(folder="undisturbed"))
    write, left = vectors.write_whole, [2]

    def fill(path, content):
      if left[0] == 0:
        raise OSError(errno.ENOSPC, "No space left on device")
      left[0] -= 1
      write(path, content)

    for module, room in ((vectors, 2), (cells, 1)):
      left[0] = room
      monkeypatch.setattr(module, "write_whole", fill)
      with pytest.raises(OSError, match="No space left"):
        self._all(open_())
      monkeypatch.setattr(module, "write_whole", write)
      files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
      assert files and all(path.suffix in (".npz", ".json") for path in files)
      for path in files:
        if path.suffix == ".json":
          json.loads(path.read_bytes())
        else:
          with np.load(path) as arrays:
            assert {len(arrays[name]) for name in arrays.files} == {len(arrays["ids"])}
    assert self._all(open_()) == undisturbed

  def test_a_damaged_part_is_computed_again(self, open_, made_up, tmp_path):
    first = self._all(open_())
    for damage in (lambda content: content[: len(content) // 2], lambda content: b"\x00" * len(content)):
      shutil.rmtree(tmp_path / "results" / "rows")
      made_up.passes.clear()
      for path in (tmp_path / "results" / "vectors").glob("made-[0-9a-f]*/*.npz"):
        path.write_bytes(damage(path.read_bytes()))
      assert self._all(open_()) == first
      assert {image for image, _ in made_up.passes} == set(IMAGES)

  def test_vectors_can_be_shared(self, open_, made_up, tmp_path):
    first = self._all(open_(vectors=tmp_path / "shared"))
    made_up.passes.clear()
    assert self._all(open_(folder="other", vectors=tmp_path / "shared")) == first and not made_up.passes
    assert not (tmp_path / "results" / "vectors").exists()

  def test_other_weights_are_other_vectors(self, open_, made_up, tiny_encoder):
    self._all(open_())
    made_up.passes.clear()
    settings = dataclasses.replace(tiny_encoder.settings, weights_sha256="other", weights="others'")
    rows = list(open_(encoder=dataclasses.replace(tiny_encoder, settings=settings)).make_rows(["raw"]))
    assert [row.name for row in rows] == ["raw@others'", "raw+pca@others'"]
    assert {image for image, _ in made_up.passes} >= set(IMAGES)


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
  assert list(told) == ["queries", "images of made", "images of others", "rows"]
  assert told["images of made"] == [(done, 32) for done in range(1, 33)]  # at two sizes
  assert told["queries"][-1] == (4, 4) and told["rows"] == [(1, 3), (2, 3), (3, 3)] and len(rows) == 3
  assert set(opened.seconds) == set(told)
