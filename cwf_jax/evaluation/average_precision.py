"""How good a ranking is, as the Oxford Buildings benchmark counts it.

Average precision is the area under the curve of precision over recall, by trapezoids. METHOD.md, section 5; the original
`compute_ap` (J. Philbin, R. Arandjelovic, A. Zisserman) computes in float32, this module in float64.

Of four rows, the positives 5 and 2 come first and third: 1/2 (1 + 1)/2 + 1/2 (1/2 + 2/3)/2 = 19/24.

    >>> round(average_precision(np.array([5, 7, 2, 3]), positive=[2, 5], junk=[]), 6)
    0.791667
    >>> average_precision(np.array([5, 7, 2, 3]), positive=[2, 5], junk=[7])
    1.0
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from cwf_jax.errors import InputError

_LARGEST = np.iinfo(np.int32).max


def average_precision(ranked: Int[np.ndarray, "n"], positive: Iterable[int], junk: Iterable[int]) -> float:
  """The average precision of one query.

  The curve starts at recall 0 and precision 1. The terms are those of the loop over the ranking, added in its order, and so
  the result is the loop's to the bit: between positives recall does not grow and the terms are exactly zero. A perfect
  ranking is exactly 1, and nothing is more: the difference of neighboring recalls has no rounding error.

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

  kept = ranked[~np.isin(ranked, junk)] if junk.size else ranked
  places = np.flatnonzero(np.isin(kept, positive))  # of the positives, from 0, in float64 from here on
  if not places.size:
    return 0.0
  found = np.arange(1, places.size + 1)
  precision = found / (places + 1)
  precision_before = np.where(places > 0, (found - 1) / np.maximum(places, 1), 1.0)
  gained = found / positive.size - (found - 1) / positive.size
  # `np.sum` adds in pairs, `accumulate` one after another.
  return float(np.add.accumulate(gained * ((precision_before + precision) / 2.0))[-1])


def mean_average_precision(values: Iterable[float]) -> float:
  """The mean over the queries that have positives, whose value is not NaN; NaN where none has.

  The sum is exact before it is rounded: the order of the queries does not matter.
  """
  counted = [value for value in map(float, values) if not math.isnan(value)]
  return math.fsum(counted) / len(counted) if counted else math.nan


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
