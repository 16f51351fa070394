import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.errors import InputError
from cwf_jax.ops.whitening import (
  EIGENVALUE_FLOOR,
  Moments,
  TooFewVectorsError,
  apply_whitening,
  count_distinct,
  fit_whitening,
)
from tests.oracle import encoding, whitening
from tests.oracle.deviation import assert_close

# The fit is float64 and rounded to float32 once. Applying it subtracts a mean that is near the vectors and divides by the
# roots of eigenvalues that differ by some hundreds: both take digits from float32.
TOLERANCE = 1e-4

jitted = jax.jit(apply_whitening)


def draw(n, channels, seed=0):
  """Unit rows, >= 0, with a spectrum that falls by about 300 as that of class vectors does."""
  random = np.random.default_rng(seed)
  directions = np.linalg.qr(random.normal(size=(channels, channels)))[0]
  rows = random.normal(size=(n, channels)) * np.geomspace(1.0, 1 / 300, channels) ** 0.5
  rows = np.maximum(rows @ directions + 1.0, 0.01)
  return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def products(vectors):
  vectors = np.asarray(vectors, np.float64)
  return vectors @ vectors.T


@pytest.mark.parametrize(("n", "channels", "dimensions"), [(3, 2, 2), (9, 8, 8), (50, 8, 1), (200, 32, 32), (200, 32, 7)])
def test_equals_the_oracle(n, channels, dimensions):
  vectors = draw(n, channels)
  ours = fit_whitening(vectors, dimensions)
  mean, projection = whitening.fit(vectors, dimensions, EIGENVALUE_FLOOR)
  # float64 on both sides, by eigenvectors here and by singular values there, then rounded to float32
  assert_close("whitening: mean", ours.mean, mean, 1e-6)
  assert_close("whitening: projection", ours.projection, projection, 1e-5)
  fresh = draw(30, channels, seed=1)
  result = jitted(ours, jnp.asarray(fresh))
  expected = whitening.apply(mean, projection, fresh)
  assert_close("inner products after whitening", products(result), products(expected), TOLERANCE)
  np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(("n", "channels", "dimensions"), [(1000, 64, 48), (400, 128, 128)])
def test_equals_scikit_learn(n, channels, dimensions):
  decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn, of the test extra, is not installed")
  vectors, fresh = draw(n, channels), draw(30, channels, seed=1)
  peer = decomposition.PCA(dimensions, whiten=True, svd_solver="full").fit(vectors.astype(np.float64))
  expected = encoding.normalize(peer.transform(fresh.astype(np.float64)))
  result = jitted(fit_whitening(vectors, dimensions), jnp.asarray(fresh))
  # their divisor is n - 1, which cancels; the sign of a direction does not show in an inner product
  assert_close("inner products after whitening: scikit-learn", products(result), products(expected), TOLERANCE)


def test_whitened_vectors_have_unit_covariance():
  vectors = draw(500, 12)
  ours = fit_whitening(vectors, 12)
  whitened = (vectors.astype(np.float64) - np.asarray(ours.mean)) @ np.asarray(ours.projection)
  np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(12), atol=1e-4)  # the projection is rounded to float32


def test_signs_are_deterministic():
  vectors = draw(100, 16)
  ours = np.asarray(fit_whitening(vectors, 16).projection)
  np.testing.assert_array_equal(np.sign(ours[np.abs(ours).argmax(0), np.arange(16)]), 1.0)
  mirrored = np.asarray(fit_whitening(-vectors, 16).projection)  # the same directions
  np.testing.assert_allclose(mirrored, ours, rtol=1e-5, atol=1e-5 * np.abs(ours).max())
  assert (np.diff(np.linalg.norm(ours, axis=0)) > 0).all()  # the largest eigenvalue first


@pytest.mark.parametrize("rank", [1, 3])
def test_rank_deficient_data_stays_finite(rank):
  random = np.random.default_rng(0)
  rows = np.abs(random.normal(size=(50, rank))) @ np.abs(random.normal(size=(rank, 12)))
  rows = rows + np.abs(random.normal(size=12)) if rank == 1 else rows
  vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
  ours = fit_whitening(vectors, 12)
  lengths = np.linalg.norm(np.asarray(ours.projection, np.float64), axis=0)
  np.testing.assert_allclose(lengths.max() / lengths[0], EIGENVALUE_FLOOR**-0.5, rtol=1e-4)  # a root of the floor, in float32
  result = np.asarray(jitted(ours, jnp.asarray(vectors)))
  assert np.isfinite(result).all()
  np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("dimensions", [1, 5, 8])
def test_the_first_columns_are_the_whitening_to_fewer_dimensions(dimensions):
  vectors, fresh = draw(100, 8), draw(30, 8, seed=1)
  fewer = fit_whitening(vectors, 8).keep_first(dimensions)
  result = jitted(fewer, jnp.asarray(fresh))
  np.testing.assert_array_equal(result, jitted(fit_whitening(vectors, dimensions), jnp.asarray(fresh)))
  expected = whitening.apply(*whitening.fit(vectors, dimensions, EIGENVALUE_FLOOR), fresh)
  assert_close("inner products after whitening: fewer dimensions", products(result), products(expected), TOLERANCE)


