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


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 4, 8, 4), (1, 6, 2, 1)])
def test_both_forms_of_max_pooling_of_3x3_equal_the_loop(shape):
  maps = np.asarray(jnp.maximum(_draw(*shape), 0))
  padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
  expected = np.zeros((shape[0], shape[1] // 2, shape[2] // 2, shape[3]))
  for i, j in np.ndindex(*expected.shape[1:3]):
    expected[:, i, j] = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2))
  for form in (layers.max_pool_3x3, layers._max_pool_3x3_slices, layers._max_pool_3x3_window):
    np.testing.assert_array_equal(form(jnp.asarray(maps)), expected)


def test_average_pooling_takes_the_mean_of_each_block():
  maps = _draw(2, 4, 6, 3)
  expected = np.asarray(maps).reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
  np.testing.assert_allclose(layers.average_pool_2x2(maps), expected, atol=1e-6)  # four terms in another order


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (7, 2), (7, 1)])
def test_a_padded_convolution_equals_the_loop(size, stride):
  layer = layers.PaddedConv(3, 5, rngs=nnx.Rngs(0), size=size, stride=stride, activation=layers.identity)
  maps = np.asarray(_draw(2, 8, 6, 3))
  padded = np.pad(maps.astype(np.float64), ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
  expected = np.zeros((2, 8 // stride, 6 // stride, 5))
  for i, j in np.ndindex(*expected.shape[1:3]):
    window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
    expected[:, i, j] = np.einsum("bijc,ijck->bk", window, np.asarray(layer.kernel[...], np.float64))
  result = layer(jnp.asarray(maps), jnp.ones(expected.shape[:3], bool))
  np.testing.assert_allclose(result, expected, atol=1e-5)  # up to 147 products of normal numbers in float32


def test_a_scale_is_rectified_and_zero_outside():
  layer = layers.ChannelScale(2)
  layer.scale.set_value(jnp.array([2.0, -1.0]))
  layer.bias.set_value(jnp.array([1.0, 0.5]))
  maps = jnp.array([[[[1.0, 1.0], [-3.0, -3.0], [4.0, 4.0]]]])
  result = layer(maps, jnp.array([[[True, True, False]]]))
  np.testing.assert_array_equal(result, [[[[3.0, 0.0], [0.0, 3.5], [0.0, 0.0]]]])


def test_masks_by_stride():
  masks = layers.masks_by_stride(jnp.array([[32, 64]]), (64, 96))
  assert {stride: (mask.shape, int(mask.sum())) for stride, mask in masks.items()} == {
    stride: ((1, 64 // stride, 96 // stride), 32 * 64 // stride**2) for stride in (1, 2, 4, 8, 16, 32)
  }


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
