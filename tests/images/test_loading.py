"""Images in the order of the list, bounded ahead of their use; batches that depend on the list alone."""

import contextlib
import gc
import hashlib
import os
import pathlib
import threading
import time

import numpy as np
import pytest
from PIL import Image

from cwf_jax.images import loading
from cwf_jax.images.canvases import fit_image
from cwf_jax.images.decoding import decode_image
from cwf_jax.images.listing import list_images
from cwf_jax.images.loading import LoadedImage, SkippedImage, fill_batches, load_image, load_images
from cwf_jax.protocol import Protocol

PROTOCOL = Protocol.paper(32)
SHAPES = ((32, 32), (40, 53), (53, 40), (60, 40), (40, 60), (64, 20), (20, 64))
"""One for each canvas of the protocol."""


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
  """Sixty images of all canvases, some of them broken."""
  root = tmp_path_factory.mktemp("images")
  generator = np.random.default_rng(0)
  for number in range(60):
    path = root / f"{number:02}.png"
    shape = SHAPES[generator.integers(len(SHAPES))]
    Image.fromarray(generator.integers(0, 256, (*shape, 3), np.uint8)).save(path)
    if number % 13 == 4:
      path.write_bytes(path.read_bytes()[:100])
  return list_images(root)


def _load(listing, ids=None, threads=4, ahead=10):
  return load_images(listing, listing.ids if ids is None else ids, PROTOCOL, threads, ahead)


def _contents(batches):
  return [(tuple(file.id for file in batch.files), batch.images.tobytes(), batch.sizes.tolist()) for batch in batches]


def test_an_image_is_what_its_file_was(listing):
  path = listing.path("00.png")
  loaded = load_image(listing, "00.png", PROTOCOL)
  content = pathlib.Path(path).read_bytes()
  assert loaded[:5] == ("00.png", path, len(content), os.stat(path).st_mtime_ns, hashlib.sha256(content).hexdigest())
  image = decode_image(path)
  assert loaded.original == image.shape[:2]
  assert np.array_equal(loaded.fitted.pixels, fit_image(image, PROTOCOL).pixels)


def test_a_change_while_a_file_is_read_is_found_by_the_next_run(listing, monkeypatch):
  path = listing.path("00.png")
  before = os.stat(path).st_mtime_ns

  def read(path):
    content = pathlib.Path(path).read_bytes()
    os.utime(path, ns=(before + 1, before + 1))
    return content

  monkeypatch.setattr(loading, "read_file", read)
  assert load_image(listing, "00.png", PROTOCOL).mtime_ns == before


def test_what_cannot_be_read_is_returned_with_its_reason(listing, tmp_path):
  assert load_image(listing, "04.png", PROTOCOL) == SkippedImage("04.png", "truncated")
  (tmp_path / "folder").mkdir()
  (tmp_path / "loop").symlink_to(tmp_path / "loop")
  (tmp_path / "list.txt").write_text("missing.jpg\nfolder\nloop\n" + "x" * 300)
  listed = list_images(tmp_path / "list.txt")
  reasons = {one: load_image(listed, one, PROTOCOL).reason for one in listed.ids}
  assert reasons == {
    "missing.jpg": "no such file",
    "folder": "a directory",
    "loop": "too many levels of symbolic links",
    "x" * 300: "file name too long",
  }


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (4, 10), (16, 100)])
def test_order_is_that_of_the_list(listing, threads, ahead):
  ids = listing.ids[::-1]
  assert [one.id for one in _load(listing, ids, threads, ahead)] == list(ids)
  assert list(_load(listing, (), threads, ahead)) == []


