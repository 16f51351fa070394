"""Queries: without a box what the index holds; with a box METHOD 3, held against the oracle."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.images.decoding import UnreadableImageError, decode_image
from cwf_jax.protocol import BoxError
from cwf_jax.queries import encode_query, pad_count
from tests.oracle import encoding as oracle
from tests.oracle.deviation import assert_close

_activate = jax.jit(Encoder.activate)

PROTOCOLS = ("paper", "reference")


def _picture(height, width, seed=1):
  small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
  return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _resized(pixels, height, width):
  return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def _alone(pixels):
  """An image as a batch of one without any padding."""
  return jnp.asarray(pixels[None]), jnp.asarray([pixels.shape[:2]], jnp.int32)


def _cells(protocol, box, original, resized):
  """METHOD 3 and 7.3, from the text."""
  rows, columns = resized[0] // 16, resized[1] // 16
  if protocol == "reference":
    left, top, right, bottom = (math.floor(side / 16) for side in box)
  else:
    x, y = resized[1] / original[1] / 16, resized[0] / original[0] / 16
    left, top, right, bottom = (math.floor(box[0] * x), math.floor(box[1] * y), math.ceil(box[2] * x), math.ceil(box[3] * y))
  left, top = min(left, columns - 1), min(top, rows - 1)
  return left, top, min(max(right, left + 1), columns), min(max(bottom, top + 1), rows)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_indexed_image_finds_itself_first_with_score_one(make_searcher, pictures, protocol):
  searcher = make_searcher(protocol)
  names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
  queries = [searcher.encode(pictures / name) for name in names]
  for name, (first, second) in zip(names, searcher.search(queries, top=2), strict=True):
    assert first.id == name
    assert first.score == pytest.approx(1.0, abs=1e-6)
    assert second.score < 0.99


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
  ("size", "box"),
  [
    ((64, 96), (32.0, 16.0, 96.0, 64.0)),
    ((96, 144), (3.5, 40.25, 70.75, 81.5)),
    ((64, 64), (0.0, 0.0, 64.0, 64.0)),
    ((40, 300), (283.0, 23.0, 300.0, 40.0)),
    ((50, 50), (17.0, 17.0, 33.0, 33.0)),
  ],
)
def test_a_box_is_classified_by_its_pixels_and_pooled_from_the_whole_image(encoders, make_searcher, protocol, size, box):
  encoder = encoders[protocol]
  pixels = _picture(*size)
  query = encode_query(encoder, pixels, box)

  left, top, right, bottom = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
  crop = pixels[top:bottom, left:right]
  crop = _resized(crop, *encoder.settings.protocol.resized_crop(*crop.shape[:2]))
  expected_ids = oracle.choose_classes(_activate(encoder, *_alone(crop)).probabilities, 4)[0]
  assert query.class_ids.tolist() == expected_ids.tolist()

  resized = encoder.settings.protocol.resized(*size)
  activations = _activate(encoder, *_alone(_resized(pixels, *resized)))
  cut = np.zeros(activations.mask.shape, bool)
  left, top, right, bottom = _cells(protocol, box, size, resized)
  cut[:, top:bottom, left:right] = True
  features, cam_features = np.asarray(activations.features), np.asarray(activations.cam_features)
  maps = oracle.compute_cams(cam_features, np.asarray(encoder.network.class_weights)[:, expected_ids], cut)
  expected = oracle.pool_class_vectors(features, maps, oracle.compute_channel_weights(features, cut), cut)
  # Padding to a canvas regroups float32 sums in the network.
  assert_close("query in a box: class vectors", query.class_vectors, expected[0], 1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pixels_outside_a_box_do_not_choose_its_classes_but_are_seen_by_its_features(encoders, make_searcher, protocol):
  encoder = encoders[protocol]
  pixels, box = _picture(96, 96), (32, 32, 64, 64)
  changed = _picture(96, 96, seed=2).copy()
  changed[32:64, 32:64] = pixels[32:64, 32:64]
  one, other = (encode_query(encoder, image, box) for image in (pixels, changed))
  assert one.class_ids.tolist() == other.class_ids.tolist()
  assert not np.allclose(one.class_vectors, other.class_vectors, atol=1e-3)


def test_a_list_of_classes_without_a_box_pools_the_whole_image(encoders, make_searcher):
  encoder = encoders["paper"]
  pixels = _picture(70, 90)
  own = encode_query(encoder, pixels)
  listed = encode_query(encoder, pixels, classes=tuple(own.class_ids.tolist()))
  np.testing.assert_array_equal(listed.class_ids, own.class_ids)
  np.testing.assert_allclose(listed.class_vectors, own.class_vectors, atol=1e-5)  # two programs: rounding of float32


def test_a_list_of_classes_with_a_box_is_cut_to_the_box(encoders, make_searcher):
  encoder = encoders["paper"]
  pixels, box = _picture(96, 96), (0, 0, 48, 48)
  own = encode_query(encoder, pixels, box)
  listed = encode_query(encoder, pixels, box, (7, int(own.class_ids[0]), 2))
  assert listed.class_ids.tolist() == [7, own.class_ids[0], 2]
  np.testing.assert_allclose(listed.class_vectors[1], own.class_vectors[0], atol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [(16, 16), (16, 400), (400, 16), (17, 31)])
def test_tiny_and_long_images_are_queries(encoders, make_searcher, protocol, size):
  encoder = encoders[protocol]
  pixels = _picture(*size)
  for box in (None, (0, 0, size[1], size[0])):
    query = encode_query(encoder, pixels, box)
    assert len(query.class_ids) == 4
    lengths = np.linalg.norm(query.class_vectors, axis=1)
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))


@pytest.mark.parametrize(
  ("box", "said"),
  [
    ((-40, 0, 0, 40), "lies outside the image"),
    ((50, 0, 90, 40), "14x40 pixels inside the image"),
    ((40, 10, 20, 40), "-20x30 pixels"),
    ((10, 10, 10, 40), "0x30 pixels"),
    ((0, 0, 15.9, 40), "15.9x40 pixels"),
    ((0, 0, math.nan, 40), "four numbers"),
    ((0, 0, math.inf, 40), "four numbers"),
    ((0, 0, 40), "four numbers"),
  ],
)
def test_a_box_that_cannot_be_is_refused(encoders, make_searcher, box, said):
  with pytest.raises(BoxError, match=said) as raised:
    encode_query(encoders["paper"], _picture(48, 64), box)
  assert "\n" not in str(raised.value)


def test_a_box_is_in_pixels_of_the_upright_image(encoders, make_searcher, tmp_path):
  pixels = _picture(96, 64)
  turned = Image.fromarray(np.rot90(pixels))  # stored lying, orientation 6: turned clockwise to be upright
  exif = turned.getexif()
  exif[0x0112] = 6
  turned.save(tmp_path / "turned.png", exif=exif)
  assert np.array_equal(decode_image(tmp_path / "turned.png"), pixels)
  encoder = encoders["paper"]
  ours, expected = (encode_query(encoder, image, (0, 60, 50, 96)) for image in (tmp_path / "turned.png", pixels))
  assert np.array_equal(ours.class_ids, expected.class_ids)
  assert np.array_equal(ours.class_vectors, expected.class_vectors)


def test_what_is_no_image_is_refused(encoders, make_searcher, tmp_path):
  encoder = encoders["paper"]
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  with pytest.raises(UnreadableImageError, match=r"broken\.jpg"):
    encode_query(encoder, tmp_path / "broken.jpg")
  with pytest.raises(InputError, match="uint8"):
    encode_query(encoder, np.zeros((32, 32, 3), np.float32))
  with pytest.raises(InputError, match="16x16"):
    encode_query(encoder, np.zeros((15, 32, 3), np.uint8))


def test_lists_are_padded_in_steps():
  assert [pad_count(count) for count in (0, 1, 16, 17, 64)] == [16, 16, 16, 32, 64]
