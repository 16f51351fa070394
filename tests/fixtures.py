"""A small benchmark of pictures, one of files that are never read, and passes that are made up in their place."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cwf_jax.datasets.benchmark import Benchmark, Metric, Query
from cwf_jax.datasets.groundtruth import Query as BoxedQuery
from cwf_jax.datasets.groundtruth import write_groundtruth
from cwf_jax.datasets.openers import open_oxford
from cwf_jax.evaluation.experiment import Experiment
from cwf_jax.extraction import distractors, seeing
from cwf_jax.images.image_set import ImageSet
from cwf_jax.images.listing import list_images
from cwf_jax.metrics.average_precision import average_precisions
from tests.evaluation.made_up import FOUND, IMAGES, PAPER, QUERIES, MadeUp

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


@pytest.fixture
def made_up(monkeypatch):
  """Passes are made up while a test runs."""
  found = MadeUp()
  for module in (seeing, distractors):
    monkeypatch.setattr(module, "see_images", found.see_images)
  monkeypatch.setattr(
    seeing.SeenQueries,
    "_see",
    lambda self, encoder, name, columns: found.see(self._queries[name].image.rpartition(".")[0] + "?", columns),
  )
  return found


@pytest.fixture
def asked(make_benchmark):
  """Sixteen images, two queries with a box and one without, each with its own image among three positives."""
  return make_benchmark(IMAGES, QUERIES, FOUND, ("c", "", "ij"))


@pytest.fixture
def others(make_files):
  """Thirty images to whiten by."""
  listing = make_files([f"{number:02d}.jpg" for number in range(30)], "others")
  return ImageSet("others", listing, listing.ids)


@pytest.fixture
def open_(asked, others, tiny_encoder, tmp_path):
  """Opens the same experiment again, or with changes."""

  def make(settings=PAPER, benchmark=asked, encoder=tiny_encoder, folder="results", **changes):
    return Experiment(benchmark, encoder, settings, tmp_path / folder, **{"whitened_by": others, **changes})

  return make
