"""The maximum of each channel, and the generalized mean between it and the mean."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.pooling import GEM_FLOOR, pool_gem, pool_max
from tests.ops.activations import draw, draw_distinct, draw_mask
from tests.oracle import pooling
from tests.oracle.deviation import assert_close

# A sum over at most 2880 cells, one after another (1e-6), of powers of values in [0, 1] that are right to a few ulp (6e-8
# each); the root divides the relative error by p, which is no less than a half here.
TOLERANCE = 1e-5

SHAPES = [(1, 1, 1, 1), (3, 1, 1, 6), (2, 1, 6, 3), (2, 5, 1, 1), (3, 5, 3, 16), (1, 45, 64, 4)]

maximum = jax.jit(pool_max)
generalized = jax.jit(pool_gem)  # the exponent is an argument of the program, as where it is learned
named = jax.jit(pool_gem, static_argnames="exponent")


def to_device(*arrays):
  return [None if array is None else jnp.asarray(array) for array in arrays]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_maxima_equal_the_oracle(shape, masked):
  features, mask = draw((*shape, 1))[0], draw_mask(shape[:3]) if masked else None
  result = maximum(*to_device(features, mask))
  assert_close("maxima", result, pooling.pool_max(features, mask), 0.0)
  assert_close("maxima", maximum(*to_device(features - 3.0, mask)), pooling.pool_max(features - np.float32(3.0), mask), 0.0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_generalized_means_equal_the_oracle(shape, masked):
  features, mask = draw((*shape, 1))[0], draw_mask(shape[:3]) if masked else None
  for exponent in (0.5, 1.0, 3.0, 10.0):
    result = generalized(*to_device(features, mask), jnp.float32(exponent))
    assert_close("generalized means", result, pooling.pool_gem(features, mask, exponent), TOLERANCE)


@pytest.mark.parametrize("magnitude", [1e-5, 1e12, 1e30])
def test_no_magnitude_is_lost(magnitude):
  """The third power of 1e30 has no place in float32."""
  features = draw((3, 5, 3, 16, 1))[0] * np.float32(magnitude)
  for exponent in (3.0, 8.0):
    result = generalized(jnp.asarray(features), None, jnp.float32(exponent))
    assert_close("generalized means", result / magnitude, pooling.pool_gem(features, None, exponent) / magnitude, TOLERANCE)


def test_values_by_hand():
  features = jnp.asarray([[[[3.0, 0.0], [4.0, 0.0]]]])
  np.testing.assert_array_equal(maximum(features), [[4.0, 0.0]])
  np.testing.assert_allclose(named(features, exponent=2.0), [[12.5**0.5, GEM_FLOOR]], rtol=1e-6)
  assert GEM_FLOOR == 1e-6


def test_three_is_the_default():
  features = draw((2, 3, 4, 8, 1))[0]
  assert_close("generalized means", named(jnp.asarray(features)), pooling.pool_gem(features, None, 3.0), TOLERANCE)


def test_no_cell_gives_zero():
  features, mask = jnp.ones((2, 6, 7, 8)), jnp.zeros((2, 6, 7), bool).at[1].set(True)
  for found in (maximum(features, mask), named(features, mask)):
    assert not np.asarray(found[0]).any()
    np.testing.assert_allclose(found[1], 1.0, rtol=1e-6)


@pytest.mark.parametrize("garbage", [7.0, np.nan, np.inf])
def test_a_map_inside_a_larger_one_is_the_map(garbage):
  """Wherever it lies, and whatever lies around it."""
  features = draw((2, 3, 4, 8, 1))[0]
  padded, mask = np.full((2, 6, 7, 8), garbage, np.float32), np.zeros((2, 6, 7), bool)
  padded[:, 2:5, 1:5], mask[:, 2:5, 1:5] = features, True
  np.testing.assert_array_equal(maximum(*to_device(padded, mask)), maximum(jnp.asarray(features)))
  # the same sums in another order, with zeros between: an ulp or two
  np.testing.assert_allclose(named(*to_device(padded, mask)), named(jnp.asarray(features)), rtol=1e-6)


def test_gradients():
  features, mask = to_device(draw_distinct((2, 3, 2, 3)), np.array([[[True, True], [True, False], [True, True]]] * 2))
  # central differences in float32: see test_normalize; the values are a sixth apart
  arguments = {"order": 1, "modes": ["rev"], "atol": 5e-3, "rtol": 5e-3, "eps": 1e-2}
  check_grads(lambda features: maximum(jnp.asarray(features), mask), (features,), **arguments)
  for exponent in (1.0, 3.0):
    check_grads(lambda features, p: generalized(features, mask, jnp.asarray(p)), (features, jnp.float32(exponent)), **arguments)


@pytest.mark.parametrize("case", ["zeros", "empty mask", "one positive", "huge"])
def test_gradients_at_the_edges_are_finite(case):
  features = jnp.zeros((2, 2, 2, 3)).at[0, 0, 0, 0].set({"one positive": 2.0, "huge": 1e30}.get(case, 0.0))
  mask = jnp.full((2, 2, 2), case != "empty mask")
  slope = jax.jit(jax.grad(lambda features, p: (pool_max(features, mask) + pool_gem(features, mask, p)).sum(), argnums=(0, 1)))
  for exponent in (1.0, 3.0, 50.0) if case == "huge" else (0.5, 1.0, 3.0, 50.0):  # a root is steep at 1e-36 of the maximum
    assert all(np.isfinite(gradient).all() for gradient in slope(features, jnp.float32(exponent)))


@hypothesis.given(st.integers(0, 99), st.booleans())
def test_an_exponent_of_one_is_the_mean_and_a_large_one_nears_the_maximum(seed, masked):
  features = draw((3, 5, 3, 16, 1), seed)[0] + np.float32(1e-3)
  mask = draw_mask((3, 5, 3), seed) if masked else np.ones((3, 5, 3), bool)
  cells = np.maximum(mask.sum((1, 2)), 1)[:, None]
  device = to_device(features, mask)
  mean = np.where(mask[..., None], features.astype(np.float64), 0.0).sum((1, 2)) / cells
  assert_close("generalized means: mean", generalized(*device, jnp.float32(1.0)), mean, TOLERANCE)
  largest = np.asarray(maximum(*device), np.float64)
  before = mean
  for exponent in (2.0, 8.0, 64.0, 512.0):
    found = np.asarray(generalized(*device, jnp.float32(exponent)), np.float64)
    assert (found >= before * (1 - 1e-5)).all()  # it grows with the exponent; the bounds are those of float32
    assert (found <= largest * (1 + 1e-5)).all() and (found >= largest * cells ** (-1 / exponent) * (1 - 1e-5)).all()
    before = found


@hypothesis.given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_the_scale_of_the_features_goes_through(seed, scale):
  features = draw((2, 3, 4, 8, 1), seed)[0] + np.float32(1.0)
  scaled = jnp.asarray(features * np.float32(scale))
  np.testing.assert_allclose(named(scaled), named(jnp.asarray(features)) * scale, rtol=1e-5)  # rounding of the scaling
  np.testing.assert_allclose(maximum(scaled), maximum(jnp.asarray(features)) * scale, rtol=1e-6)
