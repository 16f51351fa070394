import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.pooling import pool_class_vectors, pool_sum
from tests.ops.activations import draw, draw_mask
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

# Sums over the cells of numbers that are all positive: a few ulp (6e-8 each) each, 2880 cells at most.
TOLERANCE = 1e-5

SHAPES = [  # b i j k c
  (1, 1, 1, 1, 1),
  (1, 1, 1, 6, 3),
  (3, 1, 1, 4, 2),
  (2, 1, 6, 3, 2),
  (1, 5, 4, 1, 3),
  (3, 4, 5, 8, 1),
  (3, 5, 3, 16, 6),
  (1, 9, 12, 64, 10),
  (1, 45, 64, 128, 2),
]

by_class = jax.jit(pool_class_vectors)
by_sum = jax.jit(pool_sum)


def to_device(*arrays):
  return [None if array is None else jnp.asarray(array) for array in arrays]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_class_vectors_equal_the_oracle(shape, masked):
  features, cams, weights = draw(shape)
  mask = draw_mask(shape[:3]) if masked else None
  result = np.asarray(by_class(*to_device(features, cams, weights, mask)))
  expected = encoding.pool_class_vectors(features, cams, weights, mask)
  assert_close("class vectors", result, expected, TOLERANCE)
  assert not result[~expected.any(-1)].any()  # zero exactly, not nearly


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", ["neither", "cells", "channels", "both"])
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[6]], ids=str)
def test_sums_equal_the_oracle(shape, weighted, masked):
  features, cams, channel_weights = draw(shape)
  mask = draw_mask(shape[:3]) if masked else None
  spatial_weights = cams[..., 0] if weighted in ("cells", "both") else None
  channel_weights = channel_weights if weighted in ("channels", "both") else None
  result = by_sum(*to_device(features, mask, spatial_weights, channel_weights))
  expected = encoding.pool_sum(features, mask, spatial_weights, channel_weights)
  assert_close("sums over cells", result, expected, TOLERANCE)


@pytest.mark.parametrize("empty", ["features", "cams", "weights", "mask"])
def test_nothing_gives_zero(empty):
  features, cams, weights = draw((2, 3, 4, 8, 2))
  mask = np.full((2, 3, 4), empty != "mask")
  arrays = {"features": features, "cams": cams, "weights": weights, "mask": mask}
  arrays[empty] = np.zeros_like(arrays[empty])
  assert not np.asarray(by_class(*to_device(*arrays.values()))).any()


def test_values_by_hand():
  features = jnp.asarray([[[[1.0, 2.0], [0.0, 4.0]]]])
  cams = jnp.asarray([[[[1.0, 0.0], [0.5, 0.0]]]])
  weights = jnp.asarray([[3.0, 1.0]])
  expected = np.array([[[3.0, 4.0], [0.0, 0.0]]]) / 5  # 3 (1 + 0) and 1 (2 + 2)
  np.testing.assert_allclose(pool_class_vectors(features, cams, weights), expected, rtol=1e-6)


def test_padding_does_not_count_whatever_it_holds():
  features, cams, weights = draw((2, 3, 4, 8, 3))
  random = np.random.default_rng(2)
  padded = random.normal(scale=1e3, size=(2, 5, 6, 8)).astype(np.float32)
  padded_cams = random.normal(scale=1e3, size=(2, 5, 6, 3)).astype(np.float32)
  padded[:, :3, :4], padded_cams[:, :3, :4] = features, cams
  mask = np.zeros((2, 5, 6), bool)
  mask[:, :3, :4] = True
  # the same sums in another order, with zeros between: an ulp or two
  result = by_class(*to_device(padded, padded_cams, weights, mask))
  np.testing.assert_allclose(result, by_class(*to_device(features, cams, weights)), atol=1e-6)
  result = by_sum(*to_device(padded, mask, padded_cams[..., 0]))
  np.testing.assert_allclose(result, by_sum(*to_device(features, None, cams[..., 0])), rtol=1e-5, atol=1e-6)


def test_under_vmap():
  features, cams, weights = to_device(*draw((3, 2, 5, 6, 4)))
  one_by_one = jax.jit(jax.vmap(lambda *image: pool_class_vectors(*(array[None] for array in image))[0]))
  np.testing.assert_allclose(one_by_one(features, cams, weights), by_class(features, cams, weights), atol=1e-6)


def test_gradients():
  features, cams, weights = to_device(*draw((1, 2, 3, 4, 1), seed=3))
  # central differences in float32: see test_normalize
  arguments = {"order": 1, "modes": ["rev"], "atol": 5e-3, "rtol": 5e-3, "eps": 1e-2}
  check_grads(by_class, (features + 0.5, cams, weights + 0.5), **arguments)
  check_grads(jax.jit(lambda *inputs: pool_sum(inputs[0], None, *inputs[1:])), (features, cams[..., 0], weights), **arguments)


def test_gradients_at_zeros_are_finite():
  zeros = (jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 2)), jnp.zeros((1, 3)))
  gradients = jax.jit(jax.grad(lambda *inputs: pool_class_vectors(*inputs).sum(), argnums=(0, 1, 2)))(*zeros)
  assert all(np.isfinite(gradient).all() for gradient in gradients)


@hypothesis.given(st.integers(0, 99), st.floats(1e-12, 1e12))
def test_the_scale_of_a_map_does_not_matter(seed, scale):
  features, cams, weights = draw((2, 3, 4, 8, 5), seed)
  result = by_class(*to_device(features, cams * np.float32(scale), weights))
  np.testing.assert_allclose(result, by_class(*to_device(features, cams, weights)), atol=1e-6)  # rounding of the scaling


@hypothesis.given(st.integers(0, 99))
def test_a_batch_is_its_images(seed):
  features, cams, weights = to_device(*draw((3, 3, 4, 8, 5), seed))
  alone = [by_class(features[i : i + 1], cams[i : i + 1], weights[i : i + 1])[0] for i in range(3)]
  np.testing.assert_allclose(by_class(features, cams, weights), jnp.stack(alone), atol=1e-6)  # another order of vectors
