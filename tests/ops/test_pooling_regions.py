"""Vectors of regions: those of R-MAC's grid, and those of an image's boxes for each class."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.grid import REGIONS, place_regions
from cwf_jax.ops.pooling import pool_region_vectors, pool_rmac
from tests.ops.activations import draw, draw_distinct, draw_mask, draw_rectangles
from tests.oracle import encoding, pooling
from tests.oracle.deviation import assert_close

# Maxima are exact; a length is a sum of positive squares and a root. Sums over cells: see test_pooling. A few ulp (6e-8 each).
TOLERANCE = 1e-5

SHAPES = [(1, 1, 1, 1), (3, 1, 1, 4), (2, 1, 7, 3), (2, 6, 6, 1), (2, 9, 5, 3), (1, 16, 40, 3)]

_rmac = jax.jit(pool_rmac)
_boxes = jax.jit(place_regions)
_sum = jax.jit(aggregate)
_in_boxes = jax.jit(pool_region_vectors)


def draw_boxes(images, count, shape, seed=0):
  """Boxes in cells, some of them beyond the map and the last zeros, as where there is no region."""
  random = np.random.default_rng(seed)
  corners = random.integers(-1, max(shape), (images, count, 2))
  boxes = np.concatenate([corners, corners + random.integers(1, max(shape) + 1, (images, count, 2))], axis=-1)
  boxes[:, -1] = 0
  return boxes.astype(np.int32)


def to_device(*arrays):
  return [None if array is None else jnp.asarray(array) for array in arrays]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rmac_equals_the_oracle(shape, masked):
  features = draw((*shape, 1))[0]
  mask = draw_rectangles(shape[:3]) if masked else np.ones(shape[:3], bool)
  found = np.asarray(_rmac(*to_device(features, mask)))
  assert found.shape == (shape[0], REGIONS, shape[3])
  boxes = np.asarray(_boxes(jnp.asarray(mask)))
  assert_close("regions' maxima", found, pooling.pool_boxes(features, boxes), TOLERANCE)
  assert not found[~boxes.any(-1)].any()
  assert_close("R-MAC", _sum(jnp.asarray(found)), pooling.sum_rmac(features, mask), TOLERANCE)


@pytest.mark.parametrize("garbage", [7.0, np.nan, np.inf, -np.inf])
def test_rmac_of_a_map_inside_a_larger_one_is_that_of_the_map(garbage):
  """Lying and standing, to the bit, since a maximum has no order."""
  features = draw((2, 5, 9, 8, 1))[0]
  expected = np.asarray(_rmac(jnp.asarray(features)))
  for turn in (False, True):
    padded, mask = np.full((2, 12, 12, 8), garbage, np.float32), np.zeros((2, 12, 12), bool)
    map_of = features.swapaxes(1, 2) if turn else features
    i, j = map_of.shape[1:3]
    padded[:, 2 : 2 + i, 3 : 3 + j], mask[:, 2 : 2 + i, 3 : 3 + j] = map_of, True
    np.testing.assert_array_equal(_rmac(*to_device(padded, mask)), expected)


def test_rmac_of_a_portrait_is_that_of_the_landscape():
  features = draw((2, 5, 9, 8, 1))[0]
  found = _rmac(jnp.asarray(features.swapaxes(1, 2)))
  np.testing.assert_array_equal(found, _rmac(jnp.asarray(features)))


def test_rmac_of_nothing_is_zero():
  features = draw((2, 5, 9, 8, 1))[0]
  assert not np.asarray(_rmac(jnp.zeros((2, 5, 9, 8)))).any()
  found = np.asarray(_rmac(*to_device(features, np.zeros((2, 5, 9), bool))))
  assert not found.any()


def test_rmac_gradient():
  features = jnp.asarray(draw_distinct((1, 2, 3, 4)))
  slope = jax.jit(lambda features: aggregate(pool_rmac(features)))
  # central differences in float32: see test_normalize; values are a sixth apart
  check_grads(lambda features: slope(jnp.asarray(features)), (features,), 1, modes=["rev"], atol=5e-3, rtol=5e-3, eps=1e-2)


def test_rmac_gradients_at_zeros_are_finite():
  mask = jnp.ones((2, 2, 3), bool).at[1].set(False)
  slope = jax.jit(jax.grad(lambda features: pool_rmac(features, mask).sum()))
  for features in (jnp.zeros((2, 2, 3, 4)), jnp.zeros((2, 2, 3, 4)).at[0, 0, 0, 0].set(1.0)):
    assert np.isfinite(slope(features)).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 1, 6, 3, 2), (2, 5, 1, 1, 2), (3, 5, 6, 8, 3)], ids=str)
def test_vectors_in_boxes_equal_the_oracle(shape, masked):
  features, cams, _ = draw(shape)
  boxes, mask = draw_boxes(shape[0], 4, shape[1:3]), draw_mask(shape[:3]) if masked else np.ones(shape[:3], bool)
  found = np.asarray(_in_boxes(*to_device(features, cams, boxes, mask)))
  expected = pooling.pool_region_vectors(features, cams, boxes, mask)
  assert_close("class vectors in boxes", found, expected, TOLERANCE)
  assert not found[~expected.any(-1)].any()
  assert not found[:, -1].any()  # no region, no vector


def test_the_box_of_the_whole_map_gives_the_class_vectors():
  features, cams, _ = draw((3, 5, 6, 8, 3))
  boxes = jnp.tile(jnp.asarray([[[0, 0, 6, 5], [-4, -1, 99, 50], [0, 0, 0, 0], [3, 0, 3, 5]]]), (3, 1, 1))
  found = np.asarray(_in_boxes(*to_device(features, cams, boxes)))
  expected = encoding.pool_class_vectors(features, cams, encoding.compute_channel_weights(features))
  for place in (0, 1):
    assert_close("class vectors in boxes", found[:, place], expected, TOLERANCE)
  assert not found[:, 2:].any()


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_what_lies_outside_a_box_does_not_matter(garbage):
  features, cams, _ = draw((3, 5, 6, 8, 3))
  boxes = np.tile(np.array([[[1, 1, 4, 3]] * 4], np.int32), (3, 1, 1))
  expected = np.asarray(_in_boxes(*to_device(features, cams, boxes)))
  outside = np.ones((5, 6), bool)
  outside[1:3, 1:4] = False
  features[:, outside], cams[:, outside] = garbage, garbage
  np.testing.assert_array_equal(_in_boxes(*to_device(features, cams, boxes)), expected)


@hypothesis.given(st.integers(0, 99), st.permutations(range(4)), st.floats(1e-9, 1e9))
def test_neither_the_order_of_boxes_nor_the_scale_of_a_map_matters(seed, order, scale):
  features, cams, _ = draw((3, 5, 6, 8, 3), seed)
  boxes = draw_boxes(3, 4, (5, 6), seed)
  found = np.asarray(_in_boxes(*to_device(features, cams, boxes)))
  np.testing.assert_array_equal(_in_boxes(*to_device(features, cams, boxes[:, order])), found[:, order])
  scaled = cams * np.array([scale, 1.0, 1 / scale], np.float32)
  np.testing.assert_allclose(_in_boxes(*to_device(features, scaled, boxes)), found, atol=1e-6)  # rounding of the scaling


def test_gradients_in_boxes():
  features, cams, _ = to_device(*draw((1, 3, 3, 4, 1), seed=3))
  boxes = jnp.asarray([[[0, 0, 2, 3], [1, 1, 3, 3]]])
  slope = jax.jit(lambda features, cams: pool_region_vectors(features, cams, boxes))
  # central differences in float32; the features stay positive, so that the channel weights, which are steps, stay as they are
  check_grads(slope, (features + 0.5, cams), order=1, modes=["rev"], atol=5e-3, rtol=5e-3, eps=1e-2)
  zeros = jax.jit(jax.grad(lambda features, cams: pool_region_vectors(features, cams, boxes).sum(), argnums=(0, 1)))
  assert all(np.isfinite(gradient).all() for gradient in zeros(jnp.zeros_like(features), jnp.zeros_like(cams)))
