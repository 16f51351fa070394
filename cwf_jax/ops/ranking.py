"""Exact cosine ranking, whole or in blocks, with equal scores in the order of the rows; query expansion; shares.

    ranking = rank(queries, database, k=10)
    ranking.rows[0]    # the database rows of the first query's answers, the best first
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

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
def score(queries: Float[Array, "q k"], database: Float[Array, "n k"]) -> Float[Array, "q n"]:
  """Inner products; cosines where rows are of unit length."""
  return jnp.matmul(queries, database.T, precision=lax.Precision.HIGHEST)


@jax.named_scope("rank_scores")
def rank_scores(scores: Float[Array, "q n"], k: int) -> Ranking:
  """Orders rows by score, the first of equal ones first; a score that is NaN comes last.

  Raises:
    ValueError: k is not in 1 to n.
  """
  if not 1 <= k <= scores.shape[1]:
    raise ValueError(f"k is 1 to {scores.shape[1]}, the rows there are; found {k}")
  scores = jnp.where(scores == 0, 0.0, scores)  # top_k puts 0 before -0
  best, rows = lax.top_k(jnp.where(jnp.isnan(scores), -jnp.inf, scores), k)
  return Ranking(rows.astype(jnp.int32), best)


def rank(queries: Float[Array, "q k"], database: Float[Array, "n k"], k: int) -> Ranking:
  """Ranks the whole database for each query by inner product (METHOD section 2, step 6).

  Args:
    queries: unit rows.
    database: unit rows, on the device.
    k: answers wanted, 1 to n.
  """
  return rank_scores(score(queries, database), k)


def merge(first: Ranking, second: Ranking, k: int) -> Ranking:
  """The best k of two rankings over different rows; of equal scores the first ranking's come first."""
  scores = jnp.concatenate([first.scores, second.scores], axis=1)
  rows = jnp.concatenate([first.rows, second.rows], axis=1)
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
    found = best if found is None else _merge(found, best, k)
  return found


@functools.partial(jax.jit, static_argnames="k")
def _rank_block(queries, padded, start, valid, k) -> Ranking:
  inside = jnp.arange(len(padded)) < valid
  best = rank_scores(jnp.where(inside, score(queries, padded), -jnp.inf), k)
  return Ranking(best.rows + start, best.scores)


_merge = jax.jit(merge, static_argnames="k")


def expand_query(
  descriptors: Float[Array, "n k"],
  rows: Int[Array, "q m"],
  n: int,
  queries: Float[Array, "q k"] | None = None,
) -> Float[Array, "q k"]:
  """The normalized sum of the first n answers' descriptors becomes the query (METHOD section 4).

  Args:
    descriptors: of the database, unit rows.
    rows: of a ranking, the best first.
    n: answers summed, 1 to m.
    queries: added to the sum if given (METHOD section 7, row 9).

  Raises:
    ValueError: n is not in 1 to m.
  """
  if not 1 <= n <= rows.shape[1]:
    raise ValueError(f"n is 1 to {rows.shape[1]}, the answers there are; found {n}")
  total = descriptors[rows[:, :n]].sum(1)
  return l2_normalize(total if queries is None else total + queries)


def share_classes(
  class_vectors: Float[Array, "q m k"], answers: Float[Array, "q r k"]
) -> Float[Array, "q r m"]:
  """Splits each answer's score into what each class of the query gave; the shares add up to the score.

  With the query's descriptor `sum_c q_c / |sum_c q_c|`, class c's share is `q_c . d / |sum_c q_c|`.

  Args:
    class_vectors: q_c, of each query, whitened; zero where a class has none.
    answers: d, unit descriptors of each query's answers.
  """
  squared = jnp.square(class_vectors.sum(1)).sum(-1)
  length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))  # the derivative of a root is infinite at 0
  shares = jnp.einsum("qmk,qrk->qrm", class_vectors, answers, precision=lax.Precision.HIGHEST)
  return shares / length[:, None, None]
