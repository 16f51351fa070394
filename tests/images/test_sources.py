"""A tar gives the images that its folder gives; what cannot be read is told."""

import dataclasses
import tarfile

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.images.loading import SkippedImage, fill_batches
from cwf_jax.images.sources import Archive, load_source, open_images
from cwf_jax.protocol import Protocol

PROTOCOL = Protocol.paper(64)


@pytest.fixture(scope="module")
def archive(photographs, tmp_path_factory):
  """The pictures in a tar, and a text beside them."""
  file = tmp_path_factory.mktemp("tars") / "pictures.tar"
  (file.parent / "notes.txt").write_text("none")
  with tarfile.open(file, "w") as tar:
    tar.add(photographs, arcname=".")
    tar.add(file.parent / "notes.txt", arcname="notes.txt")
  return file


def _load(source, threads=2):
  return list(load_source(source, source.ids, PROTOCOL, threads, 4))


def test_a_tar_is_loaded_as_its_folder_is(photographs, archive):
  packed, folder = open_images(archive), open_images(photographs)
  assert isinstance(packed, Archive) and isinstance(folder, Listing)
  assert packed.ids == folder.ids and len(packed.ids) == 12 and packed.root == str(archive)
  for ours, theirs in zip(_load(packed), _load(folder), strict=True):
    np.testing.assert_array_equal(ours.fitted.pixels, theirs.fitted.pixels)
    kept = {name: getattr(ours, name) for name in ("id", "bytes", "sha256", "original")}
    assert kept == {name: getattr(theirs, name) for name in kept}
    assert ours.path == str(archive / ours.id) and ours.mtime_ns == 0


def test_batches_are_those_of_the_folder(photographs, archive):
  found = []
  for source in (open_images(str(archive)), open_images(photographs)):
    skipped = []
    batches = list(fill_batches(_load(source), 4, skipped))
    found.append([([file.id for file in batch.files], batch.images, batch.sizes) for batch in batches])
    assert not skipped
  for (ids, images, sizes), (other_ids, other_images, other_sizes) in zip(*found, strict=True):
    assert ids == other_ids
    np.testing.assert_array_equal(images, other_images)
    np.testing.assert_array_equal(sizes, other_sizes)


def test_a_list_file_is_a_listing(photographs, tmp_path):
  names = [str(photographs / image_id) for image_id in list_images(photographs).ids[:3]]
  (tmp_path / "some.txt").write_text("\n".join(names))
  assert len(open_images(tmp_path / "some.txt").ids) == 3


def test_a_folder_whose_name_ends_in_tar_is_a_folder(photographs, tmp_path):
  (tmp_path / "x.tar").symlink_to(photographs)
  assert isinstance(open_images(tmp_path / "x.tar"), Listing)


def test_what_is_no_image_is_skipped_with_its_reason(archive, tmp_path):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  with tarfile.open(tmp_path / "broken.tar", "w") as tar:
    tar.add(tmp_path / "broken.jpg", arcname="broken.jpg")
  assert _load(open_images(tmp_path / "broken.tar")) == [SkippedImage("broken.jpg", "not an image")]


def test_a_member_that_cannot_be_read_is_skipped(archive):
  def fail(name):
    raise OSError(5, "Input/output error")

  source = dataclasses.replace(open_images(archive), read=fail)
  found = _load(source)
  assert len(found) == 12 and all(isinstance(item, SkippedImage) and "nput/output error" in item.reason for item in found)


def test_sources_that_are_refused(tmp_path):
  (tmp_path / "text.tar").write_text("nothing" * 100)
  (tmp_path / "notes.md").write_text("nothing")
  with tarfile.open(tmp_path / "empty.tar", "w") as tar:
    tar.add(tmp_path / "notes.md", arcname="notes.md")
  with tarfile.open(tmp_path / "links.tar", "w") as tar:
    link = tarfile.TarInfo("link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar.addfile(link)
  for name, message in (
    ("missing.tar", "cannot be read: No such file"),
    ("missing", "there is no file or folder"),
    ("text.tar", "tar"),
    ("notes.md", "neither a folder nor a list"),
    ("empty.tar", "there are no images in .*empty.tar: no file in it ends in"),
    ("links.tar", "1 image of .*links.tar cannot be listed, the first is link.jpg: a link inside a tar"),
  ):
    with pytest.raises(InputError, match=message):
      open_images(tmp_path / name)
