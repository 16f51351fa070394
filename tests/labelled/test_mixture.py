"""Batches that are a function of their number; images that cannot be read; labels of one network for several pools."""

import contextlib
import hashlib
import io
import itertools
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.images.decoding import EXTENSIONS, decode_image, resize_image
from cwf_jax.images.loading import SkippedImage
from cwf_jax.labelled import cached_images
from cwf_jax.labelled.cached_images import CachedImages
from cwf_jax.labelled.class_folders import open_pool
from cwf_jax.labelled.mixture import Mixture, check_pool, choose_classes, map_labels
from cwf_jax.models.class_names import ClassList
from cwf_jax.training.batches import Batch

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data" / "train"
SIDE = 32
SHAPES = ((20, 20), (32, 16), (30, 60), (90, 45), (64, 64))
"""Smaller than the canvas, as large, and larger."""


def _encode(shape, color):
  file = io.BytesIO()
  Image.fromarray(np.full((*shape, 3), color, np.uint8)).save(file, "PNG")
  return file.getvalue()


def _make_folder(root, classes, images, first_color):
  """Every image has a gray of its own."""
  for number in range(images):
    path = root / classes[number % len(classes)] / f"{number:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_encode(SHAPES[number % len(SHAPES)], first_color + number))
  return root


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
  """Twelve images of three classes, and six of two."""
  root = tmp_path_factory.mktemp("pools")
  folders = _make_folder(root / "a", ("rose", "tulip", "daisy"), 12, 1), _make_folder(root / "b", ("lily", "rose"), 6, 101)
  return tuple(open_pool(folder, EXTENSIONS) for folder in folders)


def _mix(pools, **settings):
  classes = choose_classes(pools)
  return Mixture(pools, [map_labels(pool, classes) for pool in pools], settings.pop("side", SIDE), **settings)


def _take(batches, count):
  with contextlib.closing(batches):
    return list(itertools.islice(batches, count))


def _colors(batch):
  return batch.images[:, 0, 0, 0].tolist()


def _contents(batches):
  return [tuple(array.tobytes() for array in batch) for batch in batches]


def _break(folder, numbers):
  """Cuts images behind their headers: only decoding finds it."""
  for path in folder.rglob("*.png"):
    if int(path.stem) in numbers:
      path.write_bytes(path.read_bytes()[:60])


def test_images_lie_at_the_upper_left_shrunk_and_never_enlarged(pools):
  classes = choose_classes(pools)
  expected = {}
  for pool in pools:
    for index, label in enumerate(pool.labels):
      image = decode_image(pool.read(index))
      scale = min(1.0, SIDE / max(image.shape))
      pixels = resize_image(image, round(image.shape[0] * scale), round(image.shape[1] * scale))
      expected[int(image[0, 0, 0])] = pixels, classes.wnids.index(pool.classes[label])
  for batch in _take(_mix(pools).batches(5), 8):
    assert isinstance(batch, Batch)
    assert batch.images.shape == (5, SIDE, SIDE, 3) and batch.images.dtype == np.uint8
    assert batch.sizes.shape == (5, 2) and batch.sizes.dtype == batch.labels.dtype == np.int32
    for image, size, label in zip(*batch, strict=True):
      pixels, known = expected[int(image[0, 0, 0])]
      assert tuple(size) == pixels.shape[:2] and label == known
      canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
      canvas[: size[0], : size[1]] = pixels
      assert np.array_equal(image, canvas)
  assert sorted({pixels.shape for pixels, _ in expected.values()}) == [(16, 32, 3), (20, 20, 3), (32, 16, 3), (32, 32, 3)]


