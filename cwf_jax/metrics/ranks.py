"""The places of a few rows in a complete ranking, without the ranking.

Average precision, mP@k and N-S (METHOD 5.2 to 5.4) ask where the positives and the junk came, some hundred rows of a
million. A place counts from 0: the rows with a higher score, and of those with an equal score the ones that an `order` puts
first. Which order that is matters where many scores are equal: files are often listed by what they show.

    >>> scores = np.array([[0.5, 0.9, 0.5, np.nan]], np.float32)
    >>> find_places(scores, np.array([[2, 3, -1]]), order=np.arange(4))
    array([[ 2,  3, -1]])
    >>> find_places(scores, np.array([[2, 3, -1]]), order=np.arange(4)[::-1])  # the last row first
    array([[ 1,  3, -1]])
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Int, Int64

from cwf_jax.errors import InputError

UNRANKED = np.iinfo(np.int64).max
"""The place of a row that a ranking leaves out: behind every other."""

_SIGN = np.uint32(1 << 31)
"""The bit of a float32's sign."""


def shuffled_order(n: int, seed: int = 0) -> Int64[np.ndarray, "n"]:
  """Equal rows in a random order, the same for a seed; by row it is `np.arange(n)`, from the last `np.arange(n)[::-1]`.

  Args:
    n: rows of the database.
    seed: of the permutation, at least 0.

  Raises:
    InputError: either is no whole number of at least 0.
  """
  if n != int(n) or n < 0 or seed != int(seed) or seed < 0:
    raise InputError(f"n and seed are whole numbers of at least 0; found {n!r} and {seed!r}")
  return np.random.default_rng(int(seed)).permutation(int(n))


def find_places(
  scores: Float32[np.ndarray, "q n"], listed: Int[np.ndarray, "q m"], order: Int[np.ndarray, "n"]
) -> Int64[np.ndarray, "q m"]:
  """The place of each listed row in the complete ranking of its query.

  The time does not depend on how many scores are equal: each row has a key of its score and its order, no two alike, and the
  keys are sorted. Each processor works on a query at a time, in about 25 bytes a row.

  Args:
    scores: of every row of the database, fewer than 2^32. NaN counts as -inf: such rows come last; 0.0 and -0.0 are equal.
    listed: rows of the database, padded with -1.
    order: where each row comes among rows of equal score, a permutation of 0 to n - 1.

  Returns:
    From 0 to n - 1, and -1 where `listed` is -1.

  Raises:
    InputError: shapes that do not fit, scores that are not float32, rows that are not in the database, or an `order` that is
      no permutation.
  """
  scores, listed, order = np.asarray(scores), np.asarray(listed), np.asarray(order)
  _check(scores, listed, order)
  order = order.astype(np.uint64)

  def find(query: int) -> np.ndarray:
    keys = _make_keys(scores[query], order)
    own = keys[listed[query]]  # of the padding any row's
    keys.sort()
    return np.searchsorted(keys, own)

  if not scores.shape[1]:
    return np.full(listed.shape, -1, np.int64)
  places = np.empty(listed.shape, np.int64)
  with ThreadPoolExecutor(os.cpu_count()) as pool:
    for query, found in enumerate(pool.map(find, range(len(scores)))):
      places[query] = found
  places[listed < 0] = -1
  return places


def sort_places(name: str, places: Int[np.ndarray, "q m"]) -> tuple[Int64[np.ndarray, "q m"], Int64[np.ndarray, "q"]]:
  """Each query's places from the first to the last, and how many rows they are.

  Args:
    name: of the places, for the message of an error.
    places: padded with -1, anywhere. A place that is named twice is one row; each `UNRANKED` is a row of its own.

  Returns:
    The places with the padding as `UNRANKED`, behind the others, and the count of rows without the padding.

  Raises:
    InputError: something else than whole numbers of at least -1 [q m].
  """
  places = np.asarray(places)
  if places.ndim != 2 or places.dtype.kind not in "iu":
    raise InputError(f"{name} holds places in a ranking, whole numbers [q m]; found {places.dtype} {list(places.shape)}")
  wrong = places[(places < -1) | (places > UNRANKED)]
  if wrong.size:
    raise InputError(
      f"{name} holds places in a ranking, of at least 0, and -1 for none; found {wrong.size} others, the first is {wrong[0]}"
    )
  places = places.astype(np.int64)
  count = (places >= 0).sum(1)
  places[places < 0] = UNRANKED
  places.sort(axis=1)
  again = (places[:, 1:] == places[:, :-1]) & (places[:, 1:] < UNRANKED)
  if again.any():
    places[:, 1:][again] = UNRANKED
    places.sort(axis=1)
  return places, count - again.sum(1)


def _make_keys(scores: np.ndarray, order: np.ndarray) -> np.ndarray:
  """uint64 [n]: in their upper half the scores, the highest least, in their lower half the order.

  As whole numbers, the bits of floats of at least 0 grow with the float, and those of floats below 0, all above these, as it
  falls. So turning the bits but the sign of the former makes all fall.
  """
  bits = np.where(np.isnan(scores), np.float32(-np.inf), scores).view(np.uint32)
  bits[bits == _SIGN] = 0  # -0.0
  keys = np.where(bits < _SIGN, bits ^ (_SIGN - 1), bits).astype(np.uint64)
  keys <<= np.uint64(32)
  keys |= order
  return keys


def _check(scores: np.ndarray, listed: np.ndarray, order: np.ndarray) -> None:
  """Refuses what does not fit; everything wrong is in one message."""
  if scores.ndim != 2 or listed.ndim != 2 or len(scores) != len(listed) or order.shape != scores.shape[1:]:
    raise InputError(
      "scores [q n] and listed [q m] are of the same queries, scores and order [n] of the same rows; "
      f"found {list(scores.shape)}, {list(listed.shape)} and {list(order.shape)}"
    )
  n, problems = scores.shape[1], []
  if n >= 1 << 32:
    problems.append(f"a database has fewer than 2^32 rows; found {n}")
  if scores.dtype != np.float32:
    problems.append(f"scores are float32, others would have other ties; found {scores.dtype}")
  if listed.dtype.kind not in "iu":
    problems.append(f"listed holds rows of the database, whole numbers; found the dtype {listed.dtype}")
  else:
    outside = listed[(listed < -1) | (listed >= n)]
    if outside.size:
      first = ", ".join(map(str, outside[:3]))
      problems.append(f"listed holds rows from 0 to {n - 1}, and -1 for none; found {outside.size} others, such as {first}")
  if order.dtype.kind not in "iu":
    problems.append(f"order is a permutation of 0 to {n - 1}; found the dtype {order.dtype}")
  elif n and n < 1 << 32:
    inside = order[(order >= 0) & (order < n)]
    missing = n - np.count_nonzero(np.bincount(inside.astype(np.int64), minlength=n))
    if missing:
      problems.append(f"order is a permutation of 0 to {n - 1}; {missing} of these are not in it")
  if problems:
    raise InputError("; ".join(problems))
