"""Encoded images as rows of the index."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from cwf_jax.images.loading import LoadedImage
from cwf_jax.index import schema
from cwf_jax.index.schema import IndexSettings
from cwf_jax.ops.aggregation import aggregate
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
  settings: IndexSettings, whitening: Whitening | None, class_ids: np.ndarray, class_vectors: jax.Array
) -> dict[str, np.ndarray]:
  """The descriptor and the stored class vectors.

  Args:
    settings: of the index.
    whitening: of the index, or None.
    class_ids: [b n], the most probable classes of each image, then those of a stored list.
    class_vectors: [b n k], raw.
  """
  descriptors, whitened = jax.device_get(_describe(whitening, class_vectors, settings.num_classes, settings.num_encoded))
  columns = {"descriptor": descriptors}
  stored = settings.stored
  if stored.kind == "own":
    columns |= {"class_ids": class_ids[:, : stored.count], "class_vectors": whitened[:, : stored.count].astype(np.float16)}
  elif stored.kind == "list":
    start = settings.num_encoded
    columns |= {"class_ids": class_ids[:, start:], "class_vectors": whitened[:, start:].astype(np.float16)}
  elif stored.kind == "all":
    by_class = np.take_along_axis(whitened, np.argsort(class_ids, axis=1)[:, :, None], axis=1)
    scales = np.abs(by_class).max(-1) / 127
    whole = np.rint(by_class / np.where(scales > 0, scales, 1)[..., None]).astype(np.int8)
    columns["class_scales"] = scales
    columns |= {schema.class_column(class_id): whole[:, class_id] for class_id in range(whole.shape[1])}
  if settings.keep_raw:
    columns |= {"raw_class_ids": class_ids, "raw_class_vectors": np.asarray(class_vectors)}
  return columns


def repack(settings: IndexSettings, whitening: Whitening, table: pa.Table | pa.RecordBatch) -> pa.Table:
  """Rows that keep their raw vectors, written anew with another whitening."""
  kept = [name for name in schema.arrow_schema(settings).names if not schema.is_derived(name)]
  columns = {name: schema.to_array(table[name]) for name in kept}
  class_ids = columns["raw_class_ids"]
  vectors = columns["raw_class_vectors"].reshape(*class_ids.shape, settings.feature_channels)
  return schema.to_table(settings, columns | vector_columns(settings, whitening, class_ids, vectors))


@functools.partial(jax.jit, static_argnames=("num_classes", "num_encoded"))
def _describe(whitening, class_vectors, num_classes, num_encoded):
  whitened = class_vectors if whitening is None else apply_whitening(whitening, jnp.asarray(class_vectors))
  return aggregate(whitened[:, : min(num_classes, num_encoded)]), whitened
