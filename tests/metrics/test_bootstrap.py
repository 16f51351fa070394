"""The paired bootstrap against a plain loop, against SciPy, by its coverage, and where it degenerates."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.metrics import bootstrap
from cwf_jax.metrics.bootstrap import Interval, paired_bootstrap

# Means of a few hundred float64 numbers of size 1: their order of addition moves the last bits, 1e-16 each.
TOLERANCE = 1e-13


def _draw(count, seed=0):
  """Two systems' values that share what makes a query hard."""
  generator = np.random.default_rng(seed)
  hard = generator.uniform(0, 0.8, count)
  return hard + generator.uniform(0, 0.2, count), hard + generator.uniform(0, 0.15, count)


def _by_loop(values_a, values_b, samples, seed, level):
  """One sample after another, in Python's numbers, and percentiles between neighbors."""
  pairs = [(a, b) for a, b in zip(values_a, values_b, strict=True) if not (math.isnan(a) or math.isnan(b))]
  generator = np.random.default_rng(seed)
  means = []
  for _ in range(samples):
    drawn = generator.integers(0, len(pairs), len(pairs))
    means.append(math.fsum(pairs[q][0] for q in drawn) / len(pairs) - math.fsum(pairs[q][1] for q in drawn) / len(pairs))
  means.sort()

  def percentile(share):
    place = share * (samples - 1)
    below = int(place)
    return means[below] + (place - below) * (means[min(below + 1, samples - 1)] - means[below])

  difference = math.fsum(a for a, _ in pairs) / len(pairs) - math.fsum(b for _, b in pairs) / len(pairs)
  return Interval(difference, percentile((1 - level) / 2), percentile((1 + level) / 2))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize(("count", "samples", "seed"), [(1, 10, 0), (2, 1, 3), (3, 7, 1), (55, 200, 0), (426, 100, 12)])
def test_equals_a_loop_with_the_same_draws(count, samples, seed, level):
  values_a, values_b = _draw(count, seed)
  found = paired_bootstrap(values_a, values_b, samples, seed, level)
  np.testing.assert_allclose(found, _by_loop(values_a, values_b, samples, seed, level), rtol=0, atol=TOLERANCE)
  assert all(type(value) is float for value in found)


@pytest.mark.parametrize("block", [1, 100, 1001, 10**9])
def test_the_size_of_a_block_changes_no_draw(monkeypatch, block):
  values_a, values_b = _draw(101)
  expected = paired_bootstrap(values_a, values_b, 301)
  monkeypatch.setattr(bootstrap, "BLOCK", block)
  assert paired_bootstrap(values_a, values_b, 301) == expected


def test_equals_scipy_s_percentile_method():
  stats = pytest.importorskip("scipy.stats", reason="SciPy comes with scikit-learn, in the extra test")
  values_a, values_b = _draw(120)
  theirs = stats.bootstrap(
    (values_a, values_b),
    lambda a, b, axis: a.mean(axis) - b.mean(axis),
    paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1),
  ).confidence_interval  # fmt: skip
  ours = paired_bootstrap(values_a, values_b, 20_000)
  # Other draws: each percentile of 20,000 means wanders by 2 % of their deviation, which is a quarter of the interval.
  tolerance = 4 * math.sqrt(2) * 0.02 * (theirs.high - theirs.low) / 4
  np.testing.assert_allclose((ours.low, ours.high), (theirs.low, theirs.high), rtol=0, atol=tolerance)


def test_an_interval_holds_the_true_difference_about_as_often_as_it_says():
  generator = np.random.default_rng(0)
  held = 0
  for trial in range(300):
    hard = generator.normal(0, 1, 60)
    values_a, values_b = hard + generator.exponential(0.3, 60), hard + generator.normal(0.1, 0.2, 60)
    found = paired_bootstrap(values_a, values_b, 400, seed=trial)
    held += found.low <= 0.3 - 0.1 <= found.high
  # 95 % of 300 with a deviation of 1.3 %; percentile intervals of 60 skewed values hold a little less.
  assert 0.90 <= held / 300 <= 0.98


