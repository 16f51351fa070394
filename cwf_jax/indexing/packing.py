"""Encoded images as rows of the index."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from cwf_jax.extraction.passes import describe_vectors
from cwf_jax.images.loading import LoadedImage
from cwf_jax.index import schema
from cwf_jax.index.schema import IndexSettings
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.quantization import quantize
from cwf_jax.ops.whitening import Whitening, apply_whitening


def describe_files(files: Sequence[LoadedImage], root: str, prefix: str, made_with: str) -> dict[str, list]:
  """The columns that say which file a row is, and what encoded it."""
  return {
    "id": [prefix + file.id for file in files],
    "path": [file.path for file in files],
    "root": [root] * len(files),
    "prefix": [prefix] * len(files),
    "bytes": [file.bytes for file in files],
    "mtime_ns": [file.mtime_ns for file in files],
    "sha256": [file.sha256 for file in files],
    "height": [file.original[0] for file in files],
    "width": [file.original[1] for file in files],
    "made_with": [made_with] * len(files),
  }


def top_columns(settings: IndexSettings, class_ids: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
  """The most probable classes and their probabilities, as many as the schema holds."""
  size = schema.arrow_schema(settings).field("top_class_ids").type.list_size
  top = class_ids[:, :size]
  return {"top_class_ids": top, "top_probabilities": np.take_along_axis(probabilities, top, axis=1)}


def vector_columns(
  settings: IndexSettings, whitening: Whitening | None, class_ids: np.ndarray, vectors: jax.Array
) -> dict[str, np.ndarray]:
  """The descriptor and the stored vectors.

  Args:
    settings: of the index.
    whitening: of the index, or None.
    class_ids: [b n], the most probable classes of each image, then those of a stored list.
    vectors: [b n k], raw: of these classes, or those that the index's system makes.
  """
  if settings.num_vectors:
    columns = {"descriptor": np.asarray(describe_vectors(settings.system, whitening, vectors))}
    return columns | ({settings.raw_column: np.asarray(vectors, np.float32)} if settings.keep_raw else {})
  return _class_columns(settings, whitening, class_ids, vectors)


def _class_columns(
  settings: IndexSettings, whitening: Whitening | None, class_ids: np.ndarray, class_vectors: jax.Array
) -> dict[str, np.ndarray]:
  stored = settings.stored
  if stored.kind == "all":
    chosen = np.argsort(class_ids, axis=1)
  else:
    start = settings.num_encoded if stored.kind == "list" else 0
    chosen = np.broadcast_to(np.arange(start, start + stored.count), (len(class_ids), stored.count))
  num_summed = min(settings.num_classes, settings.num_encoded)
  descriptors, vectors, scales = jax.device_get(
    _describe(whitening, class_vectors, chosen, num_summed, settings.vector_type)
  )
  columns = {"descriptor": descriptors}
  if stored.kind == "all":
    columns |= {schema.class_column(class_id): vectors[:, class_id] for class_id in range(stored.count)}
  elif stored.kind != "none":
    columns |= {"class_ids": np.take_along_axis(class_ids, chosen, axis=1), "class_vectors": vectors}
  if settings.has_scales:
    columns["class_scales"] = scales
  if settings.keep_raw:
    columns |= {"raw_class_ids": class_ids, "raw_class_vectors": np.asarray(class_vectors)}
  return columns


def repack(settings: IndexSettings, whitening: Whitening, table: pa.Table | pa.RecordBatch) -> pa.Table:
  """Rows that keep their raw vectors, written anew with another whitening."""
  kept = [name for name in schema.arrow_schema(settings).names if not schema.is_derived(name)]
  columns = {name: schema.to_array(table[name]) for name in kept}
  class_ids = None if settings.num_vectors else columns["raw_class_ids"]
  vectors = columns[settings.raw_column].reshape(len(table), settings.num_raw, settings.feature_channels)
  return schema.to_table(settings, columns | vector_columns(settings, whitening, class_ids, vectors))


@functools.partial(jax.jit, static_argnames=("num_summed", "vector_type"))
def _describe(whitening, class_vectors, chosen, num_summed, vector_type):
  """Descriptors [b d], and the `chosen` [b m] of the whitened vectors as they are stored, with their scales or None."""
  whitened = class_vectors if whitening is None else apply_whitening(whitening, jnp.asarray(class_vectors))
  vectors = jnp.take_along_axis(whitened, chosen[:, :, None], axis=1)
  stored = quantize(vectors) if vector_type == "int8" else (vectors.astype(vector_type), None)
  return aggregate(whitened[:, :num_summed]), *stored
