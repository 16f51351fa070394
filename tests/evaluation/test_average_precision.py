"""Average precision by hand, against the loop of the original to the bit, and what it must not depend on."""

import math
import random
import time
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.evaluation.average_precision import average_precision, mean_average_precision
from tests.oracle import average_precision as oracle

# What each row adds: (recall - recall before) * (precision before + precision) / 2, from recall 0 and precision 1.
BY_HAND = {
  # 1/2 (1 + 1)/2 + 1/2 (1/2 + 2/3)/2 = 1/2 + 7/24
  "positives first and third of four": ([5, 7, 2, 3], [2, 5], [], Fraction(19, 24)),
  # 1/2 (0 + 1/2)/2 + 1/2 (1/2 + 2/3)/2 = 1/8 + 7/24
  "positives second and third": ([7, 5, 2, 3], [2, 5], [], Fraction(5, 12)),
  # 1 (0 + 1/4)/2
  "the only positive is last of four": ([1, 2, 3, 0], [0], [], Fraction(1, 8)),
  "the only positive is first": ([0, 1, 2, 3], [0], [], Fraction(1)),
  # The junk is not there: the positives are first and second of two.
  "junk ahead of the first positive": ([9, 8, 5, 2], [2, 5], [8, 9], Fraction(1)),
  # 1/2 (1 + 1)/2 + 1/2 (1 + 1)/2: the second positive follows the first at once
  "junk between positives": ([5, 7, 2, 3], [2, 5], [7], Fraction(1)),
  # Without junk: 3, 5, 1, 2. 1/2 (0 + 1/2)/2 + 1/2 (1/3 + 2/4)/2 = 1/8 + 5/24
  "junk and others between positives": ([3, 8, 5, 9, 1, 2], [2, 5], [8, 9], Fraction(1, 3)),
  "junk behind everything": ([5, 7, 2, 9], [2, 5], [9], Fraction(19, 24)),
  "no positive is found": ([1, 2, 3], [7, 8], [3], Fraction(0)),
  "nothing is ranked": ([], [7, 8], [3], Fraction(0)),
  "only junk is ranked": ([3, 4], [7, 8], [3, 4], Fraction(0)),
  "all are positive": ([3, 1, 2, 0], [0, 1, 2, 3], [], Fraction(1)),
  # 1/3 (1 + 1)/2 + 1/3 (1/2 + 2/3)/2 = 1/3 + 7/36; the third positive adds nothing
  "a positive that is never ranked": ([5, 7, 2, 3], [2, 5, 11], [], Fraction(19, 36)),
  # 1/3 (1 + 1)/2 + 1/3 (1 + 1)/2 + 1/3 (2/4 + 3/5)/2 = 2/3 + 11/60
  "two positives first, one fifth": ([0, 1, 7, 8, 2], [0, 1, 2], [], Fraction(17, 20)),
  "named twice": ([5, 7, 2, 3], [2, 5, 5, 2], [9, 9], Fraction(19, 24)),
}


