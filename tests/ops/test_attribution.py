import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.attribution import share_cells, share_classes
from cwf_jax.ops.pooling import pool_class_vectors
from cwf_jax.ops.whitening import apply_whitening, fit_whitening
from tests.ops.activations import draw, draw_mask
from tests.oracle import attribution
from tests.oracle.deviation import assert_close

# Sums of positive float32 numbers, a few ulp (6e-8 each); whitening divides by lengths that the mean's removal made small.
TOLERANCE = 2e-5

SHAPES = [  # b i j k c
  (1, 1, 1, 1, 1),
  (1, 1, 1, 6, 3),
  (3, 1, 1, 8, 2),
  (2, 1, 6, 8, 2),
  (3, 4, 5, 8, 1),
  (3, 5, 3, 16, 6),
  (1, 9, 12, 32, 10),
]

CASES = [(shape, None) for shape in SHAPES] + [(shape, 5) for shape in SHAPES if shape[3] > 5]

share = jax.jit(share_cells)


@jax.jit
def describe(features, cams, weights, mask, whitening, answers):
  """The score and the classes' shares, by the operations that a search is made of."""
  vectors = pool_class_vectors(features, cams, weights, mask)
  vectors = vectors if whitening is None else apply_whitening(whitening, vectors)
  return (aggregate(vectors) * answers).sum(1), share_classes(vectors, answers[:, None])[:, 0]


def draw_with_answers(shape, dimensions=None, seed=0):
  """As `draw`, and unit answers."""
  answers = np.random.default_rng([seed, 1]).normal(size=(shape[0], dimensions or shape[3]))
  return *draw(shape, seed), (answers / np.linalg.norm(answers, axis=1, keepdims=True)).astype(np.float32)


def fit(channels, dimensions):
  """A whitening of vectors as they are pooled: unit rows without a negative value."""
  rows = np.maximum(np.random.default_rng(7).normal(size=(60, channels)), 0.0)
  return fit_whitening(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dimensions)


def to_device(*arrays):
  return [None if array is None else jnp.asarray(array) for array in arrays]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shape", "dimensions"), CASES, ids=str)
def test_parts_equal_the_oracle_and_add_up_to_the_score(shape, dimensions, masked):
  features, cams, weights, answers = draw_with_answers(shape, dimensions)
  mask = draw_mask(shape[:3]) if masked else None
  whitening = None if dimensions is None else fit(shape[3], dimensions)
  parts = np.asarray(share(*to_device(features, cams, weights, answers), whitening, *to_device(mask)))
  arrays = None if whitening is None else (whitening.mean, whitening.projection)
  expected = attribution.share_cells(features, cams, weights, answers, arrays, mask)
  assert_close("parts of cells and classes", parts, expected, TOLERANCE)
  assert not parts[expected == 0].any()  # zero exactly, where a map is empty
  if masked:
    assert not parts[~mask].any()
  scores, shares = describe(*to_device(features, cams, weights, mask), whitening, jnp.asarray(answers))
  assert_close("sums of parts: scores", parts.sum((1, 2, 3)), scores, TOLERANCE)
  assert_close("sums of parts: shares of classes", parts.sum((1, 2)), shares, TOLERANCE)


def test_values_by_hand():
  features = jnp.asarray([[[[3.0, 0.0], [0.0, 2.0]]]])
  cams = jnp.asarray([[[[1.0, 0.0], [0.5, 1.0]]]])
  parts = share_cells(features, cams, jnp.asarray([[1.0, 4.0]]), jnp.asarray([[0.6, 0.8]]))
  # the classes' vectors are (3, 4) / 5 and (0, 8) / 8; their sum, (0.6, 1.8), has the length of the root of 3.6
  expected = np.array([[[[0.6 * 0.6, 0.0], [0.8 * 0.8, 0.8]]]]) / np.sqrt(3.6)
  np.testing.assert_allclose(parts, expected, rtol=1e-6)


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("empty", ["features", "cams", "weights", "answers", "mask"])
def test_nothing_gives_zero(empty, whitened):
  features, cams, weights, answers = draw_with_answers((2, 3, 4, 8, 2), 5 if whitened else None)
  arrays = {"features": features, "cams": cams, "weights": weights, "answers": answers, "mask": np.ones((2, 3, 4), bool)}
  arrays[empty] = np.zeros_like(arrays[empty])
  *inputs, mask = to_device(*arrays.values())
  assert not np.asarray(share(*inputs, fit(8, 5) if whitened else None, mask)).any()


