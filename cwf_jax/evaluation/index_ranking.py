"""A benchmark ranked by an index, as a search does it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from cwf_jax.evaluation.benchmark import Benchmark
from cwf_jax.retrieval.searcher import Searcher


def score_index(
  searcher: Searcher, benchmark: Benchmark, aggregation: str, progress: Callable[[int, int], Any] | None = None
) -> dict[str, Float[np.ndarray, "q"]]:
  """The value of each query by each metric; equal scores come in the order of the ids, as in a search.

  Args:
    searcher: whose index holds the benchmark's images, and no others.
    benchmark: its queries are searched for.
    aggregation: of `Searcher.search`: `ofa` is "offline", `ona` is "online".
    progress: called with (queries encoded, queries).
  """
  queries = []
  for place, query in enumerate(benchmark.queries, 1):
    queries.append(searcher.encode(benchmark.listing.path(query.image), query.box))
    if progress is not None:
      progress(place, len(benchmark.queries))
  rows = {image_id: row for row, image_id in enumerate(benchmark.database)}
  places = np.empty((len(queries), len(rows)), np.int64)
  for number, results in enumerate(searcher.search(queries, aggregation, top=len(rows), shares=0)):
    places[number, [rows[result.id] for result in results]] = np.arange(len(rows))
  listed = benchmark.listed
  return benchmark.score(np.where(listed < 0, -1, np.take_along_axis(places, np.maximum(listed, 0), axis=1)))
