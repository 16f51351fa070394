"""Vectors in the place of forward passes, and what experiments over them are made of."""

import zlib

import numpy as np

from cwf_jax.evaluation.rows import to_json
from cwf_jax.extraction.passes import IDS
from cwf_jax.images.loading import SkippedImage
from cwf_jax.systems.settings import Settings

SMALL = {"num_classes": 3, "n_pca": 2, "fixed_classes": 3}
PAPER = Settings.preset("paper", SMALL)

BOX = (0.0, 0.0, 20.0, 20.0)
IMAGES = "abcdefghijklmnop"
QUERIES = (("a", BOX), ("c", None), ("e", BOX))
FOUND = ("abd", "cfg", "ehk")
"""The positives of each query."""


def changed(**changes):
  """The paper's settings, of few classes, with some changed."""
  return Settings.preset("paper", {**SMALL, **changes})


def key_of(row):
  """The row's name without the weights'."""
  return row.name.replace("@tiny", "")


def by_name(rows):
  """The values of rows, which NaN leaves comparable."""
  return {key_of(row): to_json(row.values) for row in rows}


def row_of(opened, key):
  """One row of an experiment."""
  (row,) = [row for row in opened.make_rows([key.partition("+")[0]]) if key_of(row) == key]
  return row


def values_of(opened, key):
  """Its average precisions."""
  return row_of(opened, key).values["mAP"]


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
