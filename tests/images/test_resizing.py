"""Resizing against Pillow, cropping against slices."""

import numpy as np
import pytest
from PIL import Image

from cwf_jax.images.decoding import crop_image, resize_image
from cwf_jax.protocol import BoxError
from tests.images.samples import HEIGHT, WIDTH, make_photograph


@pytest.mark.parametrize("size", [(20, 28), (33, 100), (80, 112), (16, 16)])
def test_resize_is_pillows_bilinear(size):
  photograph = make_photograph()
  expected = Image.fromarray(photograph).resize(size[::-1], Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(resize_image(photograph, *size), np.asarray(expected))


def test_resize_averages_when_it_shrinks():
  """A fine checkerboard becomes gray, not black or white."""
  board = np.repeat((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
  found = resize_image(board, 16, 16)
  assert np.abs(found.astype(int) - 127).max() <= 16


def test_resize_to_the_same_size_is_the_image():
  photograph = make_photograph()
  assert resize_image(photograph, HEIGHT, WIDTH) is photograph


@pytest.mark.parametrize(
  ("box", "expected"),
  [
    ((0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT)),
    ((3, 4, 20, 30), (3, 4, 20, 30)),
    ((3.9, 4.1, 19.2, 29.0), (3, 4, 20, 29)),
    ((-5, -0.5, 900, 41.0), (0, 0, WIDTH, HEIGHT)),
  ],
)
def test_crop(box, expected):
  left, top, right, bottom = expected
  photograph = make_photograph()
  np.testing.assert_array_equal(crop_image(photograph, box), photograph[top:bottom, left:right])


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (60, 0, 70, 9), (9, 9, 3, 20), (0, 0, float("nan"), 9), (0, 0, float("inf"), 9)])
def test_crop_of_nothing_is_refused(box):
  with pytest.raises(BoxError, match="holds no pixel of the image of 56x40"):
    crop_image(make_photograph(), box)
