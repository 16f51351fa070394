"""From kept vectors to descriptors and scores: aggregation of whitened vectors, cosines.

    fit = fit_whitening(store.read("raw", signatures), dimensions=512)
    database = describe(store.read("raw", signatures), len(signatures), fit.whitening)
    scores = score(queries, [database])
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cwf_jax.ops import ranking
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.normalize import l2_normalize
from cwf_jax.ops.whitening import Whitening, apply_whitening

Parts = Iterable[tuple[Int[np.ndarray, "m"], Float[np.ndarray, "m r k"]]]
"""Places in the order of the images, and the vectors of the images at them."""

Combine = Callable[[Array], Array]
"""From the whitened vectors of images to their descriptors."""

QUERIES_AT_ONCE = 64
_NUMBERS_AT_ONCE = 1 << 24
"""Of vectors that are computed at a time: 64 MB of them."""


def describe(
  parts: Parts, count: int, whitening: Whitening | None, fill: bool = False, combine: Combine = aggregate
) -> Float[np.ndarray, "n d"]:
  """The descriptor of each image: its vectors, whitened and summed.

  Args:
    parts: of all images.
    count: of images.
    whitening: None for none.
    fill: zero vectors are filled with the one before (METHOD 7.11).
    combine: makes a descriptor [b d] of whitened vectors [b r d]; `System.describe`.

  Returns:
    Unit rows, zero where an image has no vector.
  """
  found = None
  for places, block in _blocks(parts):
    described = np.asarray(_describe(block, whitening, fill, combine))[: len(places)]
    found = np.zeros((count, described.shape[1]), np.float32) if found is None else found
    found[places] = described
  return np.zeros((count, 0), np.float32) if found is None else found


def fill_with_previous(vectors: Float[Array, "b n k"]) -> Float[Array, "b n k"]:
  """Puts the vector before it in the place of a zero one; those at the beginning stay zero (METHOD 7.11)."""
  places = jnp.arange(vectors.shape[1])
  last = jax.lax.cummax(jnp.where((vectors != 0).any(-1), places, 0), axis=1)
  return jnp.take_along_axis(vectors, last[..., None], axis=1)


def score(
  queries: Float[np.ndarray, "q d"], databases: Sequence[Float[np.ndarray, "n d"]]
) -> Float[np.ndarray, "q n"]:
  """Inner products with the rows of all databases, one after the other."""
  total = sum(map(len, databases))
  scores, start = np.empty((len(queries), total), np.float32), 0
  block = min(ranking.BLOCK, -(-max(map(len, databases)) // 256) * 256)
  for database in databases:
    for first in range(0, len(database), block):
      rows = np.asarray(database[first : first + block], np.float32)
      padded = np.pad(rows, ((0, block - len(rows)), (0, 0)))
      scores[:, start : start + len(rows)] = np.asarray(ranking.score(queries, padded))[:, : len(rows)]
      start += len(rows)
  return scores


class Online(NamedTuple):
  """Scores where every query describes the database by classes of its own.

  Attributes:
    scores: [q n].
    zero, not_finite: descriptors, of a query and an image each.
  """

  scores: Float[np.ndarray, "q n"]
  zero: int
  not_finite: int


def score_online(
  queries: Float[np.ndarray, "q d"],
  wanted: Int[np.ndarray, "q m"],
  parts: Parts,
  class_ids: Sequence[int],
  count: int,
  whitening: Whitening | None,
  fill: bool = False,
) -> Online:
  """Scores every image's sum of the classes that each query wants (METHOD 2.5, online).

  Args:
    queries: descriptors.
    wanted: the classes of each query, in their order; all among `class_ids`.
    parts: of all images, one vector for each of `class_ids`.
    class_ids: the classes of the vectors.
    count: of images.
    whitening: None for none.
    fill: see `describe`; the class before is that of the query's list.
  """
  place = {class_id: row for row, class_id in enumerate(class_ids)}
  chosen = np.asarray([[place[class_id] for class_id in row] for row in wanted.tolist()], np.int32)
  scores, zero, not_finite = np.empty((len(queries), count), np.float32), 0, 0
  step = min(QUERIES_AT_ONCE, len(queries))
  for places, block in _blocks(parts):
    whitened, odd_vectors = _whiten(block, whitening)
    for start in range(0, len(queries), step):
      some = np.resize(np.arange(start, min(start + step, len(queries))), step)  # the last ones are filled up
      found, empty, odd = _score_online(queries[some], whitened, odd_vectors, chosen[some], fill)
      kept = len(queries[start : start + step])
      scores[start : start + kept, places] = np.asarray(found)[:kept, : len(places)]
      zero += int(np.asarray(empty)[:kept, : len(places)].sum())
      not_finite += int(np.asarray(odd)[:kept, : len(places)].sum())
  return Online(scores, zero, not_finite)


def _blocks(parts: Parts):
  """Blocks of one shape, float32, the last rows of each zero: one program serves parts of any length."""
  for places, vectors in parts:
    step = max(1, min(256, _NUMBERS_AT_ONCE // max(1, vectors.shape[1] * vectors.shape[2])))
    for start in range(0, len(places), step):
      rows = vectors[start : start + step].astype(np.float32)
      yield places[start : start + step], np.pad(rows, ((0, min(step, _round_up(len(rows))) - len(rows)), (0, 0), (0, 0)))


def _round_up(count: int) -> int:
  """To a power of two of at least 8."""
  return max(8, 1 << (count - 1).bit_length())


@functools.partial(jax.jit, static_argnames=("fill", "combine"))
def _describe(vectors, whitening, fill, combine) -> jax.Array:
  whitened = vectors if whitening is None else apply_whitening(whitening, vectors)
  return combine(fill_with_previous(whitened) if fill else whitened)


@jax.jit
def _whiten(vectors, whitening) -> tuple[jax.Array, jax.Array]:
  """Whitened vectors, and which of them are not finite: these are zero, so that they count where they are wanted alone."""
  whitened = vectors if whitening is None else apply_whitening(whitening, vectors)
  odd = ~jnp.isfinite(whitened).all(-1)
  return jnp.where(odd[..., None], 0, whitened), odd


@functools.partial(jax.jit, static_argnames="fill")
def _score_online(queries, whitened, odd, chosen, fill) -> tuple[jax.Array, jax.Array, jax.Array]:
  def describe_filled(places):
    return aggregate(fill_with_previous(whitened[:, places]))

  wanted = (chosen[:, :, None] == jnp.arange(whitened.shape[1])).any(1).astype(whitened.dtype)
  if fill:
    described = jax.lax.map(describe_filled, chosen)
  else:
    # All images have the vectors of the same classes: one product, where `aggregate_matching` has one for each image.
    described = l2_normalize(jnp.einsum("qu,bud->qbd", wanted, whitened, precision=jax.lax.Precision.HIGHEST))
  is_odd = wanted @ odd.T.astype(wanted.dtype) > 0
  scores = jnp.einsum("qd,qbd->qb", queries, described, precision=jax.lax.Precision.HIGHEST)
  return jnp.where(is_odd, jnp.nan, scores), (described == 0).all(-1) & ~is_odd, is_odd
