"""How good a ranking is, as the Oxford Buildings benchmark counts it.

Average precision is the area under the curve of precision over recall, by trapezoids; mP@k is how many of the first answers
are right. METHOD 5.2 and 5.3; the original `compute_ap` (J. Philbin, R. Arandjelovic, A. Zisserman) computes in float32,
this module in float64. Both need no ranking, only the places in it of the positives and the junk: `places`.

Of four rows, the positives 5 and 2 come first and third: 1/2 (1 + 1)/2 + 1/2 (1/2 + 2/3)/2 = 19/24.

    >>> round(average_precision(np.array([5, 7, 2, 3]), positive=[2, 5], junk=[]), 6)
    0.791667
    >>> average_precision(np.array([5, 7, 2, 3]), positive=[2, 5], junk=[7])
    1.0
    >>> average_precisions(positive=np.array([[0, 2], [0, 2]]), junk=np.array([[-1], [1]])).round(3)
    array([0.792, 1.   ])
    >>> precisions_at(positive=np.array([[0, 2], [0, 2]]), junk=np.array([[-1], [1]]), k=2)
    array([0.5, 1. ])
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64, Int

from cwf_jax.errors import InputError
from cwf_jax.metrics.ranks import UNRANKED, sort_places

_LARGEST = np.iinfo(np.int32).max


def average_precision(ranked: Int[np.ndarray, "n"], positive: Iterable[int], junk: Iterable[int]) -> float:
  """The average precision of one query: `average_precisions` of a ranking.

  Args:
    ranked: rows of the database, best first, each once. What is not ranked adds nothing.
    positive: rows of what should be found; one that is named twice counts once.
    junk: rows that are skipped as if they were not in the database.

  Returns:
    From 0 to 1; NaN where there is no positive: such a query leaves the mean.

  Raises:
    InputError: `ranked` is not a vector of whole numbers from 0 to 2^31 - 1 or names a row twice, `positive` or `junk` holds
      something else than such numbers, or a row is in both.
  """
  ranked = _check_rows("ranked", ranked)
  positive, junk = np.unique(_check_rows("positive", positive)), np.unique(_check_rows("junk", junk))
  ordered = np.sort(ranked)
  _refuse("ranked names rows twice, each should come once", ordered[1:][ordered[1:] == ordered[:-1]])
  _refuse("rows are both positive and junk, each should be one of them", np.intersect1d(positive, junk, assume_unique=True))
  if not positive.size:
    return math.nan

  return float(average_precisions(_list_places(ranked, positive), _list_places(ranked, junk))[0])


def average_precisions(positive: Int[np.ndarray, "q p"], junk: Int[np.ndarray, "q j"]) -> Float64[np.ndarray, "q"]:
  """The average precision of each query.

  The curve starts at recall 0 and precision 1. The terms are those of the loop over the ranking, added in its order, and so
  the result is the loop's to the bit: between positives recall does not grow and the terms are exactly zero. A perfect
  ranking is exactly 1, and nothing is more: the difference of neighboring recalls has no rounding error.

  Args:
    positive: places from 0 of what should be found, in any order, padded with -1. `UNRANKED` adds nothing and counts as one
      that is not found.
    junk: places of what is skipped as if it were not in the database, in any order, padded with -1.

  Returns:
    From 0 to 1; NaN where there is no positive: such a query leaves the mean.

  Raises:
    InputError: `positive` or `junk` holds something else than places, or a place is in both of a query.
  """
  places, total = _skip_junk(positive, junk)
  total = total[:, None]
  is_ranked = places < UNRANKED
  places = np.where(is_ranked, places, 0)
  found = np.arange(1, places.shape[1] + 1)
  precision = found / (places + 1)
  precision_before = np.where(places > 0, (found - 1) / np.maximum(places, 1), 1.0)
  gained = found / np.maximum(total, 1) - (found - 1) / np.maximum(total, 1)
  terms = np.where(is_ranked, gained * ((precision_before + precision) / 2.0), 0.0)
  # `np.sum` adds in pairs, `accumulate` one after another. The column of zeros is for queries of no places at all.
  area = np.add.accumulate(np.pad(terms, ((0, 0), (1, 0))), axis=1)[:, -1]
  return np.where(total[:, 0] > 0, area, np.nan)


def precisions_at(positive: Int[np.ndarray, "q p"], junk: Int[np.ndarray, "q j"], k: int) -> Float64[np.ndarray, "q"]:
  """How many of each query's first k answers are right, mP@k of Revisited Oxford and Paris; its mean is over the queries.

  Of a query whose last positive comes ahead of k, the answers as far as that: what follows could not be right.

  Args:
    positive: places from 0 of what should be found, in any order, padded with -1.
    junk: places of what is skipped as if it were not in the database, in any order, padded with -1.
    k: answers that count, at least 1.

  Returns:
    From 0 to 1; NaN where there is no positive.

  Raises:
    InputError: as of `average_precisions`; `k` is no whole number of at least 1; or a positive is not ranked.
  """
  if k != int(k) or k < 1:
    raise InputError(f"k is a whole number of at least 1; found {k!r}")
  places, total = _skip_junk(positive, junk)
  is_ranked = places < UNRANKED
  missing = total - is_ranked.sum(1)
  if missing.any():
    queries = np.flatnonzero(missing)
    raise InputError(
      f"mP@k is of complete rankings; {missing.sum()} positives of {len(queries)} queries are not ranked, "
      f"the first of query {queries[0]}"
    )
  last = np.where(is_ranked, places, -1).max(1, initial=-1) + 1
  answers = np.minimum(last, int(k))
  right = (is_ranked & (places < answers[:, None])).sum(1)
  return np.where(total > 0, right / np.maximum(answers, 1), np.nan)


def mean_average_precision(values: Iterable[float]) -> float:
  """The mean over the queries that have positives, whose value is not NaN; NaN where none has.

  The sum is exact before it is rounded: the order of the queries does not matter.
  """
  counted = [value for value in map(float, values) if not math.isnan(value)]
  return math.fsum(counted) / len(counted) if counted else math.nan


def _skip_junk(positive: np.ndarray, junk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The positives' places in a ranking without the junk, in order, int64 [q p]; and how many positives a query has [q]."""
  positive, total = sort_places("positive", positive)
  junk, _ = sort_places("junk", junk)
  if len(positive) != len(junk):
    raise InputError(f"positive and junk are of the same queries; found {len(positive)} and {len(junk)} of them")
  both = np.concatenate([positive, junk], axis=1)
  origin = np.argsort(both, axis=1, kind="stable")
  merged = np.take_along_axis(both, origin, axis=1)
  clash = (merged[:, 1:] == merged[:, :-1]) & (merged[:, 1:] < UNRANKED)
  if clash.any():
    query = int(np.flatnonzero(clash.any(1))[0])
    raise InputError(
      f"{clash.sum()} places are both positive and junk, each should be one of them; the first is "
      f"{merged[query, 1:][clash[query]][0]} of query {query}"
    )
  ahead = np.empty_like(both)
  np.put_along_axis(ahead, origin, np.cumsum(origin >= positive.shape[1], axis=1), axis=1)
  ahead = ahead[:, : positive.shape[1]]
  return np.where(positive < UNRANKED, positive - ahead, UNRANKED), total


