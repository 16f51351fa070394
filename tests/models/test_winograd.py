import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cwf_jax.models import winograd


def _draw(shape, channels_out, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.standard_normal(shape, np.float32)
  kernel = rng.standard_normal((3, 3, shape[-1], channels_out), np.float32)
  return jnp.asarray(images), jnp.asarray(kernel)


def _direct(images, kernel):
  return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _deviation(value, expected):
  assert value.shape == expected.shape
  return float(jnp.abs(value - expected).max() / jnp.abs(expected).max())


# Winograd's transforms multiply by up to 8 and add up to 36 terms: 1e-6 to 4e-6 of the maximum were seen in float32.
TOLERANCE = 2e-5


@pytest.mark.parametrize(
  "shape", [(1, 1, 1, 4), (1, 5, 7, 3), (2, 4, 4, 8), (1, 8, 12, 16), (2, 9, 3, 5), (1, 2, 17, 1), (3, 6, 6, 64)]
)
def test_it_equals_the_direct_convolution(shape):
  images, kernel = _draw(shape, 6)
  assert _deviation(jax.jit(winograd.convolve)(images, kernel), _direct(images, kernel)) < TOLERANCE


def test_gradients_equal_those_of_the_direct_convolution():
  images, kernel = _draw((2, 5, 6, 3), 4)
  weights = jnp.asarray(np.random.default_rng(1).standard_normal((2, 5, 6, 4), np.float32))
  found, expected = (
    jax.jit(jax.grad(lambda x, k, form=form: (form(x, k) * weights).sum(), (0, 1)))(images, kernel)
    for form in (winograd.convolve, _direct)
  )
  for value, reference in zip(found, expected, strict=True):
    assert _deviation(value, reference) < TOLERANCE


def test_vmap_is_a_batch():
  images, kernel = _draw((3, 5, 6, 3), 4)
  mapped = jax.jit(jax.vmap(lambda image: winograd.convolve(image[None], kernel)[0]))(images)
  assert _deviation(mapped, winograd.convolve(images, kernel)) < TOLERANCE


def test_it_computes_the_correlation_of_the_paper_by_hand():
  """A kernel with a single one moves the image by one cell, and zeros come in at the border."""
  image = jnp.arange(6.0).reshape(1, 2, 3, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[1, 2].set(1.0)
  expected = jnp.array([[1.0, 2.0, 0.0], [4.0, 5.0, 0.0]])
  np.testing.assert_allclose(winograd.convolve(image, kernel)[0, :, :, 0], expected, atol=1e-5)  # rounding of 5 * 4


def test_the_rule_takes_wide_layers_of_large_images_only():
  assert winograd.pays_off((1, 180, 256, 256), (3, 3, 256, 256))
  assert winograd.pays_off((1, 45, 64, 512), (3, 3, 512, 512))
  assert not winograd.pays_off((1, 720, 1024, 64), (3, 3, 64, 64))  # few channels
  assert not winograd.pays_off((1, 12, 16, 512), (3, 3, 512, 512))  # few tiles
  assert not winograd.pays_off((1, 40, 60, 128), (3, 3, 128, 128))  # the widest layer of vgg16_cam_quarter