def test_each_epoch_gives_each_image_once_in_an_order_of_its_own(pools):
  taken = [color for batch in _take(_mix(pools[:1]).batches(4), 9) for color in _colors(batch)]
  epochs = [taken[start : start + 12] for start in (0, 12, 24)]
  assert all(sorted(epoch) == list(range(1, 13)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3
  other = [color for batch in _take(_mix(pools[:1], seed=1).batches(4), 3) for color in _colors(batch)]
  assert sorted(other) == list(range(1, 13)) and other not in epochs


@pytest.mark.parametrize(("weights", "share"), [(None, 12 / 18), ([1, 1], 1 / 2), ([1, 3], 1 / 4), ([0.5, 0.125], 4 / 5)])
def test_pools_have_their_shares(pools, weights, share):
  taken = [color for batch in _take(_mix(pools, weights=weights).batches(10), 18) for color in _colors(batch)]
  assert sum(color < 100 for color in taken) == pytest.approx(180 * share, abs=1)
  begin = [color for color in taken[:18] if color < 100][:12]
  assert len(set(begin)) == len(begin)  # none again before all were given


@pytest.mark.parametrize("start", [1, 3, 4, 11, 1000])
def test_a_run_goes_on_where_it_was_killed(pools, start):
  def make(**settings):
    return _mix(pools, weights=[2, 1], seed=3, **settings)

  undisturbed = _contents(_take(make().batches(3), min(start, 12) + 4))
  if start <= 12:
    assert _contents(_take(make().batches(3, start), 4)) == undisturbed[start:]
  mixture = make()
  _take(mixture.batches(3), 2)
  assert _contents(_take(mixture.batches(3, start), 2)) == _contents(_take(make(threads=1).batches(3, start), 2))


def test_a_far_start_costs_nothing(pools):
  began = time.monotonic()
  assert len(_take(_mix(pools).batches(8, 10**9), 1)) == 1
  assert time.monotonic() - began < 5


@pytest.mark.parametrize(
  "settings", [{"threads": 1, "ahead": 1}, {"threads": 16, "ahead": 30}, {"cache_bytes": 0}, {"cache_bytes": 5000}]
)
def test_batches_do_not_depend_on_threads_or_memory(pools, settings):
  assert _contents(_take(_mix(pools, **settings).batches(4), 10)) == _contents(_take(_mix(pools).batches(4), 10))


def test_another_process_makes_the_same_batches(pools):
  code = """if True:
    import hashlib, itertools, sys
    from cwf_jax.labelled.mixture import Mixture, choose_classes, map_labels
    from cwf_jax.labelled.class_folders import open_pool
    from cwf_jax.images.decoding import EXTENSIONS
    pools = [open_pool(source, EXTENSIONS) for source in sys.argv[1:]]
    classes = choose_classes(pools)
    batches = Mixture(pools, [map_labels(pool, classes) for pool in pools], 32, threads=3, seed=5).batches(4, 2)
    taken = list(itertools.islice(batches, 6))
    batches.close()
    print(hashlib.sha256(b"".join(array.tobytes() for batch in taken for array in batch)).hexdigest())
  """
  command = [sys.executable, "-c", code, *(pool.source for pool in pools)]
  environment = os.environ | {"PYTHONHASHSEED": "7"}
  run = subprocess.run(command, cwd=pathlib.Path(__file__).parents[2], env=environment, capture_output=True, text=True)
  taken = _take(_mix(pools, seed=5).batches(4, 2), 6)
  expected = hashlib.sha256(b"".join(array.tobytes() for batch in taken for array in batch)).hexdigest()
  assert (run.stdout.strip(), run.returncode) == (expected, 0), run.stderr


def test_an_image_that_cannot_be_decoded_gives_its_place_to_the_next(tmp_path):
  pool = open_pool(_make_folder(tmp_path, ("a", "b"), 10, 1), EXTENSIONS)  # a: 00 02 04 06 08, b: 01 03 05 07 09
  whole = [color for batch in _take(_mix([pool]).batches(5), 4) for color in _colors(batch)]
  _break(tmp_path, {2, 4, 9})
  mixture = _mix([pool])
  batches = _take(mixture.batches(5), 4)
  order = [1, 3, 5, 7, 9, 2, 4, 6, 8, 10]  # colors in the order of the pool
  instead = {3: 7, 5: 7, 10: 1}  # the last gives its place to the first
  assert [color for batch in batches for color in _colors(batch)] == [instead.get(color, color) for color in whole]
  labels = {color: place >= 5 for place, color in enumerate(order)}
  assert all(label == labels[color] for batch in batches for color, label in zip(_colors(batch), batch.labels, strict=True))
  assert mixture.skipped == tuple(SkippedImage(name, "truncated") for name in ("a/02.png", "a/04.png", "b/09.png"))
  assert _contents(_take(_mix([pool], threads=1).batches(5, 2), 2)) == _contents(batches[2:])


def test_an_image_that_is_gone_gives_its_place_too(tmp_path):
  pool = open_pool(_make_folder(tmp_path, ("a", "b"), 4, 1), EXTENSIONS)
  (tmp_path / "a" / "00.png").unlink()
  mixture = _mix([pool])
  assert {color for batch in _take(mixture.batches(4), 2) for color in _colors(batch)} == {2, 3, 4}
  assert mixture.skipped == (SkippedImage("a/00.png", "no such file"),)


def test_a_pool_of_which_nothing_can_be_decoded(tmp_path):
  pool = open_pool(_make_folder(tmp_path, ("a", "b"), 6, 1), EXTENSIONS)
  _break(tmp_path, range(6))
  with pytest.raises(InputError, match=r"none of the 6 images of .* can be read"):
    _take(_mix([pool]).batches(2), 1)
  assert list(_mix([pool]).validation_batches(pool, 4)) == []


def test_validation_is_one_pass_in_order_and_filled_up(pools):
  pool = pools[0]
  batches = list(_mix(pools).validation_batches(pool, 5))
  assert [batch.images.shape for batch in batches] == [(5, SIDE, SIDE, 3)] * 3
  colors = [color for batch in batches for color in _colors(batch)]
  assert colors[:12] == [int(decode_image(pool.read(index))[0, 0, 0]) for index in range(12)]
  labels = np.concatenate([batch.labels for batch in batches])
  assert labels[:12].tolist() == pool.labels.tolist() and (labels[12:] == -1).all()
  assert not batches[-1].images[2:].any() and (batches[-1].sizes[2:] == 16).all()


def test_validation_at_another_side_with_other_labels(pools):
  pool = pools[1]
  mixture = _mix(pools)
  _take(mixture.batches(18), 2)  # what was kept of them is of another side
  batches = list(mixture.validation_batches(pool, 6, 64, np.array([7, -1], np.int32)))
  assert len(batches) == 1 and batches[0].images.shape == (6, 64, 64, 3)
  assert batches[0].labels.tolist() == [7 if label == 0 else -1 for label in pool.labels]
  assert batches[0].sizes.max() == 64


def test_validation_leaves_out_what_cannot_be_read(tmp_path, pools):
  pool = open_pool(_make_folder(tmp_path, ("a", "b"), 7, 1), EXTENSIONS)
  _break(tmp_path, {0, 5})
  mixture = _mix(pools)
  batches = list(mixture.validation_batches(pool, 5))
  assert [_colors(batch) for batch in batches] == [[3, 5, 7, 2, 4]]
  assert [one.id for one in mixture.skipped] == ["a/00.png", "b/05.png"]


def test_a_sample_has_the_images_in_their_own_size(pools):
  mixture = _mix(pools)
  sample = list(mixture.sample(18))
  assert sorted(int(image[0, 0, 0]) for image in sample) == [*range(1, 13), *range(101, 107)]
  assert {image.shape[:2] for image in sample} == set(SHAPES)
  assert all(np.array_equal(one, other) for one, other in zip(sample, _mix(pools, threads=1).sample(18), strict=True))
  assert [int(image[0, 0, 0]) for image in mixture.sample(18, seed=1)] != [int(image[0, 0, 0]) for image in sample]
  assert list(mixture.sample(0)) == []
  assert len(list(mixture.sample(40))) == 40


@pytest.mark.parametrize(("limit", "decoded"), [(10**9, 4), (0, 12), (20 * 20 * 3, 4 + 3 + 3), (20 * 20 * 3 - 1, 12)])
def test_pixels_are_kept_as_far_as_there_is_room(tmp_path, monkeypatch, limit, decoded):
  pool = open_pool(_make_folder(tmp_path, ("a", "b"), 4, 1), EXTENSIONS)
  count = []
  monkeypatch.setattr(cached_images, "decode_image", lambda data: count.append(1) or decode_image(data))
  images = CachedImages(limit)
  loaded = [[images.load(pool, index, 90) for index in range(4)] for _ in range(3)]
  assert len(count) == decoded
  assert all(np.array_equal(one, other) for later in loaded[1:] for one, other in zip(later, loaded[0], strict=True))


def test_a_thin_image_keeps_a_row(tmp_path):
  pool = open_pool(_make_folder(tmp_path, ("a", "b"), 2, 1), EXTENSIONS)
  (tmp_path / "a" / "00.png").write_bytes(_encode((16, 2000), 9))
  assert CachedImages(0).load(pool, 0, 20).shape == (1, 20, 3)


def test_threads_end_with_batches_that_are_closed(pools):
  before = threading.active_count()
  _take(_mix(pools).batches(2), 3)
  next(batches := _mix(pools).validation_batches(pools[0], 2))
  batches.close()
  end = time.monotonic() + 5
  while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
  assert threading.active_count() <= before


def test_wrong_calls(pools):
  classes = choose_classes(pools)
  maps = [map_labels(pool, classes) for pool in pools]
  for message, call in {
    "a label map and a weight for each pool": lambda: Mixture(pools, maps[:1], SIDE),
    "a label map and a weight": lambda: Mixture([], [], SIDE),
    "positive numbers; found 1, 0": lambda: Mixture(pools, maps, SIDE, weights=[1, 0]),
    "positive numbers; found 1, nan": lambda: Mixture(pools, maps, SIDE, weights=[1, float("nan")]),
    "at least 16 pixels, not 8": lambda: Mixture(pools, maps, 8),
    "a number from 0, not -1": lambda: Mixture(pools, maps, SIDE, seed=-1),
    "at least 1 image": lambda: Mixture(pools, maps, SIDE).batches(0),
    "from number -1": lambda: Mixture(pools, maps, SIDE).batches(4, -1),
  }.items():
    with pytest.raises(InputError, match=message):
      call()


def test_headers_are_checked_before_anything_else(tmp_path):
  folder = _make_folder(tmp_path, ("a", "b", "c"), 9, 1)
  (folder / "a" / "00.png").write_bytes(b"no image")
  (folder / "b" / "01.png").write_bytes(b"")
  (folder / "b" / "04.png").write_bytes(_encode((5, 50), 1))
  (folder / "b" / "07.png").write_bytes(_encode((50, 50), 1)[:20])
  pool = open_pool(folder, EXTENSIONS)
  told = []
  kept, skipped, digest = check_pool(pool, 3, lambda done, total: told.append((done, total)))
  assert [one.id for one in skipped] == ["a/00.png", "b/01.png", "b/04.png", "b/07.png"]
  assert [one.reason for one in skipped][:3] == ["not an image", "empty file", "50x5 pixels, the least is 16x16"]
  assert kept.classes == ("a", "c") and len(kept) == 5 and told == [(9, 9)]
  assert [decode_image(kept.read(index))[0, 0, 0] for index in range(5)] == [4, 7, 3, 6, 9]
  again = check_pool(kept)
  assert again.pool is kept and again.sha256 == digest


def test_the_digest_of_a_pool_is_of_its_contents_and_classes_in_order(tmp_path):
  def digest():
    return check_pool(open_pool(folder, EXTENSIONS)).sha256

  folder = _make_folder(tmp_path, ("a", "b"), 4, 1)
  first = digest()
  (folder / "a" / "zz.png").write_bytes(b"no image")
  assert digest() == first  # what cannot be read is no part of it
  (folder / "a").rename(folder / "aa")
  assert digest() != first
  (folder / "aa").rename(folder / "a")
  swapped = [folder / "a" / "00.png", folder / "a" / "02.png"]
  contents = [path.read_bytes() for path in swapped]
  for path, content in zip(swapped, reversed(contents), strict=True):
    path.write_bytes(content)
  assert digest() != first


def test_pools_of_which_too_little_can_be_read(tmp_path):
  folder = _make_folder(tmp_path, ("a", "b"), 4, 1)
  for name in ("01", "03"):
    (folder / "b" / f"{name}.png").write_bytes(b"")
  message = "of the 2 classes of .* only a has images that can be read, .*; 2 images cannot be read .b/01.png: empty file; b/03"
  with pytest.raises(InputError, match=message):
    check_pool(open_pool(folder, EXTENSIONS))
  for path in (folder / "a").iterdir():
    path.write_bytes(b"x")
  with pytest.raises(InputError, match=r"none of the 4 images of .* can be read .a/00.png: not an image; "):
    check_pool(open_pool(folder, EXTENSIONS))


def test_classes_are_those_of_all_pools(pools):
  assert choose_classes(pools) == ClassList(("daisy", "lily", "rose", "tulip"), ("daisy", "lily", "rose", "tulip"))


def test_imagenets_classes_have_its_names(tmp_path):
  pool = open_pool(_make_folder(tmp_path, ("n01443537", "n12267677"), 2, 1), EXTENSIONS)
  assert choose_classes([pool]) == ClassList(("n01443537", "n12267677"), ("goldfish", "acorn"))


def test_labels_by_identifier_then_by_name(tmp_path):
  names = ("n01443537", "Great_White Shark", "crane", "12", "a b")
  pool = open_pool(_make_folder(tmp_path, names, 5, 1), EXTENSIONS)
  assert pool.classes == ("12", "Great_White Shark", "a b", "crane", "n01443537")
  imagenet = ClassList.imagenet()
  labels = map_labels(pool, imagenet, allow_unknown=True)
  assert labels.dtype == np.int32
  assert labels.tolist() == [-1, imagenet.resolve("great white shark"), -1, -1, 1]  # two classes are cranes
  with pytest.raises(InputError, match=r"3 of the 5 class folders .* \(such as n01440764\) or by name: 12, a b, crane$"):
    map_labels(pool, imagenet)
  assert map_labels(pool, ClassList.numbered(13), True).tolist() == [12, -1, -1, -1, -1]
  assert map_labels(pool, choose_classes([pool])).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tars are not here")
def test_real_tars():
  pools = [open_pool(SHARED / name, EXTENSIONS) for name in ("tiny_imagenet.tar", "imagenet_samples.tar")]
  assert check_pool(pools[1])[:2] == (pools[1], [])
  classes = choose_classes(pools)
  assert len(classes) == 973 and "acorn" in classes.names
  maps = [map_labels(pool, ClassList.imagenet()) for pool in pools]
  batches = _take(Mixture(pools, maps, 128, weights=[1, 2]).batches(12), 4)
  resumed = _take(Mixture(pools, maps, 128, weights=[1, 2]).batches(12, 2), 2)
  assert _contents(resumed) == _contents(batches[2:])
  sizes = np.concatenate([batch.sizes for batch in batches])
  assert (sizes == 64).all(1).sum() == 16 and (sizes.max(1) == 128).sum() == 32
