import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.training import augmentation
from cwf_jax.training.settings import Schedule, TrainingSettings
from tests.oracle.deviation import assert_close

CANVAS, SIDE = 48, 32
# The weights are float32 here and float64 in Pillow, which rounds to float32 between its two passes: 2e-7 was seen.
TOLERANCE = 2e-6

crop_boxes = jax.jit(augmentation.crop_boxes, static_argnames="side")
draw_boxes = jax.jit(augmentation.draw_boxes, static_argnames=("area", "aspect"))
jitter_colors = jax.jit(augmentation.jitter_colors, static_argnames="jitter")
mix_mosaics = jax.jit(augmentation.mix_mosaics, static_argnames="share")
augment = jax.jit(augmentation.augment, static_argnames=("side", "settings"))


def _draw_canvas(height, width, seed=0, outside=0):
  generator = np.random.default_rng(seed)
  canvas = np.full((CANVAS, CANVAS, 3), outside, np.uint8)
  canvas[:height, :width] = generator.integers(0, 256, (height, width, 3), np.uint8)
  return canvas


def _crop(canvas, size, box, flips=None):
  boxes, sizes = jnp.asarray([box], jnp.float32), jnp.asarray([size], jnp.int32)
  return np.asarray(crop_boxes(jnp.asarray(canvas)[None], sizes, boxes, SIDE, flips)[0])


