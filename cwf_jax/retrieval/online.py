"""Online and fixed-list search: every image is described by the query's classes, from its stored class vectors.

An image that does not hold the vectors of all these classes is described by those that it holds.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from cwf_jax.errors import InputError
from cwf_jax.index import schema
from cwf_jax.index.store import Index
from cwf_jax.ops.aggregation import aggregate_matching, match_classes
from cwf_jax.ops.quantization import dequantize
from cwf_jax.queries import pad_count

NO_CLASS = -2
"""Stands after the last class of a padded list."""

_VECTORS = 512 * 64
"""Class vectors on the device at a time: 512 images of 64 classes."""

_QUERIES = 8


class ClassVectors:
  """The stored class vectors of an index, as far as some queries need them."""

  def __init__(self, index: Index, wanted: np.ndarray):
    """Prepares to read the classes `wanted` [q m] by q queries.

    Args:
      index: with stored class vectors.
      wanted: the classes of each query, `NO_CLASS` after the last.

    Raises:
      InputError: no class vectors are stored.
    """
    if index.settings.stored.kind == "none":
      raise InputError(
        f"the index {os.fspath(index.folder)} was made with --store_classes=0: it stores no class vectors, and online and "
        "fixed search need them; index with --store_classes=64 or all, or search with --aggregation=offline"
      )
    self._index = index
    self._wanted = np.asarray(wanted, np.int32)
    self._all = index.settings.stored.kind == "all"

  def score(self, queries: np.ndarray) -> np.ndarray:
    """Cosines of every image's descriptor, by each query's classes, with the query: [q n], n in stored order."""
    scores = np.empty((len(queries), len(self._index)), np.float32)
    for together in self._read_together():
      start = 0
      for images in self._scan(together):
        count = len(images.class_ids)
        images = jax.device_put(images.pad(self._rows()))
        for first in range(0, len(together), _QUERIES):
          some = together[first : first + _QUERIES]
          scores[some, start : start + count] = self._score(queries[some], some, images)[:, :count]
        start += count
    return scores

  def describe(self, query: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of some images by the classes of one query.

    Args:
      query: its place among the queries.
      rows: [r], positions in the stored order.

    Returns:
      [r k] unit descriptors, and [r] how many classes each lacks.
    """
    wanted = self._wanted[[query]]
    table = self._index.take(rows, self._columns(wanted))
    images = self._unpack(table, wanted).pad(pad_count(len(rows)))
    descriptors, lacked = jax.device_get(_describe(wanted, images))
    return descriptors[0, : len(rows)], lacked[0, : len(rows)]

  def _read_together(self) -> list[np.ndarray]:
    """Queries that are answered by one pass over the index.

    Where all classes are stored, each in its own column, a pass reads the columns of one list of classes; else the vectors
    of an image lie in one column that serves all queries.
    """
    if not self._all:
      return [np.arange(len(self._wanted))]
    lists, owners = np.unique(np.sort(self._wanted, axis=1), axis=0, return_inverse=True)
    return [np.flatnonzero(owners.reshape(-1) == place) for place in range(len(lists))]

  def _scan(self, queries: np.ndarray) -> Iterator["_Images"]:
    wanted = self._wanted[queries]
    for batch in self._index.scan(self._columns(wanted), self._rows()):
      yield self._unpack(batch, wanted)

  def _rows(self) -> int:
    """Images that are read at a time, a multiple of 16."""
    held = self._wanted.shape[1] if self._all else self._index.settings.stored.count
    return max(16, _VECTORS // held // 16 * 16)

  def _score(self, queries: np.ndarray, places: np.ndarray, images: "_Images") -> np.ndarray:
    padding = ((0, _QUERIES - len(places)), (0, 0))
    wanted = np.pad(self._wanted[places], padding, constant_values=NO_CLASS)
    return np.asarray(_score(np.pad(queries, padding), wanted, images))[: len(places)]

  def _columns(self, wanted: np.ndarray) -> list[str]:
    if not self._all:
      return ["class_ids", "class_vectors", *(["class_scales"] if self._index.settings.has_scales else [])]
    return ["class_scales", *(schema.class_column(class_id) for class_id in _distinct(wanted))]

  def _unpack(self, table: pa.RecordBatch | pa.Table, wanted: np.ndarray) -> "_Images":
    """The rows of a table; n is the same for every table."""
    settings = self._index.settings
    if not self._all:
      class_ids = schema.to_array(table["class_ids"])
      vectors = schema.to_array(table["class_vectors"]).reshape(*class_ids.shape, settings.dimensions)
      scales = schema.to_array(table["class_scales"]) if settings.has_scales else np.ones(class_ids.shape, np.float32)
      return _Images(class_ids, vectors, scales)
    needed = _distinct(wanted)
    shape = len(table["class_scales"]), wanted.shape[1]
    vectors = np.zeros((*shape, settings.dimensions), np.int8)
    images = _Images(np.full(shape, -1, np.int32), vectors, np.zeros(shape, np.float32))
    images.class_ids[:, : len(needed)] = needed
    images.scales[:, : len(needed)] = schema.to_array(table["class_scales"])[:, needed]
    for place, class_id in enumerate(needed):
      images.class_vectors[:, place] = schema.to_array(table[schema.class_column(class_id)])
    return images


class _Images(NamedTuple):
  """Class vectors of some images as they are stored: [b n] class ids, -1 for none, [b n k] vectors, and [b n] their scales."""

  class_ids: np.ndarray
  class_vectors: np.ndarray
  scales: np.ndarray

  def pad(self, count: int) -> "_Images":
    """As if there were `count` images, the last of them without classes."""
    rows = (0, count - len(self.class_ids))
    return _Images(
      np.pad(self.class_ids, (rows, (0, 0)), constant_values=-1),
      np.pad(self.class_vectors, (rows, (0, 0), (0, 0))),
      np.pad(self.scales, (rows, (0, 0))),
    )


class Lacking(NamedTuple):
  """What an index lacks for a search by the query's classes.

  Attributes:
    images: that do not hold the vectors of all the query's classes.
    classes: the most that one of them lacks.
  """

  images: int
  classes: int


def count_lacking(index: Index, queries: Sequence[np.ndarray]) -> Lacking:
  """Counts what the images lack for queries [m] of class ids; each number is the largest of all queries.

  No class vector is read.
  """
  stored = index.settings.stored
  if stored.kind == "all":
    return Lacking(0, 0)
  if stored.kind == "none":
    return Lacking(len(index), max(map(len, queries)))
  images, classes = np.zeros(len(queries), np.int64), 0
  for batch in index.scan(["class_ids"], _VECTORS // stored.count):
    class_ids = schema.to_array(batch["class_ids"])
    for query, wanted in enumerate(queries):
      is_wanted = np.zeros(index.settings.network_classes, bool)
      is_wanted[wanted] = True
      lacked = len(wanted) - is_wanted[class_ids].sum(1)
      images[query] += np.count_nonzero(lacked)
      classes = max(classes, int(lacked.max()))
  return Lacking(int(images.max()), classes)


def _distinct(wanted: np.ndarray) -> np.ndarray:
  found = np.unique(wanted)
  return found[found != NO_CLASS]


@jax.jit
def _describe(wanted, images):
  """Descriptors [q b k] of all images by each query's classes, and [q b] how many classes each image lacks."""
  matches, lacked = match_classes(images.class_ids, wanted)
  padded = (wanted == NO_CLASS).sum(-1, keepdims=True)
  vectors = dequantize(images.class_vectors, images.scales)
  return aggregate_matching(vectors, matches), lacked - padded


@jax.jit
def _score(queries, wanted, images):
  descriptors, _ = _describe(wanted, images)
  return jnp.einsum("qk,qbk->qb", queries, descriptors, precision="highest")