def test_too_few_vectors():
  vectors = draw(8, 8)
  with pytest.raises(TooFewVectorsError, match="there are 8"):
    fit_whitening(vectors, 8)
  fit_whitening(vectors, 7)
  padded = np.concatenate([draw(4, 8), np.zeros((10, 8), np.float32)])
  with pytest.raises(TooFewVectorsError, match="there are 4"):  # zero rows do not count
    fit_whitening(padded, 4)
  with pytest.raises(TooFewVectorsError, match="there are 0"):
    fit_whitening(np.zeros((0, 8), np.float32), 1)


@pytest.mark.parametrize("n", [5, 100, 3000])
def test_equal_vectors_are_refused(n):
  with pytest.raises(TooFewVectorsError, match="all the same"):
    fit_whitening(np.repeat(draw(1, 64), n, axis=0), 2)


@pytest.mark.parametrize("dimensions", [0, 9, -1])
def test_dimensions_out_of_range(dimensions):
  with pytest.raises(InputError, match="1 to 8 dimensions"):
    fit_whitening(draw(20, 8), dimensions)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
  vectors = draw(20, 8)
  vectors[3, 2] = value
  with pytest.raises(InputError, match="not finite"):
    fit_whitening(vectors, 4)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_streamed_moments_equal_one_shot(batch):
  vectors = draw(100, 16)
  moments = Moments.zero(16)
  for start in range(0, 100, batch):
    moments.add(vectors[start : start + batch])
  moments.add(vectors[:0])
  assert moments.count == 100
  streamed, whole = moments.fit(10), fit_whitening(vectors, 10)
  np.testing.assert_allclose(streamed.mean, whole.mean, rtol=1e-6)  # float64 sums in another order, rounded to float32
  np.testing.assert_allclose(streamed.projection, whole.projection, atol=1e-6 * np.abs(whole.projection).max())


def test_zero_rows_are_left_out_and_stay_zero():
  vectors = draw(40, 8)
  with_zeros = np.insert(vectors, [0, 5, 40], 0.0, axis=0)
  ours, whole = fit_whitening(with_zeros, 8), fit_whitening(vectors, 8)
  np.testing.assert_allclose(ours.projection, whole.projection, rtol=1e-6)
  result = np.asarray(jitted(ours, jnp.asarray(with_zeros)))
  np.testing.assert_array_equal(np.flatnonzero(~result.any(1)), [0, 6, 42])
  assert_close("inner products after whitening", result, whitening.apply(ours.mean, ours.projection, with_zeros), TOLERANCE)


def test_arrays_of_the_device_are_taken():
  vectors = draw(40, 8)
  np.testing.assert_array_equal(fit_whitening(jnp.asarray(vectors), 5).projection, fit_whitening(vectors, 5).projection)


def test_under_jit_and_vmap_with_any_leading_axes():
  vectors = draw(24, 8)
  ours = fit_whitening(vectors, 5)
  stacked = jnp.asarray(vectors.reshape(2, 3, 4, 8))
  whole = jitted(ours, jnp.asarray(vectors))
  np.testing.assert_allclose(jitted(ours, stacked).reshape(24, 5), whole, atol=1e-6)  # another order of vectors
  mapped = jax.jit(jax.vmap(apply_whitening, in_axes=(None, 0)))(ours, stacked)
  np.testing.assert_allclose(mapped.reshape(24, 5), whole, atol=1e-6)


def test_gradients():
  vectors = draw(24, 6)
  ours = fit_whitening(vectors, 4)
  # central differences in float32; whitening multiplies small differences by tens
  check_grads(lambda rows: jitted(ours, jnp.asarray(rows)), (vectors[:2],), 1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-3)
  gradient = jax.jit(jax.grad(lambda rows: apply_whitening(ours, rows).sum()))(jnp.zeros((2, 6)))
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(5,), (2, 7), (2, 3, 5)], ids=str)
def test_vectors_of_other_channels_are_refused(shape):
  ours = fit_whitening(draw(24, 6), 4)
  for call in (lambda: apply_whitening(ours, jnp.ones(shape)), lambda: jax.eval_shape(apply_whitening, ours, jnp.ones(shape))):
    with pytest.raises(ValueError) as caught:
      call()
    message = f"apply_whitening: vectors [... k] has the shape {shape}, and the whitening's k is 6"
    assert str(caught.value) == message


def test_copies_count_once():
  random, originals = np.random.default_rng(3), draw(40, 64)
  noisy = np.repeat(originals, 9, axis=0) + 1e-3 * random.normal(size=(360, 64)).astype(np.float32)
  noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
  assert count_distinct(originals) == pytest.approx(40, abs=1)
  assert count_distinct(noisy) == pytest.approx(40, abs=2)
  assert count_distinct(np.concatenate([noisy, np.zeros((5, 64), np.float32)])) == pytest.approx(40, abs=2)
  moments = Moments.zero(64)
  moments.add(noisy)
  assert moments.fit_supported().projection.shape == (64, 64)
  assert moments.fit_supported(distinct=count_distinct(noisy)).projection.shape[1] == pytest.approx(39, abs=2)
  assert count_distinct(np.tile(originals[:1], (20, 1))) == 1 and count_distinct(np.zeros((3, 64))) == 0