def _crop_with_pillow(image, box):
  """Channel by channel in floating point, since Pillow rounds bytes."""
  top, left, height, width = box
  return np.stack(
    [
      np.asarray(
        Image.fromarray(image[..., channel].astype(np.float32), "F").resize(
          (SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
        )
      )
      for channel in range(3)
    ],
    -1,
  )


@pytest.mark.parametrize(
  ("size", "box"),
  [
    ((48, 48), (0, 0, 48, 48)),  # the whole image, shrunk
    ((48, 48), (8, 8, 32, 32)),  # as it is
    ((48, 48), (3.25, 7.5, 40.5, 35.125)),
    ((48, 48), (20, 20, 5, 7)),  # enlarged
    ((48, 48), (0, 0, 1, 1)),  # one pixel
    ((48, 48), (47, 47, 1, 1)),
    ((48, 48), (0, 40.5, 48, 7.5)),  # shrunk downward, enlarged across, at the right edge
    ((30, 20), (0, 0, 30, 20)),  # the whole of an image that is smaller than its canvas
    ((30, 20), (25.5, 15.5, 4.5, 4.5)),  # its lower right corner
    ((1, 48), (0, 0, 1, 48)),
    ((48, 1), (10, 0, 20, 1)),
    ((2, 3), (0.5, 0.75, 1.25, 2.0)),
  ],
)
def test_a_crop_is_what_pillow_makes_of_the_box(size, box):
  canvas = _draw_canvas(*size)
  found = _crop(canvas, size, box)
  assert_close("crops: Pillow", found, _crop_with_pillow(canvas[: size[0], : size[1]], box), TOLERANCE)


@hypothesis.settings(max_examples=40)
@hypothesis.given(data=st.data(), size=st.tuples(st.integers(1, CANVAS), st.integers(1, CANVAS)))
def test_any_crop_is_what_pillow_makes_of_the_box(data, size):
  """In 64ths of a pixel, which are exact on both sides."""
  starts = [data.draw(st.integers(0, 64 * whole - 16)) for whole in size]
  lengths = [data.draw(st.integers(16, 64 * whole - start)) for start, whole in zip(starts, size, strict=True)]
  canvas, box = _draw_canvas(*size, outside=200), [part / 64 for part in (*starts, *lengths)]
  assert_close("crops: Pillow", _crop(canvas, size, box), _crop_with_pillow(canvas[: size[0], : size[1]], box), TOLERANCE)


def test_what_lies_beside_the_image_does_not_matter():
  size, box = (21, 33), (2.5, 1.25, 18.5, 31.75)
  clean, dirty = (_crop(_draw_canvas(*size, outside=outside), size, box) for outside in (0, 255))
  np.testing.assert_array_equal(clean, dirty)


def test_a_flip_mirrors_the_crop_from_left_to_right():
  canvas, box = jnp.asarray(_draw_canvas(40, 30))[None].repeat(2, 0), jnp.array([[3.0, 5.0, 30.5, 20.25]]).repeat(2, 0)
  sizes = jnp.array([[40, 30]]).repeat(2, 0)
  found = crop_boxes(canvas, sizes, box, SIDE, jnp.array([True, False]))
  np.testing.assert_array_equal(found[0], found[1][:, ::-1])
  np.testing.assert_array_equal(found[1], crop_boxes(canvas, sizes, box, SIDE)[1])
  assert np.abs(found[0] - found[1]).max() > 50


def test_a_constant_image_stays_constant():
  canvas = np.full((CANVAS, CANVAS, 3), 77, np.uint8)
  found = _crop(canvas, (CANVAS, CANVAS), (1.3, 2.7, 40.1, 11.9))
  np.testing.assert_allclose(found, 77.0, rtol=1e-6)  # weights that add up to one, in float32


SIZES = ((1, 300), (300, 1), (1, 1), (32, 32), (320, 240), (17, 301), (240, 320), (2, 2))


@pytest.mark.parametrize(
  ("area", "aspect"),
  [((0.15, 1.0), (0.75, 4 / 3)), ((0.01, 0.02), (0.1, 10.0)), ((1.0, 1.0), (1.0, 1.0)), ((0.1, 0.2), (2.0, 4.0))],
)
def test_boxes_lie_inside_and_are_as_large_as_asked_where_they_fit(area, aspect):
  sizes = np.array(SIZES * 25, np.int32)
  for seed in range(20):
    boxes = np.asarray(draw_boxes(jax.random.key(seed), jnp.asarray(sizes), area, aspect), np.float64)
    starts, lengths = boxes[:, :2], boxes[:, 2:]
    assert (starts >= 0).all() and (lengths > 0).all()
    assert (starts + lengths <= sizes * (1 + 1e-6)).all()  # the sum is rounded here, in float32 there
    free = (lengths < sizes).all(1)  # a side that would be longer than the image's is cut
    share = lengths.prod(1) / sizes.prod(1)
    ratio = lengths[:, 1] / lengths[:, 0]
    assert (share <= area[1] * (1 + 1e-5)).all()
    assert (share[free] >= area[0] * (1 - 1e-5)).all()
    assert (ratio[free] >= aspect[0] * (1 - 1e-5)).all() and (ratio[free] <= aspect[1] * (1 + 1e-5)).all()


def test_boxes_are_spread_over_area_ratio_and_place():
  sizes = jnp.full((4000, 2), 200, jnp.int32)
  boxes = np.asarray(draw_boxes(jax.random.key(0), sizes, (0.1, 0.5), (0.5, 2.0)), np.float64)
  share, ratio = boxes[:, 2:].prod(1) / 200**2, np.log2(boxes[:, 3] / boxes[:, 2])
  place = boxes[:, :2] / (200 - boxes[:, 2:])
  for values, low, high in ((share, 0.1, 0.5), (ratio, -1, 1), (place[:, 0], 0, 1), (place[:, 1], 0, 1)):
    uniform = np.linspace(low, high, 4000)
    assert np.abs(np.sort(values) - uniform).max() < 0.04 * (high - low)  # Kolmogorov and Smirnov: 0.026 in 99 of 100 draws
  assert abs(np.corrcoef(place.T)[0, 1]) < 0.06


def test_without_jitter_colors_stay():
  images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 3), maxval=255.0)
  found = jitter_colors(jax.random.key(0), images, 0.0)
  np.testing.assert_allclose(found, images, atol=1e-4)  # a mean is taken away and added again, in float32 of up to 255


@pytest.mark.parametrize("jitter", [0.1, 0.5, 0.99])
def test_colors_stay_in_their_range_and_images_differ(jitter):
  image = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3), maxval=255.0)
  images = jnp.concatenate([image.repeat(4, 0), jnp.zeros_like(image), jnp.full_like(image, 255.0)])
  for seed in range(10):
    found = np.asarray(jitter_colors(jax.random.key(seed), images, jitter))
    assert found.min() >= 0 and found.max() <= 255
    assert np.abs(found[0] - found[1]).max() > 0.1  # each has factors of its own
    np.testing.assert_allclose(found[4], 0.0, atol=1e-4)  # black stays black, up to the rounding of its mean


