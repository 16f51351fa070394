"""A collection with known answers, ranked by each system.

    benchmark = Benchmark.open("demo-output/toy_oxford")
    ranked = rank_by_classes(Searcher("oxford.index"), benchmark, "offline")
    mean_average_precision(benchmark.average_precisions(ranked.rows))
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cwf_jax.datasets.groundtruth import Query, read_groundtruth
from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError
from cwf_jax.evaluation.average_precision import average_precision
from cwf_jax.evaluation.pooling import PLAIN, Fit, Key, describe, describe_images, fit_whitenings, pool_images, pool_systems
from cwf_jax.evaluation.systems import POOLED
from cwf_jax.images.canvases import stack
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.images.queries import fit_query
from cwf_jax.ops.ranking import rank_blocks
from cwf_jax.ops.whitening import TooFewVectorsError
from cwf_jax.retrieval.searcher import Searcher

Rows = Int[np.ndarray, "q n"]
"""For each query the rows of the database, that is places in the sorted list of its images, the best first."""


class Ranked(NamedTuple):
  """A system's ranking.

  Attributes:
    rows: of each query.
    dimensions: of the descriptors that were compared.
  """

  rows: Rows
  dimensions: int


Progress = Callable[[int, int], Any] | None
"""Called with (done, to do)."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A folder of `images/` and `groundtruth/` in Oxford's format.

  Attributes:
    listing: the database.
    queries: their images are in the database, and count.
    rows: of the database, by a name of the ground truth.
  """

  listing: Listing
  queries: tuple[Query, ...]
  rows: Mapping[str, int]

  @classmethod
  def open(cls, folder: str | os.PathLike) -> "Benchmark":
    """Reads the list of images and the ground truth.

    Raises:
      InputError: either cannot be read, or the ground truth names images that are not there or that are there twice.
    """
    listing = list_images(Path(folder) / "images")
    queries = read_groundtruth(Path(folder) / "groundtruth")
    named = {name for query in queries for name in (query.image, *query.positives, *query.junk)}
    return cls(listing, queries, match_names(named, listing.ids, os.fspath(folder)))

  def average_precisions(self, ranked: Rows) -> Float[np.ndarray, "q"]:
    """Of each query, in float64; NaN where a query has no positive."""
    values = []
    for query, rows in zip(self.queries, ranked, strict=True):
      positive, junk = ([self.rows[name] for name in names] for names in (query.positives, query.junk))
      values.append(average_precision(rows, positive, junk))
    return np.asarray(values)

  def query_path(self, query: Query) -> str:
    """The file of a query's image."""
    return self.listing.path(self.listing.ids[self.rows[query.image]])


def match_names(names: set[str], ids: Sequence[str], where: str) -> dict[str, int]:
  """The row of each name of a ground truth: an id, with or without its ending.

  Raises:
    InputError: names that no image has, or that several have; all of them are counted, and the first are named.
  """
  whole = {image_id: row for row, image_id in enumerate(ids)}
  without: dict[str, list[int]] = {}
  for row, image_id in enumerate(ids):
    without.setdefault(os.path.splitext(image_id)[0], []).append(row)
  found = {name: [whole[name]] if name in whole else without.get(name, []) for name in names}
  for problem, wrong in (
    ("which are not there", sorted(name for name, rows in found.items() if not rows)),
    ("which several files have", sorted(name for name, rows in found.items() if len(rows) > 1)),
  ):
    if wrong:
      raise InputError(f"the ground truth of {where} names {len(wrong)} images {problem}: {', '.join(wrong[:5])}")
  return {name: rows[0] for name, rows in found.items()}


def rank_by_classes(searcher: Searcher, benchmark: Benchmark, aggregation: str, progress: Progress = None) -> Ranked:
  """Ranks the whole database by class-weighted descriptors: `ofa` is "offline", `ona` is "online".

  The searcher's index holds the benchmark's images.
  """
  queries = []
  for place, query in enumerate(benchmark.queries, 1):
    queries.append(searcher.encode(benchmark.query_path(query), query.box))
    if progress is not None:
      progress(place, len(benchmark.queries))
  rows = {image_id: row for row, image_id in enumerate(benchmark.listing.ids)}
  found = searcher.search(queries, aggregation, top=len(rows), shares=0)
  ranked = np.asarray([[rows[result.id] for result in results] for results in found])
  return Ranked(ranked, searcher.index.settings.dimensions)


def rank_by_pooling(
  encoder: Encoder, benchmark: Benchmark, whitened_by: Listing, batch_size: int | None = None, progress: Progress = None
) -> dict[str, Ranked]:
  """Ranks by each system of `POOLED`: as it is, and under `NAME+pca` whitened by another collection's images.

  One forward pass of an image feeds all of them. A whitening keeps at most one dimension for every three images that it is
  fitted on: the least eigenvalues of fewer are noise, which whitening would blow up.

  Args:
    encoder: whose features are pooled.
    benchmark: what is ranked; a query's features are those of its image, cut to the box (METHOD section 3).
    whitened_by: the images that the whitening is fitted on.
    batch_size: images on the device at a time; None means what indexing takes.
    progress: called with (images done, images).

  Raises:
    InputError: an image cannot be read, or those to whiten by are too few or all alike.
  """
  total = len(benchmark.listing.ids) + len(whitened_by.ids) + len(benchmark.queries)
  done = 0

  def count(more: int) -> None:
    nonlocal done
    done += more
    if progress is not None:
      progress(done, total)

  fits = fit_whitenings(pool_images(encoder, whitened_by, whitened_by.ids, 0, batch_size, count))
  without = [name for name in POOLED if fits[name].whitening is None]
  if without:
    found = f"the {len(whitened_by.ids)} images of {whitened_by.root}"
    raise TooFewVectorsError(f"{found} are too few or too much alike to whiten {', '.join(without)} by")
  database = describe_images(encoder, benchmark.listing, benchmark.listing.ids, fits, (), batch_size, count)
  queries = _describe_queries(encoder, benchmark, fits, count)
  ranked = {}
  for (name, variant), rows in database.items():
    order = np.asarray(rank_blocks(jnp.asarray(queries[name, variant]), rows, len(rows)).rows)
    ranked[name if variant == PLAIN else f"{name}+pca"] = Ranked(order, rows.shape[1])
  return ranked


def _describe_queries(
  encoder: Encoder, benchmark: Benchmark, fits: Mapping[str, Fit], count: Callable[[int], None]
) -> dict[Key, Float[np.ndarray, "q d"]]:
  found = []
  for query in benchmark.queries:
    fitted = fit_query(benchmark.query_path(query), query.box, encoder.settings.protocol)
    images, sizes = stack([fitted.whole], fitted.whole.canvas, 1)
    pooled = pool_systems(encoder, images, sizes, 0, np.asarray([fitted.cells], np.int32))
    found.append(describe(pooled, fits, None, ()))
    count(1)
  return {key: np.concatenate([one[key] for one in found]) for key in found[0]}
