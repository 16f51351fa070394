"""A small benchmark: pictures of two shapes, and boxes to search for whose cells are known."""

import shutil

import pytest
from PIL import Image

from cwf_jax.datasets.groundtruth import Query, write_groundtruth
from cwf_jax.evaluation.experiment import Benchmark

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
    folder / "groundtruth", [Query(name, image, box, (image,), (), ()) for name, (image, box) in BOXES.items()]
  )
  return Benchmark.open(folder)


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
