"""Each system from files to values on a real network, under both presets, against the oracle."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from PIL import Image

from cwf_jax.datasets.benchmark import Metric
from cwf_jax.encoder import Encoder
from cwf_jax.evaluation import experiment
from cwf_jax.evaluation.experiment import Experiment
from cwf_jax.extraction import passes
from cwf_jax.images.image_set import ImageSet, stretch_contrast
from cwf_jax.images.listing import list_images
from cwf_jax.metrics.average_precision import average_precisions
from cwf_jax.metrics.ranks import find_places, shuffled_order
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import SYSTEMS
from tests.evaluation.made_up import by_name, key_of
from tests.fixtures import BOXES, CELLS, SIZES
from tests.oracle import encoding, ranking
from tests.oracle import systems as oracle
from tests.oracle.deviation import assert_close

SMALL = {"num_classes": 3, "n_pca": 2, "fixed_classes": 2, "eigenvalue_floor": 1e-3}
"""The tiny network predicts nearly the same classes everywhere, and of few vectors the least eigenvalues are noise."""

# Vectors come from 14 layers in float32, 1e-6 of the maximum; whitening divides by roots of eigenvalues of which the least is a
# thousandth of the largest.
TOLERANCE = 1e-4

# Several vectors of an image are stored in float16. The oracle rounds them likewise, and where the two round to neighbors a
# component, at most 1, differs by 2^-11 of it: 1.7e-4 in one score on some processors.
HALF_TOLERANCE = dict.fromkeys(("ofa", "ona"), 2**-11)

POSITIVE, JUNK = [[3, 7, 0], [1, 5, 10], [5, 8, -1]], [[4, -1], [2, 9], [0, 6]]


def _asked(benchmark):
  """The pictures with answers, so that a value depends on the ranking."""
  return dataclasses.replace(
    benchmark, metrics=(Metric("mAP", np.asarray(POSITIVE), np.asarray(JUNK), average_precisions),)
  )  # fmt: skip


def _set(folder, name=None):
  listing = list_images(folder)
  return ImageSet(name or os.path.basename(folder), listing, listing.ids)


class Maps:
  """The oracle's forward passes: every picture at its size in METHOD 2b, in one canvas that is not the product's."""

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
  if name == "cwr":
    classes, ids = _image_vectors(maps, pixels, "ofa", reference=reference)
    features = maps.see(pixels, maps.paper_size(pixels))["X"]
    return np.concatenate([classes, _half(oracle.pool("rmac", features, np.ones(features.shape[:3], bool))[0])]), ids
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
  if reference and name in ("crow", "ucrow"):  # METHOD 7.0
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
  if name == "cwr":
    classes, ids = _query_vectors(maps, pixels, box, cells_of, "ofa", reference=reference)
    return np.concatenate([classes, _half(oracle.pool("rmac", seen["X"], inside)[0])]), ids
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
    self.scores = {key_of(row): found for row, found in zip(self.rows, scores, strict=True)}
    self.by_key = {key_of(row): row for row in self.rows}


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
    one = _describe(name, rows, fitted, filled)
    ours = [_image_vectors(maps, pixels, base, listed[query], reference)[0] for pixels in database]
    scores[query] = ranking.score(one, np.concatenate([_describe(name, rows, fitted, filled) for rows in ours]))[0]
  return scores, dimensions or 32


def _describe(name, rows, fitted, filled):
  """The oracle's descriptor [1 d]; of `cwr` the unit sums of its three classes and of its regions, added."""
  if name != "cwr":
    return oracle.describe([rows], fitted, filled)
  return encoding.normalize(oracle.describe([rows[:3]], fitted) + oracle.describe([rows[3:]], fitted))


