"""Whitening, sums and cosines against the oracle; what is zero or not finite; empty vectors that are filled; by hand."""

import numpy as np
import pytest

from cwf_jax.evaluation.descriptors import describe, score, score_online
from cwf_jax.evaluation.fitting import fit_whitening
from tests.oracle import encoding, ranking
from tests.oracle import systems as oracle
from tests.oracle.deviation import assert_close

# Float32 products and sums of 8 to 40 numbers, a few 1e-7; whitening divides them by roots of eigenvalues, the least of which
# are here a tenth of the largest.
TOLERANCE = 1e-5


def _unit(shape, seed=0):
  return encoding.normalize(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def _parts(vectors, sizes, seed=0):
  """In parts of these sizes, the images in any order."""
  order = np.random.default_rng(seed).permutation(len(vectors))
  return [(places, vectors[places]) for places in np.split(order, np.cumsum(sizes))]


class TestFit:
  def test_it_is_the_oracle_s_of_all_vectors(self):
    vectors = _unit((20, 3, 8))
    vectors[4, 1] = vectors[7] = 0
    fit = fit_whitening(_parts(vectors, [3, 10]), 5)
    assert (fit.vectors, fit.left_out) == (56, 4)
    mean, projection = oracle.fit(vectors, 5)
    assert_close("fit_whitening, mean", fit.whitening.mean, mean, TOLERANCE)
    assert_close("fit_whitening, projection", fit.whitening.projection, projection, TOLERANCE)

  def test_places_without_a_region_are_not_counted(self):
    vectors = _unit((20, 3, 8))
    vectors[:, 2] = 0
    vectors[3, 0, 0] = np.nan
    fit = fit_whitening(_parts(vectors, [3]), 5, zeros_are_odd=False)
    assert (fit.vectors, fit.left_out) == (39, 1)

  def test_what_is_not_finite_is_left_out_and_counted(self):
    vectors = _unit((20, 1, 8))
    expected = fit_whitening([(np.arange(18), vectors[2:])], 5).whitening
    vectors[0, 0, 3], vectors[1, 0, 0] = np.nan, np.inf
    fit = fit_whitening(_parts(vectors, [3]), 5)
    assert (fit.vectors, fit.left_out) == (18, 2)
    np.testing.assert_allclose(fit.whitening.projection, expected.projection, rtol=1e-4, atol=1e-5)

  @pytest.mark.parametrize(("count", "dimensions"), [(6, 2), (11, 3), (24, 8), (60, 8)])
  def test_as_many_dimensions_as_the_vectors_bear(self, count, dimensions):
    fit = fit_whitening([(np.arange(count), _unit((count, 1, 8)))], 512)
    assert fit.whitening.projection.shape == (8, dimensions)

  @pytest.mark.parametrize("vectors", [np.zeros((0, 1, 8)), _unit((5, 1, 8)), np.zeros((9, 1, 8)), np.ones((9, 1, 8)) / 8**0.5])
  def test_too_few_or_all_alike(self, vectors):
    fit = fit_whitening([(np.arange(len(vectors)), vectors)], 4)
    assert fit.whitening is None and fit.vectors + fit.left_out == len(vectors)

  def test_no_part_at_all(self):
    assert fit_whitening([], 4) == (None, 0, 0, "")

  def test_row_14_by_hand(self):
    """Along the axes the variances are 1 and 1e-10: less than a floor of 1e-8 of the largest, which then counts."""
    vectors = np.asarray([[1, 1e-5], [1, -1e-5], [-1, 1e-5], [-1, -1e-5]] * 2, np.float32)[:, None]
    with_floor, without = (
      np.abs(fit_whitening([(np.arange(8), vectors)], 2, floor).whitening.projection) for floor in (1e-8, 0.0)
    )
    np.testing.assert_allclose(with_floor, [[1, 0], [0, 1e4]], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(without, [[1, 0], [0, 1e5]], rtol=1e-4, atol=1e-3)


class TestDescribe:
  @pytest.mark.parametrize("is_whitened", [False, True])
  def test_it_is_the_oracle_s(self, is_whitened):
    vectors = _unit((300, 3, 8), seed=1)  # more than a block has
    vectors[5, 1] = vectors[9] = 0
    fit = fit_whitening(_parts(vectors, []), 5) if is_whitened else None
    fitted = oracle.fit(vectors, 5) if is_whitened else None
    found = describe(_parts(vectors, [7, 270]), 300, fit and fit.whitening)
    assert_close(f"describe, {'whitened' if is_whitened else 'raw'}", found, oracle.describe(vectors, fitted), TOLERANCE)
    assert found.dtype == np.float32 and not found[9].any()

  def test_row_11_the_whitened_vector_before_fills_an_empty_one(self):
    vectors = _unit((9, 4, 8), seed=2)
    vectors[0, 1:3] = vectors[1, 0] = vectors[2] = 0
    whitening, fitted = fit_whitening(_parts(vectors, []), 5).whitening, oracle.fit(vectors, 5)
    for number, pair in enumerate(((None, None), (whitening, fitted))):
      found = describe(_parts(vectors, [2]), 9, pair[0], fill=True)
      assert_close(f"describe, filled {number}", found, oracle.describe(vectors, pair[1], filled=True), TOLERANCE)
      assert not found[2].any()
    # By hand: of a, nothing, nothing, b the sum is 3 a + b.
    pair = np.asarray([[[1, 0], [0, 0], [0, 0], [0, 1]]], np.float32)
    np.testing.assert_allclose(describe([(np.arange(1), pair)], 1, None, True), [[3 / 10**0.5, 1 / 10**0.5]], rtol=1e-6)
    np.testing.assert_allclose(describe([(np.arange(1), pair)], 1, None, False), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)

  def test_half_precision_is_taken(self):
    vectors = _unit((9, 4, 8)).astype(np.float16)
    expected = oracle.describe(vectors)
    assert_close("describe, from half precision", describe(_parts(vectors, [2]), 9, None), expected, TOLERANCE)

  def test_what_is_not_finite_stays_so_and_leaves_the_others_alone(self):
    vectors = _unit((9, 3, 8))
    expected = describe(_parts(vectors, [4]), 9, None)
    vectors[2, 1, 5] = np.nan
    found = describe(_parts(vectors, [4]), 9, None)
    assert np.flatnonzero(~np.isfinite(found).all(1)).tolist() == [2]
    np.testing.assert_array_equal(np.delete(found, 2, 0), np.delete(expected, 2, 0))

  def test_nothing(self):
    assert describe([], 3, None).shape == (3, 0)


@pytest.mark.parametrize("sizes", [(1,), (300,), (5, 700), (300, 0, 3)])
def test_scores_of_all_databases_side_by_side(sizes, monkeypatch):
  monkeypatch.setattr("cwf_jax.ops.ranking.BLOCK", 256)
  queries, databases = _unit((3, 8)), [_unit((size, 8), seed=size) for size in sizes]
  found = score(queries, databases)
  assert found.dtype == np.float32
  assert_close("descriptors.score", found, ranking.score(queries, np.concatenate(databases)), TOLERANCE)


class TestOnline:
  IDS = (1, 3, 4, 7)

  @pytest.fixture
  def case(self):
    vectors = _unit((20, 4, 8), seed=5)
    vectors[3, 1] = vectors[4, 0] = vectors[6] = 0
    wanted = np.asarray([[3, 1, 7], [4, 7, 1], [1, 3, 4]])
    return vectors, wanted, _unit((3, 5), seed=6), _unit((3, 8), seed=7)

  @pytest.mark.parametrize("fill", [False, True])
  @pytest.mark.parametrize("is_whitened", [False, True])
  def test_it_is_the_oracle_s(self, case, fill, is_whitened):
    vectors, wanted, *queries = case
    fitted = oracle.fit(vectors, 5) if is_whitened else None
    whitening = fit_whitening(_parts(vectors, []), 5).whitening if is_whitened else None
    own = queries[0] if is_whitened else queries[1]
    found = score_online(own, wanted, _parts(vectors, [7]), self.IDS, 20, whitening, fill)
    expected = np.zeros((3, 20))
    for query, classes in enumerate(wanted.tolist()):
      chosen = vectors[:, [self.IDS.index(one) for one in classes]]
      expected[query] = ranking.score(own[query : query + 1], oracle.describe(chosen, fitted, fill))[0]
    assert_close(f"score_online, whitened {is_whitened}, filled {fill}", found.scores, expected, TOLERANCE)
    assert found.zero == 3 and found.not_finite == 0  # the image without a vector, for each query

  def test_what_is_zero_or_not_finite_is_counted_by_query_and_image(self, case):
    vectors, wanted, _, queries = case
    vectors[8] = np.nan
    vectors[9, [0, 1, 3]] = 0  # all that the first query wants
    found = score_online(queries, wanted, _parts(vectors, [7]), self.IDS, 20, None)
    assert (found.zero, found.not_finite) == (4, 3)
    assert np.isnan(found.scores[:, 8]).all() and np.isfinite(np.delete(found.scores, 8, 1)).all()

  @pytest.mark.parametrize("fill", [False, True])
  def test_a_class_that_is_not_finite_spoils_only_those_that_want_it(self, case, fill):
    vectors, wanted, _, queries = case
    expected = score_online(queries, wanted, _parts(vectors, [7]), self.IDS, 20, None, fill).scores
    vectors[8, 2] = np.nan
    wants = np.asarray([self.IDS[2] in row for row in wanted.tolist()])
    assert 0 < wants.sum() < 3
    found = score_online(queries, wanted, _parts(vectors, [7]), self.IDS, 20, None, fill)
    assert found.not_finite == wants.sum() and np.isnan(found.scores[wants, 8]).all()
    found.scores[wants, 8] = expected[wants, 8]
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)

  def test_more_queries_than_are_run_at_once(self, case, monkeypatch):
    vectors, wanted, _, queries = case
    expected = score_online(queries, wanted, _parts(vectors, []), self.IDS, 20, None)
    monkeypatch.setattr("cwf_jax.evaluation.descriptors.QUERIES_AT_ONCE", 2)
    found = score_online(queries, wanted, _parts(vectors, [3]), self.IDS, 20, None)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)  # float32, in batches of other sizes
    assert (found.zero, found.not_finite) == (expected.zero, expected.not_finite)
