"""Vectors as int8: against plain NumPy, within half a step, and what that does to a cosine."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.ops.quantization import dequantize, quantize

quantize_jitted, dequantize_jitted = jax.jit(quantize), jax.jit(dequantize)


def draw(shape, seed=0):
  vectors = np.random.default_rng(seed).normal(size=shape)
  return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1,), (5,), (1, 1), (3, 7), (2, 4, 672), (0, 4), (2, 0, 3)])
def test_equals_numpy(shape):
  vectors = draw(shape)
  if len(shape) > 1:
    vectors[:1] = 0
  quantized, scales = quantize_jitted(jnp.asarray(vectors))
  assert quantized.dtype == jnp.int8 and scales.dtype == jnp.float32 and scales.shape == shape[:-1]
  steps = np.abs(vectors.astype(np.float64)).max(-1, initial=0) / 127
  np.testing.assert_allclose(scales, steps, rtol=1e-6)  # an ulp or two of float32
  exact = vectors / np.where(steps > 0, steps, 1)[..., None]
  assert (np.abs(np.asarray(quantized) - exact) <= 0.5 + 1e-4).all()  # a value that lies between two steps goes either way
  np.testing.assert_allclose(dequantize_jitted(quantized, scales), np.asarray(quantized) * steps[..., None], rtol=1e-6)


@hypothesis.given(arrays.arrays(np.float32, (4, 9), elements=st.floats(-100, 100, width=16)))
def test_no_value_moves_by_more_than_half_a_step(vectors):
  quantized, scales = quantize_jitted(vectors)
  assert np.abs(np.asarray(quantized, int)).max() <= 127
  moved = np.abs(np.asarray(dequantize_jitted(quantized, scales)) - vectors)
  assert (moved <= np.asarray(scales)[:, None] * (0.5 + 1e-4)).all()
  again = quantize_jitted(dequantize_jitted(quantized, scales))[0]
  np.testing.assert_array_equal(again, quantized)


def test_a_cosine_moves_by_less_than_the_vectors_do():
  """For unit vectors v and q, |q . v' - q . v| <= |v' - v| <= sqrt(k) / 2 steps."""
  vectors, queries = draw((50, 672)), draw((20, 672), seed=1)
  quantized, scales = quantize_jitted(vectors)
  difference = queries @ (np.asarray(dequantize_jitted(quantized, scales)) - vectors).T
  assert (np.abs(difference) <= np.sqrt(672) / 2 * np.asarray(scales)).all()
  assert np.abs(difference).max() < 2e-3  # rounding errors are independent, so they hardly ever add up


def test_floats_with_scales_of_one_stay_what_they_are():
  vectors = draw((3, 8)).astype(np.float16)
  np.testing.assert_array_equal(dequantize_jitted(vectors, np.ones(3, np.float32)), vectors.astype(np.float32))
