"""A small benchmark of pictures, one of files that are never read, and passes that are made up in their place."""

import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from cwf_jax.datasets.groundtruth import Query as BoxedQuery
from cwf_jax.datasets.groundtruth import write_groundtruth
from cwf_jax.evaluation import seeing
from cwf_jax.evaluation.average_precision import average_precisions
from cwf_jax.evaluation.benchmark import Benchmark, Metric, Query, open_oxford
from cwf_jax.evaluation.passes import IDS
from cwf_jax.images.listing import list_images
from cwf_jax.images.loading import SkippedImage

SIZES = ((64, 64), (90, 68))
"""(width, height) of even and of odd pictures; at 64 pixels the map has 4x4 and, of 85x64 pixels, 5x4 cells."""

BOXES = {
  "all_1": ("picture_00", (0.0, 0.0, 64.0, 64.0)),
  "left_1": ("picture_02", (16.0, 0.0, 64.0, 48.0)),
  "right_1": ("picture_05", (17.0, 17.0, 67.0, 68.0)),
}

CELLS = {"all_1": (0, 0, 4, 4), "left_1": (1, 0, 4, 3), "right_1": (1, 1, 4, 4)}
"""The box of each query in cells, by hand: a cell is 16x16 pixels of a picture of 64x64 and 16.94x17 of one of 90x68."""


@pytest.fixture(scope="session")
def benchmark(photographs, tmp_path_factory):
  """Twelve pictures, and three queries without an answer but the query's own picture."""
  folder = tmp_path_factory.mktemp("benchmark")
  (folder / "images").mkdir()
  for number, path in enumerate(sorted(photographs.rglob("*.png"))):
    with Image.open(path) as image:
      image.resize(SIZES[number % 2]).save(folder / "images" / path.name)
  write_groundtruth(
    folder / "groundtruth", [BoxedQuery(name, image, box, (image,), (), ()) for name, (image, box) in BOXES.items()]
  )
  return open_oxford(folder)


@pytest.fixture
def empty_benchmark(tmp_path):
  """Makes a folder in Oxford's form: files that are listed but cannot be read, and one query."""

  def make(files, query="hall", good=(), ok=(), junk=()):
    shutil.rmtree(tmp_path / "made", ignore_errors=True)
    images, groundtruth = tmp_path / "made" / "images", tmp_path / "made" / "groundtruth"
    groundtruth.mkdir(parents=True)
    for name in files:
      (images / name).parent.mkdir(parents=True, exist_ok=True)
      (images / name).touch()
    (groundtruth / "q_1_query.txt").write_text(f"{query} 0 0 20 20\n")
    for label, names in (("good", good), ("ok", ok), ("junk", junk)):
      (groundtruth / f"q_1_{label}.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path / "made"

  return make


@pytest.fixture
def make_files(tmp_path):
  """Makes empty images of some names in a folder, and lists them."""

  def make(names, folder="images"):
    for name in names:
      (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
      if not (tmp_path / folder / name).exists():  # a file that is touched is another one
        (tmp_path / folder / name).touch()
    return list_images(tmp_path / folder)

  return make


@pytest.fixture
def make_benchmark(make_files):
  """Makes a benchmark of empty images `a`, `b` ..., for passes that are made up."""

  def make(images, queries, positive, junk=(), database=None, name="made"):
    listing = make_files([f"{image}.jpg" for image in images], name)
    made = tuple(Query(f"q{number}", f"{image}.jpg", box) for number, (image, box) in enumerate(queries))
    database = listing.ids if database is None else tuple(f"{image}.jpg" for image in database)
    place = {image[:-4]: row for row, image in enumerate(database)}
    rows = [np.full((len(queries), 12), -1) for _ in range(2)]
    for kind, lists in zip(rows, (positive, junk), strict=True):
      for query, found in enumerate(lists):
        kind[query, : len(found)] = [place[image] for image in found]
    return Benchmark(name, listing, database, made, (Metric("mAP", *rows, average_precisions),))

  return make


class MadeUp:
  """Stands for forward passes: vectors that are given, or drawn by the names of image and system.

  Attributes:
    given: by image (without ending; of a query with a box, with "?" after it) and system: "classes" [c k], or a system's
      vector [k] or vectors [r k].
    orders: by image, its classes, the most probable first.
    passes: (image, names of columns) of each image that was passed.
    sets: the sets of images that were passed.
    unreadable: images that cannot be read.
    fails_after: images after which the passes stop with an error.
  """

  def __init__(self, channels=6, classes=10):
    self.channels, self.classes = channels, classes
    self.given, self.orders, self.passes, self.sets, self.unreadable, self.fails_after = {}, {}, [], [], set(), None

  def vectors(self, image, system):
    """Of the system's, or [c k] of all classes."""
    if (image, system) in self.given:
      return np.atleast_2d(np.asarray(self.given[image, system], np.float32))
    generator = np.random.default_rng(zlib.crc32(f"{image} {system}".encode()))
    rows = self.classes if system == "classes" else 3 if system == "rmac" else 1
    drawn = generator.normal(size=(rows, self.channels))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

  def order(self, image):
    """Its classes."""
    generator = np.random.default_rng(zlib.crc32(f"{image} order".encode()))
    return np.asarray(self.orders.get(image, generator.permutation(self.classes)))

  def see(self, image, columns):
    """The columns of one image."""
    if self.fails_after is not None and len(self.passes) >= self.fails_after:
      raise RuntimeError("stopped")
    self.passes.append((image, tuple(column.name for column in columns)))
    found = {}
    for column in columns:
      if column.system is not None:
        found[column.name] = self.vectors(image, column.system)[None]
        continue
      ids = np.asarray(column.listed) if column.listed else self.order(image)[: column.count]
      found[column.name] = self.vectors(image, "classes")[ids][None]
      if column.count:
        found[column.name + IDS] = ids[None]
    return found

  def see_images(self, encoder, images, ids, columns, settings, batch_size=None, progress=None, unreadable=None):
    """As `passes.see_images`."""
    self.sets.append(images)
    for image_id in ids:
      if image_id in self.unreadable:
        unreadable.append(SkippedImage(image_id, "not an image"))
        continue
      yield (image_id,), self.see(image_id.rpartition(".")[0], columns)
      if progress is not None:
        progress(1)


@pytest.fixture
def made_up(monkeypatch):
  """Passes are made up while a test runs."""
  found = MadeUp()
  monkeypatch.setattr(seeing, "see_images", found.see_images)
  monkeypatch.setattr(
    seeing.SeenQueries,
    "_see",
    lambda self, encoder, name, columns: found.see(self._queries[name].image.rpartition(".")[0] + "?", columns),
  )
  return found
