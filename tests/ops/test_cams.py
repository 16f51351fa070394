import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.cams import compute_cams
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

# A sum of D float32 products deviates by about sqrt(D) ulp of its largest terms (2e-6 for D = 1024); the maximum, by which
# it is divided, may be a tenth of those terms.
TOLERANCE = 1e-5

SHAPES = [  # b i j d c
  (1, 1, 1, 1, 1),
  (1, 1, 1, 8, 3),
  (3, 1, 1, 4, 2),
  (2, 1, 6, 3, 2),
  (1, 2, 7, 1, 4),
  (3, 4, 5, 8, 1),
  (3, 5, 3, 16, 6),
  (1, 9, 12, 64, 10),
  (1, 45, 64, 1024, 3),
]

jitted = jax.jit(compute_cams)


def draw(shape, seed=0):
  b, i, j, d, c = shape
  random = np.random.default_rng(seed)
  features = np.maximum(random.normal(size=(b, i, j, d)), 0.0).astype(np.float32)
  return features, random.normal(size=(d, c)).astype(np.float32)


def draw_mask(shape, seed=0):
  mask = np.random.default_rng(seed).random(shape) < 0.6
  mask[:, 0, 0] = True
  return mask


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_oracle(shape):
  features, weights = draw(shape)
  result = np.asarray(jitted(jnp.asarray(features), jnp.asarray(weights)))
  expected = encoding.compute_cams(features, weights)
  assert_close("class activation maps", result, expected, TOLERANCE)
  largest = result.max((1, 2))
  assert np.isclose(largest[largest > 0], 1.0, rtol=1e-6).all()  # compiled, a division is a product with the reciprocal
  assert result.min() >= 0


@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_equals_the_oracle_with_a_mask_and_own_weights(shape):
  features, _ = draw(shape)
  weights = np.random.default_rng(1).normal(size=(shape[0], shape[3], shape[4])).astype(np.float32)
  mask = draw_mask(shape[:3])
  result = jitted(jnp.asarray(features), jnp.asarray(weights), jnp.asarray(mask))
  assert_close("class activation maps", result, encoding.compute_cams(features, weights, mask), TOLERANCE)
  assert not np.asarray(result)[~mask].any()


@pytest.mark.parametrize("case", ["negative", "zero features", "zero weights", "nothing inside the mask"])
def test_a_map_without_a_positive_value_is_zero(case):
  features, weights = draw((2, 3, 4, 8, 3))
  mask = np.ones((2, 3, 4), bool)
  if case == "negative":
    weights[:, 1] = -np.abs(weights[:, 1]) - 0.1
  elif case == "zero features":
    features[:] = 0.0
  elif case == "zero weights":
    weights[:, 1] = 0.0
  else:
    mask[:] = False
  result = np.asarray(jitted(jnp.asarray(features), jnp.asarray(weights), jnp.asarray(mask)))
  assert_close("class activation maps", result, encoding.compute_cams(features, weights, mask), TOLERANCE)
  assert not result[..., 1].any()


def test_values_by_hand():
  features = jnp.asarray([[[[1.0, 0.0], [2.0, 2.0]], [[0.0, 3.0], [4.0, 0.0]]]])
  weights = jnp.asarray([[1.0, -1.0], [-1.0, 0.5]])
  expected = [[[[0.25, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]]  # products 1, 0, -3, 4 and -1, -1, 1.5, -4
  np.testing.assert_array_equal(compute_cams(features, weights), expected)


def test_padding_does_not_count_whatever_it_holds():
  features, weights = draw((2, 3, 4, 8, 5))
  padded = np.random.default_rng(2).normal(scale=1e3, size=(2, 6, 7, 8)).astype(np.float32)
  padded[:, :3, :4] = features
  padded[:, 5, 6] = np.nan
  mask = np.zeros((2, 6, 7), bool)
  mask[:, :3, :4] = True
  result = np.asarray(jitted(jnp.asarray(padded), jnp.asarray(weights), jnp.asarray(mask)))
  alone = jitted(jnp.asarray(features), jnp.asarray(weights))
  np.testing.assert_allclose(result[:, :3, :4], alone, atol=1e-6)  # the same sums, in another order of vectors
  assert not result[~mask].any()


def test_under_vmap():
  features, weights = draw((3, 2, 5, 6, 4))
  one_by_one = jax.jit(jax.vmap(lambda image: compute_cams(image[None], jnp.asarray(weights))[0]))(jnp.asarray(features))
  np.testing.assert_allclose(one_by_one, jitted(jnp.asarray(features), jnp.asarray(weights)), atol=1e-6)


def test_gradient():
  features, weights = draw((1, 2, 3, 4, 2), seed=3)
  # central differences in float32, in a place without a kink within eps: see test_normalize
  check_grads(
    jitted, (jnp.asarray(features + 0.1), jnp.asarray(weights)), order=1, modes=["rev"], atol=5e-3, rtol=5e-3, eps=5e-3
  )


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_of_an_empty_map_is_finite(masked):
  mask = jnp.zeros((1, 2, 2), bool) if masked else None
  features = jnp.ones((1, 2, 2, 3)) if masked else jnp.zeros((1, 2, 2, 3))
  gradients = jax.jit(jax.grad(lambda *inputs: compute_cams(*inputs, mask).sum(), argnums=(0, 1)))(features, jnp.ones((3, 2)))
  assert all(np.isfinite(gradient).all() for gradient in gradients)


@hypothesis.given(st.integers(0, 99), st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(seed, scale):
  features, weights = draw((2, 3, 4, 8, 5), seed)
  result = jitted(jnp.asarray(features), jnp.asarray(weights * np.float32(scale)))
  np.testing.assert_allclose(result, jitted(jnp.asarray(features), jnp.asarray(weights)), atol=1e-5)  # rounding of the scaling
