"""Online and fixed-list search: every image is described by the query's classes, from its stored class vectors."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from cwf_jax.errors import InputError
from cwf_jax.index import schema
from cwf_jax.index.store import Index
from cwf_jax.ops.aggregation import aggregate_matching, match_classes

_ROWS = 512
_QUERIES = 8
_COLUMNS = 64


class ClassVectors:
  """The stored class vectors of an index, as far as some queries need them."""

  def __init__(self, index: Index, wanted: np.ndarray, partial: bool):
    """Prepares to read the classes `wanted` [q m] by q queries.

    Args:
      index: with stored class vectors.
      wanted: the classes of each query.
      partial: an image that lacks some of the classes is described by those that it holds.

    Raises:
      InputError: no class vectors are stored.
    """
    if index.settings.stored.kind == "none":
      raise InputError(
        f"the index {os.fspath(index.folder)} stores no class vectors, and online and fixed search need them; "
        "index with --store_classes=all, or search with --aggregation=offline"
      )
    self._index = index
    self._wanted = np.asarray(wanted, np.int32)
    self._partial = partial
    self._all = index.settings.stored.kind == "all"
    self._needed = np.unique(self._wanted)

  def score(self, queries: np.ndarray) -> np.ndarray:
    """Cosines of every image's descriptor, by each query's classes, with the query: [q n], n in stored order.

    Raises:
      InputError: an image lacks a class that is wanted, and `partial` is off.
    """
    scores = np.empty((len(queries), len(self._index)), np.float32)
    start = 0
    for batch in self._index.scan(self._columns, _ROWS):
      class_ids, class_vectors = self._unpack(batch)
      count = len(class_ids)
      padding = ((0, _ROWS - count), (0, 0))
      class_ids = np.pad(class_ids, padding, constant_values=-1)
      class_vectors = np.pad(class_vectors, (*padding, (0, 0)))
      for first in range(0, len(queries), _QUERIES):
        some = slice(first, first + _QUERIES)
        found, lacked = jax.device_get(
          _score(_pad_rows(queries[some]), _pad_rows(self._wanted[some], -2), class_ids, class_vectors)
        )
        here = len(queries[some])
        scores[some, start : start + count] = found[:here, :count]
        self._check(lacked[:here, :count])
      start += count
    return scores

  def describe(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of some images by the classes of the query that each belongs to.

    Args:
      rows: [q r], positions in the stored order.

    Returns:
      [q r k] unit descriptors, and [q r] how many classes each lacks.
    """
    distinct, places = np.unique(rows, return_inverse=True)
    class_ids, class_vectors = self._unpack(self._index.take(distinct, self._columns))
    descriptors, lacked = [], []
    for wanted, chosen in zip(self._wanted, places.reshape(rows.shape), strict=True):
      matches, missing = match_classes(class_ids[chosen], wanted[None])
      descriptors.append(np.asarray(aggregate_matching(class_vectors[chosen].astype(np.float32), matches))[0])
      lacked.append(np.asarray(missing)[0])
    return np.stack(descriptors), np.stack(lacked)

  @property
  def _columns(self) -> list[str]:
    if not self._all:
      return ["class_ids", "class_vectors"]
    return ["class_scales", *(schema.class_column(class_id) for class_id in self._needed)]

  def _unpack(self, table: pa.RecordBatch | pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Class ids [b n] and vectors [b n k]; n is the same for every table."""
    dimensions = self._index.settings.dimensions
    if not self._all:
      class_ids = schema.to_array(table["class_ids"])
      return class_ids, schema.to_array(table["class_vectors"]).reshape(*class_ids.shape, dimensions)
    scales = schema.to_array(table["class_scales"])[:, self._needed]
    whole = np.stack([schema.to_array(table[schema.class_column(class_id)]) for class_id in self._needed], axis=1)
    vectors = whole.astype(np.float32) * scales[..., None]
    padding = ((0, 0), (0, -len(self._needed) % _COLUMNS))
    class_ids = np.broadcast_to(self._needed.astype(np.int32), scales.shape)
    return np.pad(class_ids, padding, constant_values=-1), np.pad(vectors, (*padding, (0, 0)))

  def _check(self, lacked: np.ndarray) -> None:
    if lacked.any() and not self._partial:
      raise InputError(
        f"the index {os.fspath(self._index.folder)} stores the vectors of these classes: {self._index.settings.stored}; "
        f"an image lacks {int(lacked.max())} of the query's {self._wanted.shape[1]}. Index with --store_classes=all, or "
        "give --partial to describe each image by those that it holds"
      )


def _pad_rows(values: np.ndarray, fill: int = 0) -> np.ndarray:
  padding = ((0, _QUERIES - len(values)), (0, 0))
  return np.pad(values, padding, constant_values=fill)


@jax.jit
def _score(queries, wanted, class_ids, class_vectors):
  matches, lacked = match_classes(class_ids, wanted)
  descriptors = aggregate_matching(class_vectors.astype(jnp.float32), matches)
  return jnp.einsum("qk,qbk->qb", queries, descriptors, precision="highest"), lacked

