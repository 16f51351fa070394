"""What a search ranks: the images by their own classes, or by the queries'. Rows are those of the snapshot, in the order of
the ids, so that equal scores are ranked alike whatever the index went through.
"""

import jax
import numpy as np

from cwf_jax.index.store import Index
from cwf_jax.ops.ranking import Ranking, rank_blocks, rank_scores
from cwf_jax.retrieval.online import ClassVectors


class Offline:
  """Images by their own classes: the stored descriptors."""

  def __init__(self, index: Index):
    self._descriptors = index.snapshot.descriptors

  def rank(self, queries: jax.Array, k: int) -> Ranking:
    """The first k answers of each query [q k], all of them where there are fewer."""
    return rank_blocks(queries, self._descriptors, k)

  def describe(self, query: int, rows: np.ndarray) -> tuple[np.ndarray, None]:
    """The descriptors [r k] of some rows, whichever the query is."""
    return self._descriptors[rows], None


class Online:
  """Images by the classes of each query, from the stored class vectors."""

  def __init__(self, index: Index, wanted: np.ndarray):
    """See `ClassVectors`."""
    self._vectors = ClassVectors(index, wanted)
    self._count = len(wanted)
    self._order = index.snapshot.rows

  def rank(self, queries: jax.Array, k: int) -> Ranking:
    """As `Offline.rank`; queries after the last that has classes are padding."""
    scores = np.zeros((len(queries), len(self._order)), np.float32)
    scores[: self._count] = self._vectors.score(np.asarray(queries)[: self._count])[:, self._order]
    return _rank_scores(scores, min(k, scores.shape[1]))

  def describe(self, query: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The descriptors [r k] of some rows for a query, and how many of its classes each lacks [r]."""
    return self._vectors.describe(query, self._order[rows])


_rank_scores = jax.jit(rank_scores, static_argnames="k")
