"""Names of a ground truth against files; rankings of each system against plain NumPy; average precisions by hand."""

import dataclasses
import math

import numpy as np
import pytest

from cwf_jax.datasets.groundtruth import GroundTruthError, Query
from cwf_jax.errors import InputError
from cwf_jax.evaluation import pooling
from cwf_jax.evaluation.experiment import Benchmark, Ranked, match_names, rank_by_classes, rank_by_pooling
from cwf_jax.evaluation.systems import POOLED
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.images.decoding import decode_image
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.indexing.build import build_index, default_batch_size
from cwf_jax.ops.whitening import EIGENVALUE_FLOOR
from cwf_jax.retrieval.searcher import Searcher
from tests.evaluation.conftest import BOXES, CELLS
from tests.oracle import encoding as oracle
from tests.oracle import whitening as whitening_oracle
from tests.oracle.deviation import assert_close

# Scores are cosines: rows that float32 puts in another order than float64 differ by its rounding, 1e-7 a score before
# whitening; it divides by roots of eigenvalues down to 1e-4 of the largest.
TOLERANCES = {"raw": 1e-6, "crow": 1e-6, "raw+pca": 1e-4, "crow+pca": 1e-4}


class TestOpen:
  def test_names_come_with_and_without_their_ending(self, empty_benchmark):
    folder = empty_benchmark(
      ["hall.jpg", "b/gate.png", "st.mary.webp", "tower.jpg", "other.jpg"],
      query="oxc1_hall",
      good=["hall.jpg", "b/gate"],
      ok=["st.mary"],
      junk=["tower.jpg"],
    )
    benchmark = Benchmark.open(folder)
    assert benchmark.listing.ids == ("b/gate.png", "hall.jpg", "other.jpg", "st.mary.webp", "tower.jpg")
    assert benchmark.rows == {"hall": 1, "hall.jpg": 1, "b/gate": 0, "st.mary": 3, "tower.jpg": 4}
    (query,) = benchmark.queries
    assert (query.name, query.image, query.box) == ("q_1", "hall", (0, 0, 20, 20))
    assert benchmark.query_path(query) == str(folder / "images" / "hall.jpg")

  def test_a_path_that_is_text_is_taken(self, empty_benchmark):
    assert Benchmark.open(str(empty_benchmark(["hall.jpg"]))).rows == {"hall": 0}

  @pytest.mark.parametrize("label", ["good", "ok", "junk"])
  def test_a_name_that_several_files_have_is_refused(self, empty_benchmark, label):
    folder = empty_benchmark(["hall.jpg", "gate.jpg", "gate.png"], **{label: ["gate"]})
    with pytest.raises(InputError, match=r"names 1 images which several files have: gate$") as caught:
      Benchmark.open(folder)
    assert str(folder) in str(caught.value)

  def test_the_ending_tells_such_files_apart(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg", "gate.jpg", "gate.png"], good=["gate.png"], junk=["gate.jpg"])
    assert Benchmark.open(folder).rows == {"hall": 2, "gate.jpg": 0, "gate.png": 1}

  def test_missing_names_are_counted_and_told(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg"], query="nave", good=["hall", "gate.jpg"], ok=["hall.png"], junk=["tower"])
    with pytest.raises(InputError, match=r"names 4 images which are not there: gate.jpg, hall.png, nave, tower$"):
      Benchmark.open(folder)

  def test_of_many_missing_names_the_first_are_told(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg"], good=[f"gone_{number:02d}" for number in range(30)])
    with pytest.raises(InputError, match=r"names 30 images which are not there: gone_00, .*, gone_04$"):
      Benchmark.open(folder)

  def test_a_folder_without_its_parts_is_refused(self, empty_benchmark, tmp_path):
    with pytest.raises(InputError, match=r"no file or folder .*images"):
      Benchmark.open(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "hall.jpg").touch()
    with pytest.raises(GroundTruthError, match="groundtruth"):
      Benchmark.open(tmp_path)

  def test_a_whole_name_comes_before_one_without_its_ending(self):
    assert match_names({"x.jpg"}, ["x.jpg", "x.jpg.png"], "here") == {"x.jpg": 0}


def _benchmark(*queries):
  """Six rows named a to f."""
  names = "abcdef"
  return Benchmark(Listing("/", tuple(f"{name}.jpg" for name in names)), queries, {name: row for row, name in enumerate(names)})


def _query(good="", ok="", junk=""):
  return Query("q", "a", (0, 0, 20, 20), tuple(good), tuple(ok), tuple(junk))


@pytest.mark.parametrize(
  ("query", "ranked", "expected"),
  [
    (_query(good="ab"), "abcdef", 1),
    # found second and third: 1/2 (0 + 1/2)/2 + 1/2 (1/2 + 2/3)/2
    (_query(good="b", ok="d"), "cbdaef", 5 / 12),
    # the same behind junk, which is skipped
    (_query(good="b", ok="d", junk="ae"), "acbedf", 5 / 12),
    (_query(good="b", ok="d", junk="ac"), "acbedf", 1 / 2 + 1 / 2 * (1 / 2 + 2 / 3) / 2),
    (_query(good="f"), "abcdef", 1 / 12),  # (0/5 + 1/6)/2
    (_query(good="f", junk="abcde"), "abcdef", 1),
    (_query(good="ab", ok="b"), "abcdef", 1),  # named twice, counted once
  ],
)
def test_average_precisions_by_hand(query, ranked, expected):
  rows = np.asarray([["abcdef".index(name) for name in ranked]])
  (found,) = _benchmark(query).average_precisions(rows)
  assert found == pytest.approx(expected, abs=1e-15)


def test_each_query_has_its_own_value_and_one_without_positives_none():
  rows = np.tile(np.arange(6), (3, 1))
  found = _benchmark(_query(good="a"), _query(junk="a"), _query(good="b")).average_precisions(rows)
  assert found.dtype == np.float64 and found.shape == (3,)
  assert found[0] == 1 and math.isnan(found[1]) and found[2] == 0.25


def test_a_ranking_for_each_query_is_needed():
  with pytest.raises(ValueError, match="shorter"):
    _benchmark(_query(good="a"), _query(good="b")).average_precisions(np.arange(6)[None])


def _pool(encoder, path, cells=None):
  """The oracle's vector of each system, of the features of one image alone, cut to cells."""
  fitted = fit_image(decode_image(path), encoder.settings.protocol)
  activations = encoder.activate(*stack([fitted], fitted.canvas, 1))
  features, mask = np.asarray(activations.features), np.asarray(activations.mask)
  if cells is not None:
    left, top, right, bottom = cells
    inside = np.zeros_like(mask)
    inside[:, top:bottom, left:right] = True
    mask = mask & inside
  weights = oracle.compute_spatial_weights(features, mask), oracle.compute_channel_weights(features, mask)
  pooled = {"raw": oracle.pool_sum(features, mask), "crow": oracle.pool_sum(features, mask, *weights)}
  return {name: oracle.normalize(vectors)[0] for name, vectors in pooled.items()}


@pytest.fixture(scope="module")
def pooled(tiny_encoder, benchmark):
  """The oracle's vectors of the database and of the queries, by system."""
  files = [benchmark.listing.path(image_id) for image_id in benchmark.listing.ids]
  database = [_pool(tiny_encoder, path) for path in files]
  queries = [_pool(tiny_encoder, benchmark.query_path(query), CELLS[query.name]) for query in benchmark.queries]
  return {name: [np.stack([one[name] for one in some]) for some in (database, queries)] for name in POOLED}


def _check_ranking(name, rows, scores):
  """Each row once, and the oracle's scores in our order are the oracle's scores in theirs."""
  np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(scores.shape[1]), (len(scores), 1)))
  ours, best = np.take_along_axis(scores, rows, 1), -np.sort(-scores, axis=1)
  assert_close(f"rank_by_pooling, {name}", ours, best, TOLERANCES[name])


@pytest.mark.parametrize(("images", "dimensions"), [(12, 4), (7, 2)])
def test_pooling_is_ranked_as_plain_numpy_ranks_it(tiny_encoder, benchmark, pooled, images, dimensions):
  some = dataclasses.replace(benchmark.listing, ids=benchmark.listing.ids[:images])
  told = []
  ranked = rank_by_pooling(tiny_encoder, benchmark, some, 2, lambda done, total: told.append((done, total)))
  channels = pooled["raw"][0].shape[1]
  assert {name: one.dimensions for name, one in ranked.items()} == {
    **dict.fromkeys(("raw", "crow"), channels), **dict.fromkeys(("raw+pca", "crow+pca"), dimensions)
  }  # fmt: skip
  for name, (database, queries) in pooled.items():
    _check_ranking(name, ranked[name].rows, queries @ database.T)
    mean, projection = whitening_oracle.fit(database[:images], dimensions, EIGENVALUE_FLOOR)
    whitened = [whitening_oracle.apply(mean, projection, vectors) for vectors in (queries, database)]
    _check_ranking(f"{name}+pca", ranked[f"{name}+pca"].rows, whitened[0] @ whitened[1].T)
  total = 12 + images + len(BOXES)
  assert told[-1] == (total, total) and [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("batch_size", [1, None])
def test_the_size_of_a_batch_changes_no_score(tiny_encoder, benchmark, pooled, monkeypatch, batch_size):
  if batch_size is None:
    monkeypatch.setattr("cwf_jax.indexing.build.PIXELS_AT_ONCE", {"cpu": 7 * 96 * 96, "gpu": 7 * 96 * 96})
  sizes, fill = [], pooling.fill_batches
  monkeypatch.setattr(pooling, "fill_batches", lambda loaded, size, *rest: sizes.append(size) or fill(loaded, size, *rest))
  ranked = rank_by_pooling(tiny_encoder, benchmark, benchmark.listing, batch_size)
  expected = batch_size or default_batch_size(tiny_encoder)
  assert expected > 0 and sizes == [expected] * 2  # of the whitening and of the database
  for name, (database, queries) in pooled.items():
    _check_ranking(name, ranked[name].rows, queries @ database.T)


def test_a_whole_picture_finds_itself_first(tiny_encoder, benchmark):
  ranked = rank_by_pooling(tiny_encoder, benchmark, benchmark.listing)
  place = [query.name for query in benchmark.queries].index("all_1")
  for one in ranked.values():
    assert isinstance(one, Ranked) and one.rows[place, 0] == benchmark.rows["picture_00"]


def test_an_image_that_cannot_be_read_is_told(tiny_encoder, benchmark, tmp_path):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  with pytest.raises(InputError, match=r"1 images of .* cannot be read, the first is broken.jpg: "):
    rank_by_pooling(tiny_encoder, benchmark, list_images(tmp_path))


def test_too_few_images_to_whiten_by_are_told(tiny_encoder, benchmark):
  one = dataclasses.replace(benchmark.listing, ids=benchmark.listing.ids[:5])
  with pytest.raises(InputError, match=r"the 5 images of .* are too few or too much alike to whiten raw, crow by"):
    rank_by_pooling(tiny_encoder, benchmark, one)


@pytest.fixture(scope="module")
def searcher(tiny_encoder, benchmark, tmp_path_factory):
  folder = tmp_path_factory.mktemp("indexes") / "index"
  build_index(benchmark.listing.root, folder, tiny_encoder, whitening="self", n_pca=4, store_classes="all")
  return Searcher(folder, tiny_encoder)


@pytest.mark.parametrize("aggregation", ["offline", "online"])
def test_classes_are_ranked_as_a_search_ranks_them(searcher, benchmark, aggregation):
  told = []
  ranked = rank_by_classes(searcher, benchmark, aggregation, lambda done, total: told.append((done, total)))
  assert isinstance(ranked, Ranked) and ranked.rows.shape == (3, 12)
  assert ranked.dimensions == 4 * 12 // 3  # the whitening is fitted on four vectors of each of twelve images
  for query, rows in zip(benchmark.queries, ranked.rows, strict=True):
    (results,) = searcher.search([searcher.encode(benchmark.query_path(query), query.box)], aggregation, top=12)
    assert [benchmark.listing.ids[row] for row in rows] == [result.id for result in results]
  assert told == [(1, 3), (2, 3), (3, 3)]
  assert benchmark.average_precisions(ranked.rows).shape == (3,)


def test_dimensions_are_those_that_a_whitening_kept(tiny_encoder, benchmark, tmp_path):
  build_index(benchmark.listing.root, tmp_path / "index", tiny_encoder, whitening="self", n_pca=1, store_classes=0)
  ranked = rank_by_classes(Searcher(tmp_path / "index", tiny_encoder), benchmark, "offline")
  assert ranked.dimensions == 12 // 3  # one vector of each of twelve images