def test_pairs_are_kept_together():
  """Both systems vary by 0.8 over the queries, their difference by 0.01: its interval is that narrow."""
  generator = np.random.default_rng(0)
  hard = generator.uniform(0, 0.8, 200)
  found = paired_bootstrap(hard + 0.05 + generator.normal(0, 0.01, 200), hard)
  assert found.low > 0.045 and found.high < 0.055 and found.low < found.difference < found.high


def test_identical_systems_do_not_differ():
  values, _ = _draw(50)
  assert paired_bootstrap(values, values) == (0, 0, 0)


def test_a_constant_difference_is_certain():
  values = np.arange(40) / 64
  assert paired_bootstrap(values + 0.25, values) == (0.25, 0.25, 0.25)
  assert paired_bootstrap([0.75], [0.5]) == (0.25, 0.25, 0.25)


def test_the_order_of_the_systems_turns_the_interval():
  values_a, values_b = _draw(77)
  there, back = paired_bootstrap(values_a, values_b), paired_bootstrap(values_b, values_a)
  np.testing.assert_allclose(there, (-back.difference, -back.high, -back.low), rtol=0, atol=TOLERANCE)


def test_it_is_the_same_each_time_and_another_with_another_seed():
  values_a, values_b = _draw(77)
  first = paired_bootstrap(values_a, values_b, 500)
  assert first == paired_bootstrap(list(values_a), tuple(values_b), 500)
  other = paired_bootstrap(values_a, values_b, 500, seed=1)
  assert other.difference == first.difference and (other.low, other.high) != (first.low, first.high)


def test_a_higher_level_is_wider():
  values_a, values_b = _draw(77)
  narrow, wide = (paired_bootstrap(values_a, values_b, level=level) for level in (0.8, 0.99))
  assert wide.low < narrow.low < narrow.high < wide.high


def test_a_query_without_a_value_in_either_leaves_both():
  values_a, values_b = _draw(20)
  holed_a, holed_b = values_a.copy(), values_b.copy()
  holed_a[[2, 5]], holed_b[[5, 11]] = np.nan, np.nan
  kept = [q for q in range(20) if q not in (2, 5, 11)]
  assert paired_bootstrap(holed_a, holed_b) == paired_bootstrap(values_a[kept], values_b[kept])


def test_values_are_subtracted_in_float64():
  values = np.asarray([1.0, 2.0], np.float32)
  assert paired_bootstrap(values, values - np.float32(2**-20)).difference == 2**-20


@hypothesis.settings(max_examples=30)
@hypothesis.given(
  st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 2), min_size=1, max_size=30), st.integers(0, 2**32), st.floats(0.01, 0.99)
)
def test_an_interval_is_in_order_and_inside_the_differences(pairs, seed, level):
  values_a, values_b = np.asarray(pairs).T
  found = paired_bootstrap(values_a, values_b, 50, seed, level)
  differences = values_a - values_b
  rounding = 1e-12 * (1 + np.abs(differences).max())
  assert differences.min() - rounding <= found.low <= found.high <= differences.max() + rounding


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (([1.0, 2.0], [1.0]), r"of the same queries, \[q\] and \[q\]; found \[2\], \[1\]"),
    (([[1.0]], [[1.0]]), r"found \[1, 1\], \[1, 1\]"),
    ((1.0, 1.0), r"found \[\], \[\]"),
    (([], []), "none of the 0 queries has a value in both systems"),
    (([math.nan, 1.0], [1.0, math.nan]), "none of the 2 queries has a value in both systems"),
    (([math.inf], [1.0]), "found an infinite one"),
    (([1.0], [-math.inf]), "found an infinite one"),
    *((([1.0], [1.0], 10, 0, level), "level is a confidence between 0 and 1") for level in (0, 1, -0.5, 95, math.nan)),
    *((([1.0], [1.0], samples), "samples is a whole number of at least 1") for samples in (0, -3, 1.5)),
    *((([1.0], [1.0], 10, seed), "seed is a whole number of at least 0") for seed in (-1, 0.5)),
  ],
)
def test_what_is_refused(arguments, message):
  with pytest.raises(InputError, match=message):
    paired_bootstrap(*arguments)