def test_colors_by_hand(monkeypatch):
  """Brightness 0.5, contrast 2, saturation 0: gray."""
  factors = jnp.array([0.5, 2.0, 0.0]).reshape(3, 1, 1, 1, 1)
  monkeypatch.setattr(jax.random, "uniform", lambda *_, **__: factors)
  image = np.array([[[[100, 60, 20], [20, 60, 100]]]], np.float32)
  found = augmentation.jitter_colors(jax.random.key(0), jnp.asarray(image), 0.5)
  dark = image * 0.5
  mean = (dark @ [0.299, 0.587, 0.114]).mean()
  strong = np.clip(mean + (dark - mean) * 2.0, 0, 255)
  gray = (strong @ [0.299, 0.587, 0.114])[..., None]
  np.testing.assert_allclose(found, np.broadcast_to(gray, image.shape), rtol=1e-6)


def test_a_mosaic_is_four_crops_of_the_batch_at_half_their_size():
  crops = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
  found = np.asarray(mix_mosaics(jax.random.key(0), jnp.asarray(crops), 1.0))
  half = np.zeros((5, 4, 4, 3))
  for place in np.ndindex(5, 4, 4):
    image, row, column = place
    block = crops[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(np.float64)
    half[place] = block.sum((0, 1)) / 4
  for image in range(5):
    corners = ((0, 0), (0, 4), (4, 0), (4, 4))
    for shift, (row, column) in enumerate(corners):
      quarter = found[image, row : row + 4, column : column + 4]
      np.testing.assert_allclose(quarter, half[(image - shift) % 5], rtol=1e-6)  # a mean of four in float32


def test_mosaics_take_their_share():
  crops = np.random.default_rng(0).uniform(0, 255, (400, 2, 2, 3)).astype(np.float32)
  np.testing.assert_array_equal(mix_mosaics(jax.random.key(0), jnp.asarray(crops), 0.0), crops)
  for share in (0.25, 0.75):
    found = np.asarray(mix_mosaics(jax.random.key(3), jnp.asarray(crops), share))
    changed = (found != crops).any((1, 2, 3)).mean()
    assert abs(changed - share) < 0.08  # three standard deviations of 400 draws


def test_blocks_are_averaged():
  images = np.random.default_rng(0).uniform(0, 255, (2, 6, 9, 3)).astype(np.float32)
  found = augmentation.average_blocks(jnp.asarray(images), 3)
  expected = np.zeros((2, 2, 3, 3))
  for b, i, j in np.ndindex(2, 2, 3):
    expected[b, i, j] = images[b, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean((0, 1))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  np.testing.assert_array_equal(augmentation.average_blocks(jnp.asarray(images), 1), images)


SETTINGS = TrainingSettings(Schedule(((32, 1),)), mosaic=0.5)


@functools.cache
def _views(seed, mosaic=0.5):
  sizes = np.array([[48, 48], [20, 48], [1, 30], [48, 7]])
  images = jnp.asarray(np.stack([_draw_canvas(*size, seed=place) for place, size in enumerate(sizes)]))
  settings = SETTINGS if mosaic else TrainingSettings(Schedule(((32, 1),)))
  return np.asarray(augment(jax.random.key(seed), images, jnp.asarray(sizes), SIDE, settings))


def test_views_are_decided_by_the_key():
  first, again = _views(0), _views.__wrapped__(0)
  np.testing.assert_array_equal(first, again)
  assert first.shape == (4, SIDE, SIDE, 3) and first.dtype == np.float32
  for seed in range(1, 6):
    other = _views(seed)
    assert np.isfinite(other).all() and other.min() >= 0 and other.max() <= 255
    assert (np.abs(other - first).max((1, 2, 3)) > 1).all()


def test_mosaics_are_of_the_same_views():
  """They come after everything else: the other crops do not depend on them."""
  plain, mixed = _views(2, mosaic=0), _views(2)
  same = (plain == mixed).all((1, 2, 3))
  assert 0 < same.sum() < 4
