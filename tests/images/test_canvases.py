"""Sizes and canvases against the protocol's, padding against zeros."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from cwf_jax.errors import InputError
from cwf_jax.images.canvases import Fitted, fit_crop, fit_image, stack
from cwf_jax.images.decoding import resize_image
from cwf_jax.protocol import Protocol

PROTOCOLS = [Protocol.paper(), Protocol.reference(), Protocol.paper(64), Protocol.reference(64), Protocol.paper(100)]


def make_image(height, width):
  return np.random.default_rng(height * 1000 + width).integers(1, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: f"{protocol.name}{protocol.image_size}")
@pytest.mark.parametrize("size", [(16, 16), (16, 400), (333, 250), (480, 640), (64, 64)])
def test_fit(protocol, size):
  image = make_image(*size)
  fitted = fit_image(image, protocol)
  assert fitted.size == protocol.resized(*size)
  assert fitted.canvas == protocol.canvas(*fitted.size)
  np.testing.assert_array_equal(fitted.pixels, resize_image(image, *fitted.size))
  crop = fit_crop(image, protocol)
  assert crop.size == protocol.resized_crop(*size)
  assert crop.canvas == protocol.crop_canvas(*crop.size)
  np.testing.assert_array_equal(crop.pixels, resize_image(image, *crop.size))


@hypothesis.given(
  size=strategies.tuples(strategies.integers(16, 3000), strategies.integers(16, 3000)),
  image_size=strategies.integers(32, 96),
  preset=strategies.sampled_from([Protocol.paper, Protocol.reference]),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_every_image_has_a_canvas(size, image_size, preset):
  protocol = preset(image_size)
  image = np.broadcast_to(np.uint8(7), (*size, 3))
  for fitted in (fit_image(image, protocol), fit_crop(image, protocol)):
    images, sizes = stack([fitted], fitted.canvas, 1)
    assert images.shape == (1, *fitted.canvas, 3)
    assert sizes.tolist() == [list(fitted.pixels.shape[:2])]
    assert int((images == 7).sum()) == fitted.pixels.size


def test_stack_pads_at_the_right_and_at_the_bottom():
  pixels = [make_image(32, 48), make_image(64, 64), make_image(16, 80)]
  images, sizes = stack([Fitted(one, one.shape[:2], (64, 80)) for one in pixels], (64, 80), 5)
  assert images.shape == (5, 64, 80, 3)
  assert (images.dtype, sizes.dtype) == (np.uint8, np.int32)
  assert sizes.tolist() == [[32, 48], [64, 64], [16, 80], [16, 16], [16, 16]]
  for slot, one in enumerate(pixels):
    height, width = one.shape[:2]
    np.testing.assert_array_equal(images[slot, :height, :width], one)
    assert not images[slot, height:].any()
    assert not images[slot, :, width:].any()
  assert not images[3:].any()


def test_stack_of_nothing():
  images, sizes = stack([], (64, 80), 2)
  assert not images.any()
  assert sizes.tolist() == [[16, 16], [16, 16]]


def test_stack_refuses_what_does_not_fit():
  fitted = Fitted(make_image(64, 64), (64, 64), (64, 64))
  with pytest.raises(InputError, match="a batch of 1 images cannot hold 2"):
    stack([fitted, fitted], (64, 64), 1)
  with pytest.raises(InputError, match="64x64 pixels does not fit the canvas of 64x32"):
    stack([fitted], (32, 64), 1)
