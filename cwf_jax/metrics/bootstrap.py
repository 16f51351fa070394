"""How sure a difference of two systems is, when both answered the same queries.

    interval = paired_bootstrap(average_precisions_here, average_precisions_there)
    interval.low > 0        # with 95 % confidence the first is better

Queries differ far more among themselves than systems do. So each sample draws queries, with replacement, and takes both
systems' values of those it drew: what makes a query hard is in both and leaves the difference. The interval is the middle of
the samples' means, the percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    >>> paired_bootstrap([0.5, 0.25, 1.0], [0.25, 0.0, 0.75])
    Interval(difference=0.25, low=0.25, high=0.25)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cwf_jax.errors import InputError

BLOCK = 1 << 20
"""Draws that are held at a time: 16 MB with the values they pick."""


class Interval(NamedTuple):
  """A difference of two means and where it lies, in the unit of the values.

  Attributes:
    difference: the mean of the first system less that of the second, over the queries that both have a value of.
    low, high: of the interval; they need not lie at the same distance from `difference`.
  """

  difference: float
  low: float
  high: float


def paired_bootstrap(
  values_a: Float[np.ndarray, "q"] | Sequence[float],
  values_b: Float[np.ndarray, "q"] | Sequence[float],
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Interval:
  """The difference `a - b` of two systems' means over the same queries, with its percentile bootstrap interval.

  The same values, samples and seed give the same interval on every machine. The interval says what other queries of this
  kind would give; it says nothing of other collections, nor of other seeds of a network's weights.

  Args:
    values_a: of each query, by the first system; NaN where a query has no value (it has no positives).
    values_b: of the same queries in the same order, by the second. A query that is NaN in either leaves both.
    samples: bootstrap samples, at least 1.
    seed: of the draws, at least 0.
    level: of confidence, above 0 and below 1.

  Raises:
    InputError: the values are no two vectors of one length, none is left, one is infinite, or `samples`, `seed` or `level`
      is out of its range.
  """
  if not 0 < level < 1:
    raise InputError(f"level is a confidence between 0 and 1, such as 0.95; found {level!r}")
  if samples != int(samples) or samples < 1:
    raise InputError(f"samples is a whole number of at least 1; found {samples!r}")
  if seed != int(seed) or seed < 0:
    raise InputError(f"seed is a whole number of at least 0; found {seed!r}")
  differences = _subtract(values_a, values_b)
  means = _sample_means(differences, int(samples), np.random.default_rng(int(seed)))
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return Interval(float(differences.mean()), float(low), float(high))


def _subtract(values_a, values_b) -> np.ndarray:
  """The differences of the queries that both have a value of, float64."""
  a, b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
  if a.ndim != 1 or a.shape != b.shape:
    raise InputError(f"the values of two systems are of the same queries, [q] and [q]; found {list(a.shape)}, {list(b.shape)}")
  if np.isinf(a).any() or np.isinf(b).any():
    raise InputError("the values of a system are finite, or NaN where a query has none; found an infinite one")
  kept = ~(np.isnan(a) | np.isnan(b))
  if not kept.any():
    raise InputError(f"none of the {len(a)} queries has a value in both systems: there is nothing to compare")
  return a[kept] - b[kept]


def _sample_means(differences: np.ndarray, samples: int, generator: np.random.Generator) -> np.ndarray:
  """The mean of each sample [samples]; a block draws what it would draw after the blocks before it, whatever their size."""
  count = len(differences)
  rows = max(1, BLOCK // count)
  means = np.empty(samples)
  for start in range(0, samples, rows):
    stop = min(start + rows, samples)
    means[start:stop] = differences[generator.integers(0, count, (stop - start, count))].mean(1)
  return means