@pytest.mark.parametrize("whitened", [False, True])
def test_answers_of_other_dimensions_are_refused(whitened):
  """One number would be spread over all of them, unnoticed."""
  features, cams, weights, _ = to_device(*draw_with_answers((2, 3, 4, 8, 2)))
  expected = "d is 5 in the whitening" if whitened else r"d is 8 in features \[b i j k\], and nothing is whitened"
  for size in (1, 7):
    with pytest.raises(ValueError, match=rf"^share_cells: answers \[b d\] has the shape \(2, {size}\): {expected}$"):
      share_cells(features, cams, weights, jnp.ones((2, size)), fit(8, 5) if whitened else None)


def test_classes_that_cancel_give_numbers():
  whitening = fit(8, 5)
  features, cams, weights, answers = draw_with_answers((1, 2, 2, 8, 2), 5)
  vector = np.asarray(pool_class_vectors(*to_device(features, cams, weights)))[0, 0]
  whitening = type(whitening)(jnp.asarray(vector), whitening.projection)  # the mean is the only class's own vector
  assert np.isfinite(share(*to_device(features, cams, weights, answers), whitening)).all()


def test_padding_does_not_count_whatever_it_holds():
  features, cams, weights, answers = draw_with_answers((2, 3, 4, 8, 3), 5)
  random = np.random.default_rng(2)
  padded = random.normal(scale=1e3, size=(2, 5, 6, 8)).astype(np.float32)
  padded_cams = random.normal(scale=1e3, size=(2, 5, 6, 3)).astype(np.float32)
  padded[:, :3, :4], padded_cams[:, :3, :4] = features, cams
  mask = np.zeros((2, 5, 6), bool)
  mask[:, :3, :4] = True
  result = np.asarray(share(*to_device(padded, padded_cams, weights, answers), fit(8, 5), jnp.asarray(mask)))
  expected = share(*to_device(features, cams, weights, answers), fit(8, 5))
  np.testing.assert_allclose(result[:, :3, :4], expected, atol=1e-6)  # the same sums in another order
  assert not result[~mask].any()


@pytest.mark.parametrize("whitened", [False, True])
def test_under_vmap(whitened):
  whitening = fit(8, 5) if whitened else None
  inputs = to_device(*draw_with_answers((3, 2, 5, 8, 4), 5 if whitened else None), draw_mask((3, 2, 5)))

  def one(*image):
    *arrays, mask = (array[None] for array in image)
    return share_cells(*arrays, whitening, mask)[0]

  # another order of the sums
  np.testing.assert_allclose(jax.jit(jax.vmap(one))(*inputs), share(*inputs[:4], whitening, inputs[4]), atol=1e-6)


@pytest.mark.parametrize("whitened", [False, True])
def test_gradients_at_zeros_are_finite(whitened):
  whitening = fit(8, 5) if whitened else None
  zeros = (jnp.zeros((1, 2, 2, 8)), jnp.zeros((1, 2, 2, 2)), jnp.zeros((1, 8)), jnp.zeros((1, 5 if whitened else 8)))
  gradients = jax.jit(jax.grad(lambda *inputs: share_cells(*inputs, whitening).sum(), argnums=(0, 1, 2, 3)))(*zeros)
  assert all(np.isfinite(gradient).all() for gradient in gradients)


@hypothesis.given(st.integers(0, 99), st.floats(1e-9, 1e9), st.booleans())
def test_the_scale_of_a_map_does_not_matter(seed, scale, whitened):
  whitening = fit(8, 5) if whitened else None
  features, cams, weights, answers = draw_with_answers((2, 3, 4, 8, 5), 5 if whitened else None, seed)
  scaled = cams * np.asarray([scale, 1.0, 1.0, 1.0, scale], np.float32)
  result = share(*to_device(features, scaled, weights, answers), whitening)
  expected = share(*to_device(features, cams, weights, answers), whitening)
  np.testing.assert_allclose(result, expected, atol=1e-5)  # rounding of the scaling, made larger by whitening


@hypothesis.given(st.integers(0, 99))
def test_a_batch_is_its_images(seed):
  whitening, inputs = fit(8, 5), to_device(*draw_with_answers((3, 3, 4, 8, 5), 5, seed))
  alone = [share(*(array[i : i + 1] for array in inputs), whitening)[0] for i in range(3)]
  np.testing.assert_allclose(share(*inputs, whitening), jnp.stack(alone), atol=1e-6)  # another order of vectors
