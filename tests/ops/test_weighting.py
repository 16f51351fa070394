import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.pooling import pool_sum
from cwf_jax.ops.weighting import compute_center_weights, compute_channel_weights, compute_spatial_weights
from tests.ops.activations import draw_rectangles
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

# Counts are exact in float32; one division and one logarithm, or sums of K numbers that are all positive and two roots,
# deviate by a few ulp (6e-8 each).
TOLERANCE = 1e-5

SHAPES = [(1, 1, 1, 1), (1, 1, 1, 6), (3, 1, 1, 3), (2, 1, 6, 3), (1, 5, 4, 1), (3, 4, 5, 8), (1, 9, 12, 64), (1, 45, 64, 32)]

channels = jax.jit(compute_channel_weights, static_argnames="epsilon")
center = jax.jit(compute_center_weights)
spatial = jax.jit(compute_spatial_weights)


def draw(shape, seed=0):
  """Rectified features; the last channel never fires where there are several, the first cell never."""
  features = np.maximum(np.random.default_rng(seed).normal(size=shape), 0.0).astype(np.float32)
  if shape[-1] > 1:
    features[..., -1] = 0.0
  if shape[1] * shape[2] > 1:
    features[:, 0, 0] = 0.0
  return features


def draw_mask(shape, seed=1):
  """Of three images one has no cell inside the mask."""
  mask = np.random.default_rng(seed).random(shape) < 0.6
  if shape[0] == 3:
    mask[1] = False
  return mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channel_weights_equal_the_oracle(shape, masked):
  features, mask = draw(shape), draw_mask(shape[:3]) if masked else None
  result = np.asarray(channels(jnp.asarray(features), None if mask is None else jnp.asarray(mask)))
  assert_close("channel weights", result, encoding.compute_channel_weights(features, mask), TOLERANCE)
  fires = (features > 0).any((1, 2)) if mask is None else ((features > 0) & mask[..., None]).any((1, 2))
  assert not result[~fires].any()
  assert result.min() >= 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES[1:6], ids=str)
def test_channel_weights_with_an_epsilon_equal_the_oracle(shape, masked):
  """A channel that never fires weighs most: CroW's paper leaves it so, and nothing is summed there."""
  features, mask = draw(shape), draw_mask(shape[:3]) if masked else np.ones(shape[:3], bool)
  for epsilon in (1e-6, 0.5):
    result = np.asarray(channels(jnp.asarray(features), jnp.asarray(mask), epsilon=epsilon))
    assert_close("channel weights: epsilon", result, encoding.compute_channel_weights(features, mask, epsilon), TOLERANCE)
    if shape[3] > 1:
      assert (result[:, -1] == result.max(1)).all()
  whole = channels(jnp.asarray(features), epsilon=0.5)
  assert_close("channel weights: epsilon", whole, encoding.compute_channel_weights(features, epsilon=0.5), TOLERANCE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_center_weights_equal_the_oracle(shape, masked):
  """The center is that of the rectangle of cells that count, wherever it lies."""
  features, mask = draw(shape), draw_rectangles(shape[:3]) if masked else None
  result = np.asarray(center(jnp.asarray(features), None if mask is None else jnp.asarray(mask)))
  assert_close("center weights", result, encoding.compute_center_weights(shape[:3], mask), TOLERANCE)
  assert result.min() >= 0 and result.max() <= 1
  assert mask is None or not result[~mask].any()


def test_center_weights_by_hand():
  """s is 1/2 on a map of 3 x 5: the center weighs 1, its neighbors e^-2, those across e^-4."""
  found = np.asarray(center(jnp.zeros((1, 3, 5, 1))))[0]
  np.testing.assert_allclose(found[:, 1:4], np.exp([[-4, -2, -4], [-2, 0, -2], [-4, -2, -4]]), rtol=1e-6)
  even = np.asarray(center(jnp.zeros((1, 6, 6, 1))))[0]  # no cell is the center of an even map; s is 1
  np.testing.assert_allclose(even[2:4, 2:4], np.exp(-0.25), rtol=1e-6)
  np.testing.assert_array_equal(center(jnp.zeros((1, 1, 1, 1))), [[[1.0]]])


def test_center_weights_are_symmetric_and_turn_with_the_map():
  features = jnp.zeros((1, 6, 9, 2))
  found = np.asarray(center(features))
  np.testing.assert_allclose(found, found[:, ::-1, ::-1], rtol=1e-6)  # the same squares
  np.testing.assert_array_equal(center(features.swapaxes(1, 2)), found.swapaxes(1, 2))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spatial_weights_equal_the_oracle(shape, masked):
  features, mask = draw(shape), draw_mask(shape[:3]) if masked else None
  result = np.asarray(spatial(jnp.asarray(features), None if mask is None else jnp.asarray(mask)))
  assert_close("spatial weights", result, encoding.compute_spatial_weights(features, mask), TOLERANCE)
  assert result.min() >= 0 and result.max() <= 1
  assert mask is None or not result[~mask].any()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (1.0, 2.0), (3.0, 0.5)])
