"""What is seen of a query under each rule, by hand; and how a box is read."""

import numpy as np
import pytest

from cwf_jax.datasets.benchmark import Query
from cwf_jax.protocol import BoxError
from cwf_jax.systems.queries import box_rule_of, fit_query, read_box
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import BOX, BOX_IN_PROPORTION, CELLS, IMAGE, NATIVE, PAPER, SQUARE
from tests.oracle import systems as oracle

PAPER_SETTINGS, REFERENCE = Settings.preset("paper"), Settings.preset("reference")

HEIGHT, WIDTH = 120, 180
BOX_OF = (33.0, 20.0, 150.0, 90.0)


@pytest.fixture(scope="module")
def pixels():
  """Each pixel tells its place: red its column, green its row."""
  rows, columns = np.mgrid[:HEIGHT, :WIDTH]
  return np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)


class TestRead:
  @pytest.mark.parametrize(
    ("box", "overrides", "rule", "expected"),
    [
      ((10.9, 20.2, 110.7, 90.99), {}, "corners", (10, 20, 110, 90)),  # METHOD 7.16
      ((10.9, 20.2, 110.7, 90.99), {"floor_boxes": False}, "corners", (10.9, 20.2, 110.7, 90.99)),
      ((10.5, 20.5, 30.5, 40.5), {}, "size", (10, 20, 40, 60)),  # METHOD 7.0: the last two are width and height
      ((10.5, 20.5, 30.5, 40.5), {"floor_boxes": False}, "size", (10.5, 20.5, 41, 61)),
      ((100, 60, 170, 110), {}, "size", (100, 60, 180, 120)),  # clipped to the image
      ((-5, -0.5, 200, 130), {}, "corners", (0, 0, 180, 120)),
    ],
  )
  def test_by_hand(self, box, overrides, rule, expected):
    found = read_box(box, rule, (HEIGHT, WIDTH), Settings.preset("paper", overrides))
    assert found == pytest.approx(expected, abs=1e-12) and all(type(side) is float for side in found)

  def test_only_of_a_query_in_the_database_a_system_may_take_corners_for_a_size(self):
    query, settings = Query("q", "a.jpg", BOX_OF), Settings.preset("paper", {"crow_box": "size"})
    assert [box_rule_of("crow", query, (image,), settings) for image in ("a.jpg", "b.jpg")] == ["size", "corners"]
    assert box_rule_of("rmac", query, ("a.jpg",), settings) == "corners"

  @pytest.mark.parametrize(
    ("box", "rule"), [((0, 0, 15.9, 50), "corners"), ((170, 0, 400, 50), "corners"), ((200, 10, 300, 50), "corners"),
                      ((10, 10, 50, 12), "size")]
  )  # fmt: skip
  def test_what_is_left_is_too_small(self, box, rule):
    with pytest.raises(BoxError):
      read_box(box, rule, (HEIGHT, WIDTH), PAPER_SETTINGS)


class TestFit:
  def test_cells_of_the_whole_image(self, pixels):
    """Row 3: 120x180 pixels become 64x96, 4x6 cells, each of 30 pixels."""
    found = fit_query(pixels, BOX_OF, CELLS, PAPER.protocol(PAPER_SETTINGS, 64))
    assert found.seen.size == (64, 96) and found.seen.pixels.shape == (64, 96, 3)
    assert found.cells == (1, 0, 5, 3)  # 33/30, 20/30 down; 150/30, 90/30 up
    assert found.cells == oracle.lay_box(BOX_OF, (HEIGHT, WIDTH), (64, 96))
    # METHOD 7.4: the crop, 117x70, is classified at its own size, which is too large for a canvas: 107x64, floored to 16s.
    assert found.crop.size == (64, 96)
    assert fit_query(pixels, (0, 0, 61, 50), CELLS, PAPER.protocol(PAPER_SETTINGS, 64)).crop.size == (48, 48)

  def test_unscaled_cells_of_the_stretched_image(self, pixels):
    """METHOD 7.3: divided by 16, floored; METHOD 7.2 and 7.8: 64x91 pixels have 4x5 cells."""
    found = fit_query(pixels, BOX_OF, CELLS, PAPER.protocol(REFERENCE, 64))
    assert found.seen.size == (64, 91)
    assert found.cells == (2, 1, 5, 4)  # 33/16, 20/16, 150/16 clipped, 90/16 clipped

  def test_the_box_alone(self, pixels):
    found = fit_query(pixels, BOX_OF, BOX, NATIVE.protocol(PAPER_SETTINGS, 720))
    assert found.cells is None and found.crop is None and found.seen.size == (70, 117)
    np.testing.assert_array_equal(found.seen.pixels, pixels[20:90, 33:150])  # not enlarged

  def test_the_box_alone_is_not_larger_than_images(self, pixels):
    found = fit_query(pixels, BOX_OF, BOX, NATIVE.protocol(PAPER_SETTINGS, 64))
    assert found.seen.size == (round(70 * 91 / 117), 91)  # of its own longer side, 1024/720 of 64

  def test_the_box_stretched_to_a_square(self, pixels):
    found = fit_query(pixels, BOX_OF, BOX, SQUARE.protocol(PAPER_SETTINGS, 64))
    assert found.seen.size == (52, 52) and found.seen.pixels.shape == (52, 52, 3)
    assert found.seen.pixels[..., 1].min() >= 20 and found.seen.pixels[..., 1].max() < 90

  def test_the_box_in_the_proportion_of_its_image(self, pixels):
    """180 pixels become 91, so the box's 117x70 become 59x35."""
    found = fit_query(pixels, BOX_OF, BOX_IN_PROPORTION, NATIVE.protocol(PAPER_SETTINGS, 64))
    assert found.seen.size == (35, 59) and found.cells is None and found.crop is None
    red = found.seen.pixels[..., 0]
    assert red.min() >= 33 and red.max() < 150  # nothing from outside the box

  def test_a_small_box_in_proportion_keeps_two_cells(self, pixels):
    found = fit_query(pixels, (0, 0, 20, 60), BOX_IN_PROPORTION, NATIVE.protocol(PAPER_SETTINGS, 64))
    assert found.seen.size == (32, 32)  # 30x10, and no side under 32

  def test_the_whole_image(self, pixels):
    found = fit_query(pixels, BOX_OF, IMAGE, SQUARE.protocol(PAPER_SETTINGS, 64))
    assert found.seen.size == (52, 52) and found.cells is None and found.crop is None
    assert found.seen.pixels[..., 0].min() < 20 and found.seen.pixels[..., 0].max() > 160
