"""Exact cosine ranking, with equal scores in the order of the rows: whole, in blocks, over shards on many devices; expansion.

    ranking = rank(queries, database, k=10)
    ranking.rows[0]    # the database rows of the first query's answers, the best first
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from cwf_jax.ops.axes import check_axes
from cwf_jax.ops.normalize import l2_normalize

BLOCK = 16_384
"""Rows of the database that are scored at a time; a multiple of every vector width, so that equal rows score equally."""


class Ranking(NamedTuple):
  """The first answers of each query.

  Attributes:
    rows: [q k] int32, rows of the database, the best first; among equal scores the first row.
    scores: [q k], inner products, descending; -inf in place of NaN.
  """

  rows: Int[Array, "q k"]
  scores: Float[Array, "q k"]


@jax.jit  # compiled as a whole, equal rows score equally; apart from its transpose, the product rounds the last rows otherwise
@jax.named_scope("score")
@check_axes(empty="q n")
def score(queries: Float[Array, "q k"], database: Float[Array, "n k"]) -> Float[Array, "q n"]:
  """Inner products; cosines where rows are of unit length.

  Args:
    queries: unit rows for cosines.
    database: unit rows for cosines, on the device.

  Example:
    >>> print(score(jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8], [1.0, 0.0]])))
    [[0.6 1. ]]
  """
  return jnp.matmul(queries, database.T, precision=lax.Precision.HIGHEST)


@jax.named_scope("rank_scores")
@check_axes(empty="q n")
def rank_scores(scores: Float[Array, "q n"], k: int) -> Ranking:
  """Orders rows by score, the first of equal ones first; a score that is NaN comes last.

  Args:
    scores: any values.
    k: answers wanted, 1 to n.

  Raises:
    ValueError: k is not in 1 to n.

  Example:
    >>> rank_scores(jnp.array([[0.2, 0.9, 0.2]]), k=3).rows.tolist()
    [[1, 0, 2]]
  """
  if not 1 <= k <= scores.shape[1]:
    raise ValueError(f"k is 1 to {scores.shape[1]}, the rows there are; found {k}")
  scores = jnp.where(scores == 0, 0.0, scores)  # top_k puts 0 before -0
  best, rows = lax.top_k(jnp.where(jnp.isnan(scores), -jnp.inf, scores), k)
  return Ranking(rows.astype(jnp.int32), best)


def rank(queries: Float[Array, "q k"], database: Float[Array, "n k"], k: int) -> Ranking:
  """Ranks the whole database for each query by inner product (METHOD 2.6).

  Args:
    queries: unit rows.
    database: unit rows, on the device.
    k: answers wanted, 1 to n.

  Raises:
    ValueError: k is not in 1 to n.

  Example:
    >>> database = jnp.array([[0.6, 0.8], [1.0, 0.0]])
    >>> ranking = rank(jnp.array([[1.0, 0.0]]), database, k=2)
    >>> print(ranking.rows, ranking.scores)
    [[1 0]] [[1.  0.6]]
  """
  return rank_scores(score(queries, database), k)


@jax.named_scope("merge")
def merge(rankings: Sequence[Ranking], k: int) -> Ranking:
  """The best k of rankings over different rows; of equal scores those of earlier rankings come first.

  Args:
    rankings: of the same queries, over blocks or shards of a database in the order of their rows.
    k: answers wanted; all there are, if they are fewer.

  Raises:
    ValueError: there is no ranking, or k is under 1.

  Example:
    >>> first = Ranking(jnp.array([[1, 0]]), jnp.array([[0.9, 0.2]]))
    >>> second = Ranking(jnp.array([[2]]), jnp.array([[0.5]]))
    >>> merge([first, second], k=2).rows.tolist()
    [[1, 2]]
  """
  if not rankings:
    raise ValueError("there is no ranking to merge")
  rows, scores = (jnp.concatenate(parts, axis=1) for parts in zip(*rankings, strict=True))
  best = rank_scores(scores, min(k, scores.shape[1]))
  return Ranking(jnp.take_along_axis(rows, best.rows, axis=1), best.scores)


def rank_blocks(
  queries: Float[Array, "q k"], database: Float[np.ndarray, "n k"], k: int, block: int = BLOCK
) -> Ranking:
  """As `rank`, over a database that may be larger than the device's memory: a memory map is enough.

  Every block has the same shape (the last is padded), so one program serves any database.

  Args:
    queries: unit rows.
    database: unit rows, on the host.
    k: answers wanted; at most n are returned.
    block: rows on the device at a time.

  Raises:
    ValueError: k is under 1.

  Example:
    >>> database = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], np.float32)
    >>> rank_blocks(jnp.array([[1.0, 0.0]]), database, k=2, block=2).rows.tolist()
    [[1, 0]]
  """
  if k < 1:
    raise ValueError(f"k is at least 1; found {k}")
  k = min(k, len(database))
  if k == 0:
    return Ranking(jnp.zeros((len(queries), 0), jnp.int32), jnp.zeros((len(queries), 0), jnp.float32))
  found = None
  for start in range(0, len(database), block):
    rows = np.ascontiguousarray(database[start : start + block], np.float32)
    padded = np.pad(rows, ((0, block - len(rows)), (0, 0)))
    best = _rank_block(queries, padded, start, len(rows), min(k, block))
    found = best if found is None else _merge((found, best), k)
  return found


@functools.partial(jax.jit, static_argnames="k")
def _rank_block(queries, padded, start, valid, k) -> Ranking:
  inside = jnp.arange(len(padded)) < valid
  best = rank_scores(jnp.where(inside, score(queries, padded), -jnp.inf), k)
  return Ranking(best.rows + start, best.scores)


_merge = jax.jit(merge, static_argnames="k")


@check_axes(empty="q")
def rank_shards(
  queries: Float[Array, "q k"],
  database: Float[Array, "n k"],
  k: int,
  mesh: Mesh,
  axis: str = "data",
  count: int | None = None,
) -> Ranking:
  """As `rank`, over a database whose rows are cut among devices: each ranks its own, and only the best are exchanged.

  Args:
    queries: unit rows, on every device.
    database: unit rows, cut along an axis of the mesh.
    k: answers wanted, 1 to the rows that count.
    mesh: of the devices.
    axis: of the mesh, along which the rows are cut.
    count: rows that count, those after them are padding; all if None.

  Raises:
    ValueError: k is out of range, or the rows cannot be cut evenly.

  Example:
    >>> mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    >>> database = jnp.array([[0.6, 0.8], [1.0, 0.0]])
    >>> rank_shards(jnp.array([[1.0, 0.0]]), database, k=2, mesh=mesh).rows.tolist()
    [[1, 0]]
  """
  rows, devices = len(database), mesh.shape[axis]
  count = rows if count is None else count
  if rows % devices:
    raise ValueError(f"{rows} rows cannot be cut evenly among {devices} devices: pad them, and give their count")
  if not 1 <= k <= count <= rows:
    raise ValueError(f"k is 1 to the {count} of {rows} rows that count; found {k}")
  return _rank_shards(queries, database, k, mesh, axis, count)


@functools.partial(jax.jit, static_argnames=("k", "mesh", "axis", "count"))
@jax.named_scope("rank_shards")
def _rank_shards(
  queries: Float[Array, "q k"], database: Float[Array, "n k"], k: int, mesh: Mesh, axis: str, count: int
) -> Ranking:
  devices = mesh.shape[axis]
  own = len(database) // devices

  def rank_own(queries: Float[Array, "q k"], rows: Float[Array, "m k"]) -> Ranking:
    first = lax.axis_index(axis) * own
    scores = jnp.where(first + jnp.arange(own) < count, score(queries, rows), -jnp.inf)
    best = rank_scores(scores, min(k, own))
    found = lax.all_gather(Ranking(best.rows + first, best.scores), axis)
    return merge([Ranking(found.rows[place], found.scores[place]) for place in range(devices)], k)

  cut = PartitionSpec(axis)
  return jax.shard_map(rank_own, mesh=mesh, in_specs=(PartitionSpec(), cut), out_specs=PartitionSpec(), check_vma=False)(
    queries, database
  )


@check_axes(empty="q m")
def expand_query(
  descriptors: Float[Array, "n k"],
  rows: Int[Array, "q m"],
  n: int,
  queries: Float[Array, "q k"] | None = None,
) -> Float[Array, "q k"]:
  """The normalized sum of the first n answers' descriptors becomes the query (METHOD 4.1).

  Args:
    descriptors: of the database, unit rows.
    rows: of a ranking, the best first.
    n: answers summed, 1 to m.
    queries: added to the sum if given (METHOD 7.9).

  Raises:
    ValueError: n is not in 1 to m.

  Example:
    >>> descriptors = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> print(expand_query(descriptors, jnp.array([[0, 1, 2]]), n=2))
    [[0.707 0.707]]
  """
  if not 1 <= n <= rows.shape[1]:
    raise ValueError(f"n is 1 to {rows.shape[1]}, the answers there are; found {n}")
  total = descriptors[rows[:, :n]].sum(1)
  return l2_normalize(total if queries is None else total + queries)


@jax.named_scope("expand_query_by_scores")
@check_axes(empty="q m")
def expand_query_by_scores(
  queries: Float[Array, "q k"],
  descriptors: Float[Array, "n k"],
  rows: Int[Array, "q m"],
  scores: Float[Array, "q m"],
  n: int = 10,
  alpha: float = 3.0,
) -> Float[Array, "q k"]:
  """Alpha query expansion: `l2(q + sum of the first n answers, each times max(score, 0)^alpha)` (METHOD 2b.17).

  Radenovic, Tolias and Chum 2019. With alpha = 0 each answer counts alike, one whose score is not above 0 not at all.

  Args:
    queries: unit rows.
    descriptors: of the database, unit rows.
    rows: of a ranking, the best first.
    scores: of it; -inf and NaN count as no answer.
    n: answers summed, 1 to m.
    alpha: >= 0.

  Raises:
    ValueError: n is not in 1 to m, or alpha is negative.

  Example:
    >>> queries, descriptors = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> rows, scores = jnp.array([[0]]), jnp.array([[0.6]])
    >>> print(expand_query_by_scores(queries, descriptors, rows, scores, 1, alpha=0.0))
    [[0.894 0.447]]
  """
  if not 1 <= n <= rows.shape[1]:
    raise ValueError(f"n is 1 to {rows.shape[1]}, the answers there are; found {n}")
  if alpha < 0:
    raise ValueError(f"alpha is at least 0; found {alpha}")
  return _add_answers(queries, descriptors[rows[:, :n]], _weigh(scores[:, :n], alpha))


def augment_database(
  database: Float[np.ndarray, "n k"], neighbors: int = 10, alpha: float = 3.0, block: int = BLOCK
) -> Float[np.ndarray, "n k"]:
  """Database-side augmentation: each row expanded by its own nearest rows, itself left out (METHOD 2b.18).

  As `expand_query_by_scores` of every row. A row that is all zero stays zero.

  Args:
    database: unit rows, on the host.
    neighbors: of each row that are summed, 1 to n - 1; all there are, if they are fewer.
    alpha: >= 0.
    block: rows on the device at a time, as queries a sixteenth of it.

  Raises:
    ValueError: neighbors is under 1, or alpha is negative.

  Example:
    >>> database = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    >>> print(augment_database(database, neighbors=1, alpha=0.0, block=16))
    [[0.894 0.447]
     [0.894 0.447]]
  """
  if neighbors < 1:
    raise ValueError(f"neighbors are at least 1; found {neighbors}")
  if alpha < 0:
    raise ValueError(f"alpha is at least 0; found {alpha}")
  database = np.ascontiguousarray(database, np.float32)
  augmented, step = database.copy(), max(block // 16, 1)
  if len(database) < 2:
    return augmented
  for start in range(0, len(database), step):
    own = np.arange(start, start + step)
    queries = jnp.asarray(database[own % len(database)])  # the last block is filled up, so that it is no new program
    found = rank_blocks(queries, database, neighbors + 1, block)
    rows = np.asarray(found.rows)
    expanded = _augment(queries, database[rows], found.scores, rows != own[:, None], neighbors, alpha)
    augmented[start : start + step] = expanded[: len(database) - start]
  return augmented


@functools.partial(jax.jit, static_argnames=("neighbors", "alpha"))
def _augment(queries, answers, scores, others, neighbors, alpha):
  counted = others & (jnp.cumsum(others, axis=1) <= neighbors)  # a row is not the first of its answers where others equal it
  weights = jnp.where(counted, _weigh(scores, alpha), 0.0)
  return _add_answers(queries, answers, weights)


def _weigh(scores: Float[Array, "q m"], alpha: float) -> Float[Array, "q m"]:
  return jnp.where(scores > 0, jnp.where(scores > 0, scores, 1.0) ** alpha, 0.0)


def _add_answers(
  queries: Float[Array, "q k"], answers: Float[Array, "q m k"], weights: Float[Array, "q m"]
) -> Float[Array, "q k"]:
  """The normalized weighted sum; an answer of no weight may hold anything, and zero times NaN would be NaN."""
  answers = jnp.where(weights[..., None] > 0, answers, 0.0)
  return l2_normalize(queries + jnp.einsum("qm,qmk->qk", weights, answers, precision=lax.Precision.HIGHEST))