def test_spatial_weights_with_other_exponents(a, b):
  features = draw((2, 4, 5, 3))
  result = compute_spatial_weights(jnp.asarray(features), a=a, b=b)
  assert_close("spatial weights", result, encoding.compute_spatial_weights(features, a=a, b=b), TOLERANCE)


def test_channel_weights_by_hand():
  features = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0, 0].set(5.0).at[0, :, 0, 1].set(0.1)
  expected = np.log([[3 / 1, 3 / 2, 1.0]])  # one cell of channel 0, two of channel 1, none of channel 2
  np.testing.assert_allclose(compute_channel_weights(features), expected, rtol=1e-6)


def test_a_single_channel_weighs_nothing():
  assert compute_channel_weights(jnp.ones((1, 2, 2, 1))).item() == 0.0


@pytest.mark.parametrize("magnitude", [1e-25, 1e25])
def test_the_scale_of_the_features_does_not_matter(magnitude):
  features = draw((2, 4, 5, 8))
  scaled = jnp.asarray(features * np.float32(magnitude))
  np.testing.assert_array_equal(channels(scaled), channels(jnp.asarray(features)))
  np.testing.assert_allclose(spatial(scaled), spatial(jnp.asarray(features)), rtol=1e-5, atol=1e-6)  # rounding of the scaling


@pytest.mark.parametrize("garbage", [7.0, np.nan, np.inf])
def test_padding_does_not_count_whatever_it_holds(garbage):
  features = draw((2, 3, 4, 8))
  padded = np.full((2, 5, 6, 8), garbage, np.float32)
  padded[:, :3, :4] = features
  mask = np.zeros((2, 5, 6), bool)
  mask[:, :3, :4] = True
  np.testing.assert_array_equal(channels(jnp.asarray(padded), jnp.asarray(mask)), channels(jnp.asarray(features)))
  result = np.asarray(spatial(jnp.asarray(padded), jnp.asarray(mask)))
  np.testing.assert_allclose(result[:, :3, :4], spatial(jnp.asarray(features)), rtol=1e-6)  # the same sums in another order
  assert not result[~mask].any()
  with_epsilon = channels(jnp.asarray(padded), jnp.asarray(mask), epsilon=0.1)
  np.testing.assert_allclose(with_epsilon, channels(jnp.asarray(features), epsilon=0.1), rtol=1e-6)
  np.testing.assert_array_equal(np.asarray(center(jnp.asarray(padded), jnp.asarray(mask)))[:, :3, :4], center(features))


@pytest.mark.parametrize("function", [channels, spatial], ids=["channels", "spatial"])
def test_under_vmap(function):
  features = jnp.asarray(draw((3, 4, 5, 8)))
  one_by_one = jax.jit(jax.vmap(lambda image: function(image[None])[0]))(features)
  np.testing.assert_allclose(one_by_one, function(features), rtol=1e-6)


def test_gradient_of_spatial_weights():
  features = jnp.asarray(draw((1, 2, 3, 4)) + 0.5)
  # central differences in float32: see test_normalize
  check_grads(spatial, (features,), order=1, modes=["rev"], atol=2e-3, rtol=2e-3, eps=1e-2)


@pytest.mark.parametrize("function", [channels, spatial], ids=["channels", "spatial"])
@pytest.mark.parametrize("first", [0.0, 1.0])
def test_gradients_at_zeros_are_finite(function, first):
  features = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0, 0].set(first)
  assert np.isfinite(jax.jit(jax.grad(lambda features: function(features).sum()))(features)).all()
  mask = jnp.zeros((1, 2, 2), bool)
  assert np.isfinite(jax.jit(jax.grad(lambda features: function(features, mask).sum()))(features)).all()


def test_gradient_of_center_weighted_sums():
  """SPoC's sums are linear in the features, and no gradient goes through the weights."""
  features, mask = jnp.asarray(draw((2, 3, 4, 2))), jnp.ones((2, 3, 4), bool).at[:, :, 3].set(False)
  pool = jax.jit(lambda features: pool_sum(features, mask, compute_center_weights(features, mask)))
  check_grads(pool, (features,), order=1, modes=["rev"], atol=2e-3, rtol=2e-3, eps=1e-2)
  gradient = jax.jit(jax.grad(lambda features: pool(features)[:, 0].sum()))(features)
  np.testing.assert_array_equal(gradient[..., 0], center(features, mask))
  assert not np.asarray(gradient[..., 1]).any()
  expected = encoding.pool_sum(features, mask, encoding.compute_center_weights((2, 3, 4), mask))
  assert_close("sums over cells: center weights", pool(features), expected, TOLERANCE)


def test_half_precision_counts_in_single():
  weights = compute_channel_weights(jnp.ones((1, 45, 64, 512), jnp.float16))
  assert weights.dtype == jnp.float16
  np.testing.assert_allclose(weights, np.full((1, 512), np.log(512)), rtol=1e-3)