class TestParity:
  """From files to values on a real network, under both presets."""

  @pytest.mark.parametrize("key", ["raw", "raw+pca", "raw_cw", "raw_cw+pca", *list(SYSTEMS)[2:]])
  def test_scores_and_values_are_the_oracle_s(self, run, maps, pictures, key):
    name, row = key.partition("+")[0], run.by_key[key]
    expected, dimensions = _expect(maps, pictures, name, key != name or not SYSTEMS[name].plain, CELLS)
    assert_close(f"experiment, {key}", run.scores[key], expected, HALF_TOLERANCE.get(name, TOLERANCE))
    assert row.dimensions == dimensions and (row.zero, row.not_finite, row.odd_queries) == (0, 0, 0)
    order = shuffled_order(12, 0)
    assert oracle.rank(run.scores[key], order) == oracle.rank(expected, order)
    assert row.values["mAP"] == pytest.approx(oracle.measure(expected, order, POSITIVE, JUNK), abs=1e-12)

  def test_half_precision_changes_little(self, run, maps, pictures, monkeypatch):
    """What keeping float16 does to the scores of the system that sums most vectors."""
    monkeypatch.setattr("tests.evaluation.test_parity._half", lambda rows: np.asarray(rows, np.float64))
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
      "cwr": (*cam, "pool", 240),
    }
    assert run.by_key["gem"].name == "gem@tiny" and run.by_key["raw+pca"].name == "raw+pca@tiny"
    assert all(row.was_run and row.seconds > 0 and row.left_out == 0 for row in run.rows)
    assert len(run.by_key["fixed"].classes) == 2

  def test_a_second_run_makes_no_pass(self, run, monkeypatch):
    def see(*_, **__):
      raise AssertionError("a pass is made")

    monkeypatch.setattr(passes, "see", see)
    again = run.open()
    assert by_name(again.make_rows(run.names)) == by_name(run.rows) and again.seconds == {"rows": 0}
    others = Settings.preset("paper", {**SMALL, "ties": "by_row", "query_row": "replaced", "seed": 5, "n_pca": 1})
    rows = list(run.open(settings=others, whitened_by=None).make_rows(run.names))
    assert [row.reason for row in rows if not row.was_run] == ["nothing is whitened"] * 2
    (row,) = run.open(settings=others).make_rows(["ofa"])
    assert row.vectors == 12

  def test_the_published_code(self, benchmark, tiny_encoder, pictures, pool, tmp_path):
    """The frame, means in the wrong order, unscaled boxes, stretched contrast, divided maps, replaced rows, reversed ties."""
    settings = Settings.preset("reference", {**SMALL, "eigenvalue_floor": 1e-3})
    run = Run(_asked(benchmark), tiny_encoder, settings, tmp_path, pool, ("raw", "crow", "rmac", "ofa", "ona"))
    maps = Maps(tiny_encoder, reference=True)
    # By hand: 64x91 pixels have 4x5 cells, and a box is divided by 16: (0, 0, 64, 64), (16, 0, 64, 48), (17, 17, 67, 68).
    cells_of = {"all_1": (0, 0, 4, 4), "left_1": (1, 0, 4, 3), "right_1": (1, 1, 4, 4)}
    database, queries, others = pictures
    asked = {query.image for query in benchmark.queries}
    database = [
      stretch_contrast(pixels) if image in asked else pixels for image, pixels in zip(benchmark.database, database, strict=True)
    ]
    order = np.arange(12)[::-1]
    for key in ("raw", "raw+pca", "crow", "rmac", "ofa", "ona"):
      name = key.partition("+")[0]
      expected, _ = _expect(maps, (database, queries, others), name, key != "raw", cells_of, reference=True)
      expected[range(3), benchmark.own_rows] = 1  # METHOD 7.15
      assert_close(f"experiment, the published code, {key}", run.scores[key], expected, TOLERANCE)
      assert run.by_key[key].values["mAP"] == pytest.approx(oracle.measure(expected, order, POSITIVE, JUNK), abs=1e-12)
    assert run.by_key["raw"].sizes == "fixed frame 64"
