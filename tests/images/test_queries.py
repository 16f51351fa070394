"""A query's pixels: what is cut out, at which size it is computed, and where its box lies on the map."""

import io
import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.images.decoding import UnreadableImageError, decode_image, resize_image
from cwf_jax.images.queries import fit_query, read_pixels
from cwf_jax.protocol import BoxError, Protocol
from tests.images.samples import encode, exif_of, make_photograph

PROTOCOLS = {"paper": Protocol.paper(64, 4), "reference": Protocol.reference(64, 4)}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(("height", "width"), [(96, 144), (70, 50), (16, 16), (16, 600)])
def test_without_a_box_the_whole_map_counts(name, height, width):
  pixels, protocol = make_photograph(height, width), PROTOCOLS[name]
  fitted = fit_query(pixels, None, protocol)
  assert fitted.pixels is pixels and fitted.box is None and fitted.crop is None
  assert fitted.whole.size == protocol.resized(height, width)
  np.testing.assert_array_equal(fitted.whole.pixels, resize_image(pixels, *fitted.whole.size))
  left, top, right, bottom = fitted.cells
  rows, columns = (side // 16 for side in fitted.whole.size)
  assert left == top == 0 and right >= columns and bottom >= rows


@pytest.mark.parametrize(
  ("name", "shape", "box", "cells", "crop", "canvas"),
  [
    # 96x144 is computed as 64x96: an edge at 70.75 lies at 47.2, in the third cell
    ("paper", (96, 144), (3.5, 40.25, 70.75, 81.5), (0, 1, 3, 4), (32, 64), (64, 64)),
    ("paper", (96, 144), (0, 0, 144, 96), (0, 0, 6, 4), (64, 96), (64, 96)),
    ("paper", (96, 144), (24, 24, 48, 48), (1, 1, 2, 2), (16, 16), (64, 64)),
    # stretched to 64x91, 4 rows of 5 cells; the box's edges are divided by 16 as they are, and clipped
    ("reference", (96, 144), (3.5, 40.25, 70.75, 81.5), (0, 2, 4, 4), (32, 64), (91, 91)),
    ("reference", (96, 144), (128, 80, 144, 96), (4, 3, 5, 4), (16, 16), (91, 91)),
    ("reference", (96, 144), (17, 17, 33.5, 33.5), (1, 1, 2, 2), (16, 16), (91, 91)),
    # a crop that no canvas holds shrinks
    ("paper", (400, 400), (0, 0, 400, 400), (0, 0, 4, 4), (64, 64), (64, 64)),
    ("reference", (400, 400), (0, 0, 400, 200), (0, 0, 5, 4), (32, 80), (91, 91)),
  ],
)
def test_a_box_is_cut_and_laid_on_cells(name, shape, box, cells, crop, canvas):
  pixels = make_photograph(*shape)
  fitted = fit_query(pixels, box, PROTOCOLS[name])
  assert fitted.box == box and all(isinstance(side, float) for side in fitted.box)
  assert fitted.cells == cells and fitted.crop.size == crop and fitted.crop.canvas == canvas
  cut = pixels[math.floor(box[1]) : math.ceil(box[3]), math.floor(box[0]) : math.ceil(box[2])]
  np.testing.assert_array_equal(fitted.crop.pixels, resize_image(cut, *crop))
  np.testing.assert_array_equal(fitted.whole.pixels, fit_query(pixels, None, PROTOCOLS[name]).whole.pixels)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(
  ("box", "said"),
  [
    ((64, 0, 80, 40), "lies outside the image, which has 64x48"),
    ((0, -30, 40, 15.5), "40x15.5 pixels inside the image"),
    ((40, 10, 20, 40), "-20x30 pixels"),
    ((0, 0, 15.9, 40), "15.9x40 pixels"),
    ((10, 10, 40, 10), "30x0 pixels"),
    ((0, 0, math.nan, 40), "four numbers"),
    ((0, -math.inf, 40, 40), "four numbers"),
    ((0, 0, 40), "four numbers"),
    ((), "four numbers"),
  ],
)
def test_a_box_that_cannot_be_is_refused(name, box, said):
  with pytest.raises(BoxError, match=said):
    fit_query(make_photograph(48, 64), box, PROTOCOLS[name])


def test_a_file_is_read_upright(tmp_path):
  pixels = make_photograph(96, 64)
  turned = Image.fromarray(np.rot90(pixels))  # stored lying, orientation 6: turned clockwise to be upright
  exif = turned.getexif()
  exif[0x0112] = 6
  turned.save(tmp_path / "turned.png", exif=exif)
  for path in (tmp_path / "turned.png", str(tmp_path / "turned.png")):
    np.testing.assert_array_equal(read_pixels(path), pixels)
  fitted = fit_query(tmp_path / "turned.png", (0, 60, 50, 96), PROTOCOLS["paper"])
  np.testing.assert_array_equal(fitted.pixels, decode_image(tmp_path / "turned.png"))
  np.testing.assert_array_equal(fitted.crop.pixels, fit_query(pixels, (0, 60, 50, 96), PROTOCOLS["paper"]).crop.pixels)


def test_what_is_no_image_is_refused(tmp_path):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  for name in ("broken.jpg", "gone.jpg"):
    with pytest.raises(UnreadableImageError, match=name):
      read_pixels(tmp_path / name)
  Image.fromarray(make_photograph(15, 40)).save(tmp_path / "small.png")
  with pytest.raises(UnreadableImageError, match="40x15 pixels"):
    fit_query(tmp_path / "small.png", None, PROTOCOLS["paper"])


def _opened(content):
  return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_pillow_image_and_bytes_have_the_pixels_of_their_file(tmp_path, kind, orientation):
  content = encode(make_photograph(40, 64), kind, exif=exif_of(orientation))
  (tmp_path / "a").write_bytes(content)
  expected = decode_image(tmp_path / "a")
  assert expected.shape == ((40, 64, 3) if orientation == 1 else (64, 40, 3))
  loaded, copied = _opened(content), _opened(content).copy()
  loaded.load()
  for image in (content, _opened(content), loaded, copied):
    np.testing.assert_array_equal(read_pixels(image), expected)
  np.testing.assert_array_equal(read_pixels(loaded), expected)  # reading it did not change it


@pytest.mark.parametrize("mode", Image.MODES)
def test_a_pillow_image_may_have_any_mode(mode):
  photograph = Image.fromarray(make_photograph(40, 64))
  if mode in ("LAB", "La", "RGBa", "PA") or mode.startswith("I;16"):  # Pillow does not convert to them from RGB
    image, expected = Image.new(mode, (64, 40)), None
  else:
    image = photograph.convert(mode)
    expected = np.asarray(image.convert("RGB"))
  pixels = read_pixels(image)
  assert pixels.dtype == np.uint8 and pixels.shape == (40, 64, 3)
  if expected is not None:
    np.testing.assert_allclose(pixels, expected, atol=1)  # gray from floats is rounded here, and cut off by Pillow


def test_transparency_of_a_pillow_image_is_laid_over_white():
  pixels = np.dstack([make_photograph(40, 64), np.full((40, 64), 255, np.uint8)])
  pixels[:, :32, 3] = 0
  found = read_pixels(Image.fromarray(pixels))
  assert (found[:, :32] == 255).all()
  np.testing.assert_array_equal(found[:, 32:], pixels[:, 32:, :3])
  np.testing.assert_array_equal(found, read_pixels(encode(Image.fromarray(pixels), "PNG")))


def test_a_pillow_image_that_cannot_be_used_is_refused():
  with pytest.raises(UnreadableImageError, match="<PIL image>: 40x15 pixels, the least is 16x16"):
    read_pixels(Image.new("RGB", (40, 15)))
  with pytest.raises(UnreadableImageError, match="<PIL image>: truncated"):
    read_pixels(_opened(encode(make_photograph(), "JPEG")[:-200]))


def test_an_array_of_jax_is_an_image():
  pixels = make_photograph()
  np.testing.assert_array_equal(read_pixels(jnp.asarray(pixels)), pixels)


@pytest.mark.parametrize(
  ("array", "said"),
  [
    (np.full((32, 32, 3), 0.75), r"0 to 255; found float64 values of at most 0\.75: multiply them by 255 and convert .* uint8"),
    (np.ones((32, 32, 3), np.float32), r"values of at most 1: multiply them by 255"),
    (np.zeros((32, 32, 3), np.float32), r"uint8 of shape \[h w 3\]; found float32 .*: convert the values to uint8, 0 to 255"),
    (np.full((32, 32, 3), 200.0), "found float64 .*: convert the values to uint8"),
    (np.zeros((32, 32, 3), np.int64), "found int64 .*: convert the values to uint8"),
    (np.zeros((32, 32), np.uint8), r"found uint8 of shape \(32, 32\): repeat .* np\.stack"),
    (np.zeros((32, 32, 1), np.uint8), r"of shape \(32, 32, 1\): repeat .* np\.repeat"),
    (np.zeros((32, 32, 4), np.uint8), r"of shape \(32, 32, 4\): pass PIL\.Image\.fromarray\(image\)"),
    (np.zeros((3, 32, 32), np.uint8), r"of shape \(3, 32, 32\): move the channels"),
    (np.zeros((1, 32, 32, 3), np.uint8), r"of shape \(1, 32, 32, 3\): pass the images of a batch one by one, image\[0\]"),
    (np.zeros(7, np.uint8), r"of shape \(7,\): the axes are height, width and RGB"),
    (np.zeros((15, 32, 3), np.uint8), "at least 16x16 pixels; found 32x15"),
    (np.zeros((0, 32, 3), np.uint8), "found 32x0"),
  ],
)
def test_an_array_that_is_no_image_is_refused(array, said):
  with pytest.raises(InputError, match=said) as raised:
    read_pixels(array)
  assert "\n" not in str(raised.value)


def test_what_is_neither_a_file_nor_pixels_is_refused():
  with pytest.raises(InputError, match=r"a path, the bytes of a file, a PIL image or an array; found list"):
    read_pixels([[1, 2, 3]])
