"""Fits a whitening on an index's own class vectors and rewrites the index with it (`--whitening=self`).

The rows are read in the order of their ids and in blocks of one size, so that the fit is the same to the last bit
whatever commits, interruptions and repetitions the index has gone through.
"""

import dataclasses

import numpy as np

from cwf_jax.index import schema
from cwf_jax.index.store import Index
from cwf_jax.indexing.packing import repack
from cwf_jax.ops.whitening import Moments, count_distinct

ROWS = 64
"""Rows that are held at a time."""

COMPARED = 8192
"""Photographs that are compared with each other to find out how many are copies, the first in the order of the ids."""


def whiten_by_itself(index: Index, n_pca: int) -> str:
  """Fits on the raw vectors of each image's `n_pca` most probable classes, or on all those that the index's system makes of it,
  and rewrites all rows in one commit.

  It has the requested dimensions, or all; fewer where there are too few vectors, or many of copies of few photographs.

  Returns:
    What was done, for the summary.
  """
  settings = index.settings
  moments, sums = Moments.zero(settings.feature_channels), []
  for table in index.scan_by_id([settings.raw_column], ROWS):
    vectors = schema.to_array(table[settings.raw_column]).reshape(len(table), settings.num_raw, -1)
    moments.add(vectors[:, : settings.num_vectors or n_pca].reshape(-1, settings.feature_channels))
    if len(sums) < COMPARED:
      sums += [*vectors.sum(1)]
  wanted = settings.whitening.dimensions or settings.feature_channels
  photographs = np.asarray(sums).reshape(-1, settings.feature_channels)
  distinct = count_distinct(photographs) * len(index) / max(1, len(photographs))
  fitted = moments.fit_supported(wanted, distinct=distinct)
  dimensions = fitted.projection.shape[1]
  origin = dataclasses.replace(settings.whitening, source="self", n_pca=n_pca, pending=False)
  changed = dataclasses.replace(settings, dimensions=dimensions, whitening=origin)
  arrays = {"mean": np.asarray(fitted.mean), "projection": np.asarray(fitted.projection)}
  kept = [name for name in schema.arrow_schema(settings).names if not schema.is_derived(name)]
  index.rewrite(changed, arrays, (repack(changed, fitted, table) for table in index.scan_by_id(kept, ROWS)))
  fewer = ""
  if dimensions < wanted:
    by_copies = f"about {distinct:.0f} photographs are distinct"
    fewer = f" instead of {wanted}: " + (by_copies if dimensions == round(distinct) - 1 else "one for every 3 of the vectors")
  kind = f"vectors of {settings.system}" if settings.num_vectors else "class vectors"
  return f"fitted on {moments.count} {kind} of this index, {dimensions} dimensions{fewer}"
