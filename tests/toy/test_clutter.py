"""Pictures of nothing: of the size that was asked, a function of the generator, and masks that hide as much as was asked."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from cwf_jax.toy.clutter import draw_bar, draw_clutter
from cwf_jax.toy.landmarks import SIZES

SMALL = (96, 72)


def _draw(size, seed, textures=()):
  return draw_clutter(size, np.random.default_rng(seed), textures)


@pytest.mark.parametrize("size", [*SIZES, SMALL, (72, 96)])
def test_size_and_mode(size):
  for seed in range(6):
    image = _draw(size, seed, (Image.new("RGB", (50, 40), (9, 99, 199)),))
    assert (image.mode, image.size) == ("RGB", size)


def test_the_generator_decides():
  drawn = [np.asarray(_draw(SMALL, seed)) for seed in range(20)]
  for seed, image in enumerate(drawn):
    np.testing.assert_array_equal(image, np.asarray(_draw(SMALL, seed)))
  # Not the same picture in a little other way: half a level on average would be rounding.
  for first in range(20):
    for second in range(first):
      assert np.abs(drawn[first].astype(int) - drawn[second]).mean() > 4


def test_a_generator_that_has_drawn_goes_on():
  generator = np.random.default_rng(0)
  one, two = (np.asarray(draw_clutter(SMALL, generator)) for _ in range(2))
  assert (one != two).any()


def test_there_is_something_to_see():
  for seed in range(20):
    image = np.asarray(_draw(SMALL, seed), np.float64)
    assert image.std(axis=(0, 1)).max() > 3  # no blank sheet
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def _is_flat(image):
  return len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) == 1


def test_textures_are_shown_where_there_are_some():
  flat = (Image.new("RGB", (60, 50), (90, 90, 90)),)
  shown = [seed for seed in range(40) if _is_flat(_draw(SMALL, seed, flat))]
  # One kind of four: ten of forty, give or take four standard deviations.
  assert 0 < len(shown) <= 21
  assert not any(_is_flat(_draw(SMALL, seed)) for seed in range(40))


def test_a_texture_is_shown_between_two_colors():
  stripes = np.zeros((80, 80, 3), np.uint8)
  stripes[:, ::2] = 255
  found = 0
  for seed in range(40):
    pixels = np.asarray(_draw((120, 90), seed, (Image.fromarray(stripes),)), np.float64)
    columns = pixels.mean(axis=0)
    if np.abs(pixels - columns).max() > 1:
      continue  # not the stripes, which are the same all the way down
    found += 1
    # All colors lie on the line between two: the second of the singular values is rounding.
    singular = np.linalg.svd(columns - columns.mean(axis=0), compute_uv=False)
    assert singular[1] < 0.05 * singular[0]
  assert found >= 2


def test_every_texture_is_used():
  textures = tuple(Image.new("RGB", (40, 40), (gray,) * 3) for gray in (0, 255))
  kinds = set()
  for seed in range(80):
    image = _draw(SMALL, seed, textures)
    if _is_flat(image):
      kinds.add(max(image.getpixel((0, 0))) >= 120)  # dark textures are shown in the darker color, which is below 120
  assert kinds == {False, True}


def _hidden(mask, box):
  left, top, right, bottom = box
  return (np.asarray(mask)[top:bottom, left:right] == 255).mean()


@hypothesis.settings(max_examples=150)
@hypothesis.given(
  st.integers(20, 60), st.integers(20, 60), st.integers(40, 200), st.integers(40, 200), st.floats(0, 1), st.integers(0, 2**32)
)
def test_a_blob_hides_about_the_part_that_was_asked(left, top, width, height, part, seed):
  box, size = (left, top, left + width, top + height), (left + width + 30, top + height + 30)
  mask = draw_bar(size, box, part, np.random.default_rng(seed))
  assert (mask.mode, mask.size) == ("L", size)
  assert set(np.unique(np.asarray(mask))) <= {0, 255}
  # The bar's edge leans by up to 0.15 of the box to either side of its middle, where it hides `part`. What it gains at one
  # end it loses at the other, unless an end leaves the box: at worst half the lean over half the length, 0.0375, is lost.
  # Pillow draws the edge's own pixels, too: about one in the direction of the bar, two where both ends round up.
  assert abs(_hidden(mask, box) - part) <= 0.0375 + 2 / min(width, height)


@hypothesis.settings(max_examples=100)
@hypothesis.given(st.floats(0.15, 0.85), st.integers(0, 2**32))
def test_a_blob_is_exact_where_its_edge_stays_in_the_box(part, seed):
  box = (30, 40, 330, 340)
  mask = draw_bar((360, 480), box, part, np.random.default_rng(seed))
  # Only the pixels of the edge are in doubt: one or two of the 300 across.
  assert abs(_hidden(mask, box) - part) <= 2 / 300


@pytest.mark.parametrize("part", [0.3, 0.5, 0.85])
def test_a_blob_begins_at_any_of_the_four_sides(part):
  box, begins = (30, 40, 130, 140), set()
  for seed in range(40):
    mask = np.asarray(draw_bar((160, 180), box, part, np.random.default_rng(seed)))[40:140, 30:130] == 255
    sides = {"left": mask[:, 0], "top": mask[0], "right": mask[:, -1], "bottom": mask[-1]}
    whole = [name for name, pixels in sides.items() if pixels.all()]
    assert len(whole) == 1
    assert not sides[{"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[whole[0]]].all()
    begins.update(whole)
  assert begins == {"left", "top", "right", "bottom"}


def test_a_blob_is_the_generators():
  def draw(seed):
    return np.asarray(draw_bar((160, 180), (30, 40, 130, 140), 0.5, np.random.default_rng(seed)))

  np.testing.assert_array_equal(draw(5), draw(5))
  assert len({draw(seed).tobytes() for seed in range(10)}) == 10
