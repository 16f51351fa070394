"""Signatures and digests of images; contrast that is stretched, by hand; images of a folder and of a tar."""

import errno
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from cwf_jax.images.decoding import decode_image
from cwf_jax.images.image_set import ImageSet, sign, stretch_contrast
from cwf_jax.images.sources import open_images
from cwf_jax.protocol import Protocol


@pytest.fixture
def folder(tmp_path):
  """Two gray pictures, a and b, whose values reach from 50 to 101."""
  for name in "ab":
    Image.fromarray(_gray()).save(tmp_path / f"{name}.png")
  return tmp_path


def _gray():
  rows = np.full((64, 64, 3), 50, np.uint8)
  rows[:, 32:] = 101
  rows[:, 16:32] = 67
  return rows


def _set(folder, **changes):
  source = open_images(folder)
  return ImageSet(**{"name": "made", "source": source, "ids": source.ids, **changes})


class TestStretchedContrast:
  def test_by_hand(self):
    # (67 - 50) 255/51 = 85
    found = stretch_contrast(_gray())
    assert found.dtype == np.uint8
    assert [found[0, 0, 0], found[0, 16, 0], found[0, 40, 0]] == [0, 85, 255]

  def test_the_range_is_that_of_all_channels(self):
    pixels = np.asarray([[[10, 20, 30], [10, 20, 40]]], np.uint8)
    np.testing.assert_array_equal(stretch_contrast(pixels), [[[0, 85, 170], [0, 85, 255]]])

  def test_values_are_rounded_and_halves_up(self):
    pixels = np.asarray([[[10, 11, 12], [13, 14, 14]]], np.uint8)  # 63.75, 127.5 and 191.25
    np.testing.assert_array_equal(stretch_contrast(pixels), [[[0, 64, 128], [191, 255, 255]]])

  def test_what_fills_the_range_is_as_it_was(self):
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(stretch_contrast(pixels), pixels)

  def test_one_value_becomes_black(self):
    assert not stretch_contrast(np.full((2, 2, 3), 7, np.uint8)).any()


def test_row_17_only_those_named_are_stretched(folder):
  images = _set(folder, stretched=frozenset({"b.png"}))
  plain, stretched = images.load(images.ids, Protocol.paper(64), threads=1, ahead=2)
  np.testing.assert_array_equal(plain.fitted.pixels, decode_image(str(folder / "a.png")))
  np.testing.assert_array_equal(stretched.fitted.pixels, stretch_contrast(_gray()))


class TestDigest:
  def test_a_signature_is_bytes_and_time(self, folder):
    os.utime(folder / "a.png", ns=(5, 1_234_567_890_123_456_789))
    images = _set(folder)
    assert images.signatures["a.png"] == ((folder / "a.png").stat().st_size, 1_234_567_890_123_456_789)
    assert list(images.signatures) == ["a.png", "b.png"] and sign(str(folder / "a.png")) == images.signatures["a.png"]
    assert images.root == str(folder)

  def test_it_is_the_same_for_the_same_and_differs_else(self, folder):
    first = _set(folder).digest
    assert _set(folder).digest == first and _set(folder, name="other").digest == first
    assert _set(folder, ids=("a.png",)).digest != first
    assert _set(folder, stretched=frozenset({"a.png"})).digest != first
    os.utime(folder / "a.png", ns=(5, 5))
    assert _set(folder).digest != first

  def test_a_file_that_is_gone(self, folder):
    images, again = _set(folder), _set(folder)
    (folder / "b.png").unlink()
    assert images.signatures["b.png"] == (-1, -1) and images.signatures["a.png"] == sign(str(folder / "a.png"))
    (folder / "b.png").symlink_to(folder / "b.png")
    assert again.signatures["b.png"] == (-1, -1)  # a link to itself

  def test_a_file_that_cannot_be_looked_at(self, folder, monkeypatch):
    def fail(_):
      raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("cwf_jax.images.image_set.sign", fail)
    with pytest.raises(OSError, match="Too many"):
      _ = _set(folder).signatures

  def test_images_of_a_tar_have_the_tar_s(self, folder, tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
      for name in ("a.png", "b.png"):
        tar.add(folder / name, name)
    images = _set(tmp_path / "all.tar", stretched=frozenset({"b.png"}))
    own = sign(str(tmp_path / "all.tar"))
    assert images.signatures == {"a.png": own, "b.png": own} and images.root == str(tmp_path / "all.tar")
    plain, stretched = images.load(images.ids, Protocol.paper(64), threads=1, ahead=2)
    np.testing.assert_array_equal(plain.fitted.pixels, _gray())
    np.testing.assert_array_equal(stretched.fitted.pixels, stretch_contrast(_gray()))
