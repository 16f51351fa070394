"""Every image is decoded once, and each that cannot be is told."""

import dataclasses
import io
import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from cwf_jax.extraction import image_check as folder_check
from cwf_jax.extraction.image_check import check_images
from cwf_jax.images.image_set import ImageSet
from cwf_jax.images.sources import open_images


def _png(seed=0, side=20):
  content = io.BytesIO()
  Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(content, "PNG")
  return content.getvalue()


FILES = {
  "a.png": _png(),
  "b/truncated.png": _png()[:-30],
  "b/good.png": _png(1),
  "empty.jpg": b"",
  "small.png": _png(2, side=9),
  "text.jpg": b"not a picture",
}


@pytest.fixture
def folder(tmp_path):
  for name, content in FILES.items():
    (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "images" / name).write_bytes(content)
  return tmp_path / "images"


@pytest.fixture
def decoded(monkeypatch):
  """How often images are decoded."""
  found, decode = [], folder_check.decode_image
  monkeypatch.setattr(folder_check, "decode_image", lambda source: found.append(1) or decode(source))
  return found


def _set(path, ids=None):
  source = open_images(path)
  return ImageSet("made", source, source.ids if ids is None else ids)


def _names(found):
  assert all(": " in told for told in found)
  return [told.partition(": ")[0] for told in found]


def test_every_unreadable_image_is_told_in_order(folder):
  told = []
  found = check_images(_set(folder), progress=lambda done, total: told.append((done, total)))
  assert _names(found.unreadable) == ["b/truncated.png", "empty.jpg", "small.png", "text.jpg"]
  reasons = ("empty.jpg: empty file", "small.png: 9x9 pixels, the least is 16x16", "text.jpg: not an image")
  assert found.unreadable[1:] == reasons and sorted(found.contents) == ["a.png", "b/good.png"] and found.sha256 == ""
  assert told == [(done, 6) for done in range(1, 7)]


def test_images_of_a_tar(folder, tmp_path):
  with tarfile.open(tmp_path / "all.tar", "w") as tar:
    tar.add(folder, "")
  found = check_images(_set(tmp_path / "all.tar")).unreadable
  assert _names(found) == ["b/truncated.png", "empty.jpg", "small.png", "text.jpg"]


def test_a_file_that_is_gone_meanwhile(folder):
  images = _set(folder, ("a.png", "b/good.png"))
  (folder / "a.png").unlink()
  for kept in (None, folder.parent / "checked"):
    found = check_images(dataclasses.replace(images), kept)
    assert len(found.unreadable) == 1 and found.unreadable[0].startswith("a.png: ") and found.sha256 == ""


def test_a_link_that_leads_nowhere(folder):
  (folder / "link.png").symlink_to(folder / "absent.png")
  told = check_images(_set(folder, ("a.png", "link.png")), folder.parent / "checked").unreadable
  assert len(told) == 1 and told[0].startswith("link.png: ")


def test_good_images_are_not_decoded_twice(folder, tmp_path, decoded):
  good = ("a.png", "b/good.png")
  kept = tmp_path / "checked" / "deep"
  first = check_images(_set(folder, good), kept)
  assert first.unreadable == () and len(decoded) == 2
  assert check_images(_set(folder, good), kept) == first and len(decoded) == 2
  assert check_images(_set(folder, good[:1]), kept).sha256 != first.sha256 and len(decoded) == 2  # fewer of them
  os.utime(folder / "a.png", ns=(5, 5))
  assert check_images(_set(folder, good), kept) == first and len(decoded) == 3  # a digest of contents, not of times
  for damage in (b"\xff damaged", b'{"a": 1}', b"[[1, 2]]", b"5"):
    decoded.clear()
    for mark in kept.iterdir():
      mark.write_bytes(damage)
    assert check_images(_set(folder, good), kept) == first and len(decoded) == 2


def test_a_copy_elsewhere_is_decoded(folder, tmp_path, decoded):
  shutil.copytree(folder, tmp_path / "copy")
  good = ("a.png", "b/good.png")
  (tmp_path / "copy" / "a.png").write_bytes(b"x" * len(FILES["a.png"]))
  stat = (folder / "a.png").stat()
  os.utime(tmp_path / "copy" / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same name, length and time
  assert check_images(_set(folder, good), tmp_path / "checked").unreadable == ()
  assert _names(check_images(_set(tmp_path / "copy", good), tmp_path / "checked").unreadable) == ["a.png"]


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_an_interrupted_check_goes_on_where_it_was(folder, tmp_path, monkeypatch, seconds):
  for number in range(6):
    (folder / f"c{number}.png").write_bytes(_png(number + 10))
  monkeypatch.setattr(folder_check, "_SECONDS", seconds)
  monkeypatch.setattr(folder_check, "processors", lambda: 1)
  good = ("a.png", "b/good.png", *(f"c{number}.png" for number in range(6)))

  def stop(done, total):
    assert total == 8
    if done == 3:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    check_images(_set(folder, good), tmp_path / "checked", stop)
  told = []
  found = check_images(_set(folder, good), tmp_path / "checked", lambda *numbers: told.append(numbers))
  assert told == [(done, 8) for done in range(4, 9)]
  assert found == check_images(_set(folder, good))


def test_a_digest_is_of_names_and_contents(folder):
  good = ("a.png", "b/good.png")
  first = check_images(_set(folder, good)).sha256
  (folder / "a.png").rename(folder / "a2.png")
  assert check_images(_set(folder, ("a2.png", "b/good.png"))).sha256 != first
  (folder / "a2.png").rename(folder / "a.png")
  assert check_images(_set(folder, good)).sha256 == first
  (folder / "a.png").write_bytes(_png(7))
  assert check_images(_set(folder, good)).sha256 != first


def test_bad_images_are_told_each_time(folder, tmp_path, decoded):
  first = check_images(_set(folder), tmp_path / "checked")
  decoded.clear()
  assert check_images(_set(folder), tmp_path / "checked") == first and len(first.unreadable) == 4
  assert len(decoded) == 4  # those that are bad
  text = folder / "text.jpg"
  text.write_bytes(_png(5))
  assert _names(check_images(_set(folder), tmp_path / "checked").unreadable) == ["b/truncated.png", "empty.jpg", "small.png"]