def test_no_more_is_loaded_than_was_asked_for(listing, monkeypatch):
  started, original, threads, ahead, batch_size = [], loading.load_image, 3, 6, 2

  def counted(listing, image_id, protocol):
    started.append(image_id)
    return original(listing, image_id, protocol)

  monkeypatch.setattr(loading, "load_image", counted)
  images = _load(listing, threads=threads, ahead=ahead)
  for taken in range(1, 20):
    next(images)
    time.sleep(0.01)
    assert len(started) <= taken + ahead + threads
  images.close()
  started.clear()
  consumed = 0
  skipped = []
  for batch in fill_batches(_load(listing, threads=threads, ahead=ahead), batch_size, skipped):
    consumed += len(batch.files)
    time.sleep(0.01)
    waiting = len(started) - consumed - len(skipped)
    assert waiting <= ahead + threads + len(SHAPES) * (batch_size - 1) + batch_size


def test_batches_are_full_but_for_the_last_of_each_canvas(listing):
  skipped = []
  batches = list(fill_batches(_load(listing), 4, skipped))
  assert [one.id for one in skipped] == ["04.png", "17.png", "30.png", "43.png", "56.png"]
  assert {batch.images.shape[1:3] for batch in batches} == set(PROTOCOL.canvases)
  by_canvas = {}
  for batch in batches:
    by_canvas.setdefault(batch.images.shape, []).append(batch)
  for shape, of_canvas in by_canvas.items():
    assert shape[0] == 4
    assert all(len(batch.files) == 4 for batch in of_canvas[:-1]) and 1 <= len(of_canvas[-1].files) <= 4
    names = [file.id for batch in of_canvas for file in batch.files]
    assert names == sorted(names)
  for batch in batches:
    for place, file in enumerate(batch.files):
      assert file.fitted is None  # the pixels are in the batch: not held twice
      fitted = load_image(listing, file.id, PROTOCOL).fitted
      height, width = batch.sizes[place]
      assert (height, width) == fitted.size
      assert np.array_equal(batch.images[place, :height, :width], fitted.pixels)
      assert not batch.images[place, height:].any() and not batch.images[place, :, width:].any()
    assert not batch.images[len(batch.files) :].any() and (batch.sizes[len(batch.files) :] == 16).all()
  assert sorted(file.id for batch in batches for file in batch.files) == sorted(set(listing.ids) - {one.id for one in skipped})


def test_batches_depend_on_nothing_but_the_list(listing):
  whole = _contents(fill_batches(_load(listing), 3, []))
  assert _contents(fill_batches(_load(listing, threads=1, ahead=1), 3, [])) == whole
  good = [one for one in listing.ids if isinstance(load_image(listing, one, PROTOCOL), LoadedImage)]
  assert _contents(fill_batches(_load(listing, good), 3, [])) == whole
  for done in (1, 4, len(whole) - 2):
    stored = {name for names, _, _ in whole[:done] for name in names}
    rest = [one for one in listing.ids if one not in stored]
    assert _contents(fill_batches(_load(listing, rest), 3, [])) == whole[done:]


def test_what_a_thread_raises_comes_out(listing, monkeypatch):
  def fail(listing, image_id, protocol):
    if image_id == "20.png":
      raise RuntimeError("on a thread")
    return SkippedImage(image_id, "")

  monkeypatch.setattr(loading, "load_image", fail)
  before = threading.active_count()
  images = _load(listing)
  seen = []
  with pytest.raises(RuntimeError, match="on a thread"):
    seen.extend(one.id for one in images)
  _wait_for_threads(before)


def _wait_for_threads(count):
  end = time.monotonic() + 5
  while threading.active_count() > count and time.monotonic() < end:
    time.sleep(0.01)
  assert threading.active_count() <= count


@pytest.mark.parametrize("taken", [0, 1, 17])
def test_threads_end_with_an_iterator_that_is_closed_early(listing, taken):
  before = threading.active_count()
  with contextlib.closing(_load(listing)) as images:
    for _ in range(taken):
      next(images)
  _wait_for_threads(before)
  images = _load(listing)
  batches = fill_batches(images, 2, [])
  next(batches)
  del images, batches
  gc.collect()
  _wait_for_threads(before)