@pytest.mark.parametrize(("ranked", "positive", "junk", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_by_hand(ranked, positive, junk, expected):
  # Three terms of rounded thirds: an ulp of 1 each, 2.2e-16.
  assert average_precision(np.array(ranked, int), positive, junk) == pytest.approx(float(expected), abs=7e-16)
  assert oracle.average_precision(ranked, positive, junk) == pytest.approx(float(expected), abs=7e-16)


@st.composite
def draw_cases(draw):
  """A ranking of a part of the rows, and which rows are positive and junk."""
  size = draw(st.integers(1, 400))
  generator = random.Random(draw(st.integers(0, 2**32)))
  weights = draw(st.sampled_from([(1, 1, 1), (1, 1, 20), (20, 1, 1), (1, 0, 0)]))
  kinds = generator.choices(("positive", "junk", "other"), weights, k=size)
  rows = generator.sample(range(size), size)
  return (
    np.array(rows[: draw(st.integers(0, size))], int),
    [row for row in range(size) if kinds[row] == "positive"],
    [row for row in range(size) if kinds[row] == "junk"],
  )


@hypothesis.settings(max_examples=200)
@hypothesis.given(draw_cases())
def test_equals_the_loop_to_the_bit(case):
  ranked, positive, junk = case
  found, expected = average_precision(ranked, positive, junk), oracle.average_precision(ranked.tolist(), positive, junk)
  assert found == expected or (math.isnan(found) and math.isnan(expected) and not positive)
  assert not positive or 0.0 <= found <= 1.0


def test_equals_the_loop_over_a_long_ranking():
  """Thousands of terms: sums in another order than the loop's would differ in their last bits."""
  generator = np.random.default_rng(0)
  ranked = generator.permutation(60_000)
  positive, junk = np.arange(0, 60_000, 7), np.arange(1, 60_000, 7)
  expected = oracle.average_precision(ranked.tolist(), positive.tolist(), junk.tolist())
  assert average_precision(ranked, positive, junk) == expected


def test_a_perfect_ranking_is_exactly_one():
  for size in (*range(1, 300), 8955, 100_003):
    assert average_precision(np.arange(size + 5), np.arange(size), []) == 1.0


@hypothesis.given(draw_cases(), st.randoms(use_true_random=False))
def test_which_others_and_which_junk_come_does_not_matter(case, generator):
  """Among themselves the positives, the junk and the others may change places; and junk may go anywhere or away."""
  ranked, positive, junk = case
  expected = average_precision(ranked, positive, junk)
  kinds = {**dict.fromkeys(positive, 1), **dict.fromkeys(junk, 2)}
  places = [kinds.get(row, 0) for row in ranked.tolist()]
  permuted = ranked.copy()
  for kind in (0, 1, 2):
    rows = [row for row in ranked.tolist() if kinds.get(row, 0) == kind]
    generator.shuffle(rows)
    permuted[np.flatnonzero(np.array(places, int) == kind)] = rows
  kept = [row for row in ranked.tolist() if kinds.get(row) != 2]
  moved = list(kept)
  for row in set(ranked.tolist()) - set(kept):
    moved.insert(generator.randint(0, len(moved)), row)
  for other in (permuted, np.array(kept, int), np.array(moved, int)):
    assert np.array_equal(average_precision(other, positive, junk), expected, equal_nan=True)
  assert np.array_equal(average_precision(np.array(kept, int), positive, []), expected, equal_nan=True)


@hypothesis.given(draw_cases(), st.randoms(use_true_random=False))
def test_names_of_rows_do_not_matter(case, generator):
  ranked, positive, junk = case
  names = np.array(generator.sample(range(10**6), 400))
  found = average_precision(names[ranked], names[np.array(positive, int)], names[np.array(junk, int)])
  assert np.array_equal(found, average_precision(ranked, positive, junk), equal_nan=True)


@hypothesis.given(draw_cases())
def test_a_positive_that_moves_up_never_lowers_it(case):
  ranked, positive, _ = case
  ranked = ranked.tolist()
  before = average_precision(np.array(ranked, int), positive, [])
  for place in range(1, len(ranked)):
    if ranked[place] in positive and ranked[place - 1] not in positive:
      ranked[place - 1], ranked[place] = ranked[place], ranked[place - 1]
      after = average_precision(np.array(ranked, int), positive, [])
      assert after >= before - 1e-15  # what one addition rounds
      before = after


def test_a_million_rows_are_quick():
  ranked = np.random.default_rng(0).permutation(1_000_000).astype(np.int32)
  positive, junk = np.arange(0, 1000, 2), np.arange(1, 1000, 2)
  times = []
  for _ in range(5):
    start = time.perf_counter()
    average_precision(ranked, positive, junk)
    times.append(time.perf_counter() - start)
  assert min(times) < 0.1, times


def test_without_positives_it_is_nan_and_leaves_the_mean():
  for ranked in ([], [1, 2]):
    assert math.isnan(average_precision(np.array(ranked, int), [], [2]))
  assert mean_average_precision([0.5, math.nan, 0.25]) == 0.375
  assert mean_average_precision(np.array([np.nan, 1.0, 0.0], np.float32)) == 0.5
  assert math.isnan(mean_average_precision([math.nan])) and math.isnan(mean_average_precision(iter(())))


@hypothesis.given(st.lists(st.floats(0, 1) | st.just(math.nan)), st.randoms(use_true_random=False))
def test_the_order_of_queries_does_not_matter(values, generator):
  permuted = list(values)
  generator.shuffle(permuted)
  assert np.array_equal(mean_average_precision(permuted), mean_average_precision(values), equal_nan=True)


def test_any_iterable_of_rows_will_do():
  for make in (list, tuple, set, iter, np.array, jnp.array, dict.fromkeys, lambda rows: np.array(rows, np.uint8)):
    assert average_precision(make([5, 7, 2, 3]) if make is not set else [5, 7, 2, 3], make([2, 5]), make([7])) == 1.0
  assert average_precision(np.arange(10, dtype=np.int32), range(3), np.zeros(0, np.int64)) == 1.0


@pytest.mark.parametrize(
  ("ranked", "positive", "junk", "message"),
  [
    ([1, 2, 1], [1], [], "ranked names rows twice, each should come once: 1$"),
    ([*range(9), *range(9)], [1], [], "come once: 0, 1, 2, 3, 4 and more$"),
    ([1, 2, 1], [], [], "ranked names rows twice"),
    ([1, 2], [1, 3], [2, 3], "rows are both positive and junk, each should be one of them: 3$"),
    ([[1, 2]], [1], [], r"ranked is one query's rows, of shape \[n\]; found the shape \[1, 2\]"),
    (np.int64(1), [1], [], r"ranked is one query's rows.* \[\]"),
    ([1, 2], 1, [], r"positive is one query's rows.* \[\]"),
    ([1, 2], [1], np.zeros((0, 2), int), r"junk is one query's rows.* \[0, 2\]"),
    ([1.0, 2.0], [1], [], "ranked holds rows of the database, whole numbers; found the dtype float64"),
    (np.zeros(0), [1], [], "ranked holds .* the dtype float64"),
    ([1, 2], np.array([True, False]), [], "positive holds .* the dtype bool"),
    ([1, 2], ["a"], [], "positive holds .* the dtype <U1"),
    ([1, 2], [1], [None], "junk holds .* the dtype object"),
    ([1, -1], [1], [], "ranked holds rows of the database, from 0 to 2147483647; found -1"),
    ([1], [1], [2**31], "junk holds .*; found 2147483648"),
    (np.array([2**64 - 1], np.uint64), [1], [], "ranked holds .*; found 18446744073709551615"),
    ([2**70], [1], [], "ranked holds .* the dtype object"),
  ],
)
def test_what_is_refused(ranked, positive, junk, message):
  with pytest.raises(InputError, match=message):
    average_precision(ranked, positive, junk)
