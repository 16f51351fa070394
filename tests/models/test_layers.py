import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwf_jax.models import layers, winograd


def _draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_valid_mask_marks_the_upper_left():
  mask = layers.valid_mask(jnp.array([[1, 2], [3, 4], [0, 3]]), (2, 3))
  expected = [[[1, 1, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]]
  np.testing.assert_array_equal(mask, np.array(expected, bool))


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 5, 7, 4), (1, 8, 6, 1), (1, 3, 2, 2)])
def test_both_forms_of_max_pooling_are_equal(shape):
  maps = jnp.abs(_draw(*shape))
  by_slices, by_window = layers._max_pool_slices(maps), layers._max_pool_window(maps)
  assert by_slices.shape == (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
  np.testing.assert_array_equal(by_slices, by_window)
  np.testing.assert_array_equal(layers.max_pool_2x2(maps), by_window)


def test_average_valid_takes_the_valid_cells_only():
  maps = jnp.array([[[[1.0], [3.0]], [[5.0], [100.0]]], [[[7.0], [7.0]], [[7.0], [7.0]]]])
  mask = jnp.array([[[True, True], [True, False]], [[False, False], [False, False]]])
  np.testing.assert_array_equal(layers.average_valid(maps, mask), [[3.0], [0.0]])
  assert layers.average_valid(maps.astype(jnp.bfloat16), mask).dtype == jnp.float32


def test_masked_convolution_is_rectified_and_zero_outside():
  layer = layers.MaskedConv(3, 4, rngs=nnx.Rngs(0))
  layer.bias.set_value(jnp.full((4,), 0.5))
  mask = layers.valid_mask(jnp.array([[3, 4]]), (6, 6))
  result = layer(_draw(1, 6, 6, 3), mask)
  assert (result >= 0).all()
  assert (result[:, :3, :4] > 0).any()
  np.testing.assert_array_equal(jnp.where(mask[..., None], 0.0, result), 0.0)


def test_the_classifier_starts_centered():
  classifier = layers.CenteredClassifier(16, 10, rngs=nnx.Rngs(0))
  np.testing.assert_allclose(classifier.kernel[...].mean(1), 0.0, atol=1e-7)  # rounding of a mean of ten
  assert classifier(jnp.ones((2, 16))).shape == (2, 10)


def test_the_form_belongs_to_the_platform_lowered_for(monkeypatch):
  """The same function: products of matrices and slices for a CPU, a convolution and a window's maximum for a GPU."""
  monkeypatch.setattr(winograd, "pays_off", lambda images, kernel: True)
  traced = jax.jit(lambda x, k: layers.max_pool_2x2(layers.convolve_3x3(x, k))).trace(_draw(1, 8, 8, 4), _draw(3, 3, 4, 4))
  on_cpu, on_gpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda"))
  assert "stablehlo.dot_general" in on_cpu
  assert "stablehlo.convolution" not in on_cpu
  assert "reduce_window" not in on_cpu
  assert "stablehlo.convolution" in on_gpu
  assert "reduce_window" in on_gpu
  assert "stablehlo.dot_general" not in on_gpu


def test_only_float32_takes_the_winograd_form(monkeypatch):
  monkeypatch.setattr(winograd, "pays_off", lambda images, kernel: True)
  images, kernel = _draw(1, 8, 8, 4).astype(jnp.bfloat16), _draw(3, 3, 4, 4).astype(jnp.bfloat16)
  assert "stablehlo.convolution" in jax.jit(layers.convolve_3x3).lower(images, kernel).as_text()
