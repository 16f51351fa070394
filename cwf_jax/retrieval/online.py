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
      for class_ids, class_vectors in self._scan(together):
        count = len(class_ids)
        for first in range(0, len(together), _QUERIES):
          some = together[first : first + _QUERIES]
          scores[some, start : start + count] = self._score(queries[some], some, class_ids, class_vectors)
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
    class_ids, class_vectors = _pad_images(*self._unpack(table, wanted), pad_count(len(rows)))
    descriptors, lacked = jax.device_get(_describe(wanted, class_ids, class_vectors))
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

  def _scan(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    wanted = self._wanted[queries]
    for batch in self._index.scan(self._columns(wanted), self._rows(wanted)):
      yield self._unpack(batch, wanted)

  def _rows(self, wanted: np.ndarray) -> int:
    """Images that are read at a time, a multiple of 16."""
    held = wanted.shape[1] if self._all else self._index.settings.stored.count
    return max(16, _VECTORS // held // 16 * 16)

  def _score(self, queries: np.ndarray, places: np.ndarray, class_ids: np.ndarray, class_vectors: np.ndarray) -> np.ndarray:
    wanted = self._wanted[places]
    count = len(class_ids)
    class_ids, class_vectors = _pad_images(class_ids, class_vectors, self._rows(wanted))
    padding = ((0, _QUERIES - len(places)), (0, 0))
    scores = _score(np.pad(queries, padding), np.pad(wanted, padding, constant_values=NO_CLASS), class_ids, class_vectors)
    return np.asarray(scores)[: len(places), :count]

  def _columns(self, wanted: np.ndarray) -> list[str]:
    if not self._all:
      return ["class_ids", "class_vectors"]
    return ["class_scales", *(schema.class_column(class_id) for class_id in _distinct(wanted))]

  def _unpack(self, table: pa.RecordBatch | pa.Table, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class ids [b n] and vectors [b n k]; n is the same for every table."""
    dimensions = self._index.settings.dimensions
    if not self._all:
      class_ids = schema.to_array(table["class_ids"])
      return class_ids, schema.to_array(table["class_vectors"]).reshape(*class_ids.shape, dimensions)
    needed = _distinct(wanted)
    scales = schema.to_array(table["class_scales"])[:, needed]
    vectors = np.zeros((len(scales), wanted.shape[1], dimensions), np.float32)
    for place, class_id in enumerate(needed):
      vectors[:, place] = schema.to_array(table[schema.class_column(class_id)]) * scales[:, place, None]
    class_ids = np.full(vectors.shape[:2], -1, np.int32)
    class_ids[:, : len(needed)] = needed
    return class_ids, vectors


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


def _pad_images(class_ids: np.ndarray, class_vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  padding = ((0, count - len(class_ids)), (0, 0))
  return np.pad(class_ids, padding, constant_values=-1), np.pad(class_vectors, (*padding, (0, 0)))


@jax.jit
def _describe(wanted, class_ids, class_vectors):
  """Descriptors [q b k] of all images by each query's classes, and [q b] how many classes each image lacks."""
  matches, lacked = match_classes(class_ids, wanted)
  padded = (wanted == NO_CLASS).sum(-1, keepdims=True)
  return aggregate_matching(class_vectors.astype(jnp.float32), matches), lacked - padded


@jax.jit
def _score(queries, wanted, class_ids, class_vectors):
  descriptors, _ = _describe(wanted, class_ids, class_vectors)
  return jnp.einsum("qk,qbk->qb", queries, descriptors, precision="highest")