def _list_places(ranked: np.ndarray, rows: np.ndarray) -> np.ndarray:
  """The places of rows [1 r], those that are not ranked last."""
  places = np.flatnonzero(np.isin(ranked, rows))
  return np.pad(places, (0, rows.size - places.size), constant_values=UNRANKED)[None]


def _check_rows(name: str, rows: Iterable[int]) -> np.ndarray:
  """The rows as int64 [n]."""
  is_array = hasattr(rows, "__array__") or not isinstance(rows, Iterable)
  array = np.asarray(rows if is_array else list(rows))
  if array.ndim != 1:
    raise InputError(f"{name} is one query's rows, of shape [n]; found the shape {list(array.shape)}")
  if not array.size and not is_array:
    return np.zeros(0, np.int64)  # NumPy takes an empty list for floats
  if array.dtype.kind not in "iu":
    raise InputError(f"{name} holds rows of the database, whole numbers; found the dtype {array.dtype}")
  if array.size and (array.min() < 0 or array.max() > _LARGEST):
    outside = array[(array < 0) | (array > _LARGEST)]
    raise InputError(f"{name} holds rows of the database, from 0 to {_LARGEST}; found {outside[0]}")
  return array.astype(np.int64)


def _refuse(problem: str, rows: np.ndarray) -> None:
  if rows.size:
    found = np.unique(rows).tolist()
    raise InputError(f"{problem}: {', '.join(map(str, found[:5]))}{' and more' if len(found) > 5 else ''}")
