"""Average precision by hand, against the loop of the original to the bit, and what it must not depend on."""

import math
import random
import time
from fractions import Fraction
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.errors import InputError
from cwf_jax.metrics.average_precision import (
  average_precision,
  average_precisions,
  mean_average_precision,
  precisions_at,
)
from cwf_jax.metrics.ranks import UNRANKED, find_places, shuffled_order
from tests.oracle import average_precision as oracle

REAL = Path(__file__).parents[3] / "shared" / "data" / "groundtruth"

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


# (positive, junk): places from 0; then what average precision and, at k = 1, 3 and 10, the share of right answers is.
PLACES_BY_HAND = {
  # Ranks 1 and 3. 1/2 (1 + 1)/2 + 1/2 (1/2 + 2/3)/2 = 19/24. The last is third: 1 of 1, 2 of 3, 2 of 3.
  "first and third": ([0, 2], [], Fraction(19, 24), (1, Fraction(2, 3), Fraction(2, 3))),
  "in any order, padded, named twice": ([-1, 2, 0, 2, -1], [-1, -1], Fraction(19, 24), (1, Fraction(2, 3), Fraction(2, 3))),
  # The junk ahead goes: ranks 1 and 2. 1/2 (1 + 1)/2 + 1/2 (1 + 1)/2 = 1
  "junk between": ([0, 2], [1], Fraction(1), (1, 1, 1)),
  "junk between, named twice": ([0, 2], [1, -1, 1], Fraction(1), (1, 1, 1)),
  # Ranks 1 and 3 again: the junk at 1 and 2 is ahead of the place 4, the junk at 5 and the unranked ahead of none.
  "junk between and behind": ([0, 4], [5, 2, 1, UNRANKED], Fraction(19, 24), (1, Fraction(2, 3), Fraction(2, 3))),
  # Rank 12 - 2 = 10: 1 (0 + 1/10)/2 = 1/20, with 9 others ahead. Nothing of 1 or 3, 1 of 10.
  "the only one is tenth": ([11], [3, 0], Fraction(1, 20), (0, 0, Fraction(1, 10))),
  # Ranks 1, 2, 3, 12. 3/4 + 1/4 (3/11 + 4/12)/2 = 3/4 + 5/66 = 109/132; 1 of 1, 3 of 3, 3 of 10.
  "one behind the tenth": ([0, 1, 2, 11], [], Fraction(109, 132), (1, 1, Fraction(3, 10))),
  "all": ([3, 1, 2, 0], [], Fraction(1), (1, 1, 1)),
}


@pytest.mark.parametrize(("positive", "junk", "expected", "shares"), PLACES_BY_HAND.values(), ids=PLACES_BY_HAND)
def test_places_by_hand(positive, junk, expected, shares):
  positive, junk = np.array([positive], int), np.array([junk], int)
  # A few terms of rounded fractions: an ulp of 1 each, 2.2e-16.
  assert average_precisions(positive, junk)[0] == pytest.approx(float(expected), abs=1e-15)
  assert [precisions_at(positive, junk, k)[0] for k in (1, 3, 10)] == [float(share) for share in shares]


def test_a_positive_that_is_not_ranked_counts_and_adds_nothing():
  # 1/3 (1 + 1)/2 + 1/3 (1/2 + 2/3)/2 = 1/3 + 7/36 = 19/36, and with two more that are missing a quarter in place of a third:
  # 1/4 (1 + 1)/2 + 1/4 (1/2 + 2/3)/2 = 19/48
  positive = np.array([[0, 2, UNRANKED, -1], [0, 2, UNRANKED, UNRANKED], [UNRANKED, -1, -1, -1]])
  found = average_precisions(positive, np.zeros((3, 0), int))
  assert found == pytest.approx([19 / 36, 19 / 48, 0.0], abs=7e-16) and found[2] == 0.0


def test_queries_without_positives_are_nan():
  nothing = np.zeros((3, 0), int)
  for empty in (nothing, np.full((3, 2), -1)):
    for junk in (nothing, np.array([[1], [-1], [0]])):
      assert np.isnan(average_precisions(empty, junk)).all() and np.isnan(precisions_at(empty, junk, 5)).all()
  mixed = np.array([[1], [-1], [0]])
  assert np.array_equal(average_precisions(mixed, nothing), [0.25, np.nan, 1.0], equal_nan=True)  # 1 (0 + 1/2)/2
  assert np.array_equal(precisions_at(mixed, nothing, 5), [0.5, np.nan, 1.0], equal_nan=True)
  assert average_precisions(nothing[:0], nothing[:0]).shape == precisions_at(nothing[:0], nothing[:0], 1).shape == (0,)


def _pad(rows, twice=False):
  """Lists as one array, padded with -1; `twice` names the first row of each twice."""
  rows = [[*some[:twice], *some] for some in rows]
  width = max(map(len, rows), default=0)
  return np.array([[*some, *[-1] * (width - len(some))] for some in rows], int).reshape(len(rows), width)


@st.composite
def draw_databases(draw):
  """Scores of a few queries with many ties, an order of equal rows, and each query's positives and junk."""
  n, q = draw(st.integers(1, 200)), draw(st.integers(1, 5))
  generator = np.random.default_rng(draw(st.integers(0, 2**32)))
  scores = generator.integers(0, draw(st.sampled_from([1, 3, 20, 10**6])), (q, n)).astype(np.float32)
  weights = st.sampled_from([(1, 1, 1), (1, 1, 20), (20, 1, 1), (1, 0, 0), (0, 1, 1)])
  kinds = [random.Random(draw(st.integers(0, 2**32))).choices("pjo", draw(weights), k=n) for _ in range(q)]
  positive, junk = ([generator.permutation(np.flatnonzero(np.array(row) == k)).tolist() for row in kinds] for k in "pj")
  return scores, generator.permutation(n), positive, junk


def _measure(scores, order, positive, junk, twice=False):
  """Average precision and mP@k at 1, 5 and 10 [4 q], from places."""
  places = find_places(scores, _pad(positive, twice), order), find_places(scores, _pad(junk, twice), order)
  return np.stack([average_precisions(*places), *(precisions_at(*places, k) for k in (1, 5, 10))])


@hypothesis.settings(max_examples=200)
@hypothesis.given(draw_databases(), st.booleans())
def test_places_equal_the_loops_to_the_bit(case, twice):
  scores, order, positive, junk = case
  expected = []
  for row, *known in zip(scores, positive, junk, strict=True):
    ranked = np.lexsort((order, -row)).tolist()
    shares = [oracle.precision_at(ranked, *known, k) for k in (1, 5, 10)]
    expected.append([oracle.average_precision(ranked, *known), *shares])
    assert np.array_equal(average_precision(np.array(ranked), *known), expected[-1][0], equal_nan=True)
  assert np.array_equal(_measure(*case, twice), np.transpose(expected), equal_nan=True)


@hypothesis.given(draw_databases(), st.integers(0, 2**32))
def test_a_permuted_database_changes_nothing(case, seed):
  scores, order, positive, junk = case
  permuted = np.random.default_rng(seed).permutation(len(order))  # row i goes where permuted is i
  moved = np.argsort(permuted)
  listed = ([[int(moved[row]) for row in rows] for rows in some] for some in (positive, junk))
  assert np.array_equal(_measure(scores[:, permuted], order[permuted], *listed), _measure(*case), equal_nan=True)


@hypothesis.given(draw_databases())
def test_junk_that_is_removed_equals_junk_that_is_skipped(case):
  scores, order, positive, junk = case
  for query in range(len(scores)):
    kept = np.setdiff1d(np.arange(len(order)), junk[query])
    if kept.size:
      rows = [np.searchsorted(kept, positive[query]).tolist()]
      without = _measure(scores[query : query + 1, kept], np.argsort(np.argsort(order[kept])), rows, [[]])
      skipped = _measure(scores[query : query + 1], order, positive[query : query + 1], junk[query : query + 1])
      assert np.array_equal(without, skipped, equal_nan=True)


@hypothesis.given(st.lists(draw_cases(), min_size=1, max_size=4))
def test_a_query_does_not_depend_on_the_others(cases):
  """Rankings that leave rows out, of other lengths, with other paddings."""
  places = []
  for ranked, *known in cases:
    at = dict(zip(ranked.tolist(), range(len(ranked)), strict=True))
    places.append([[at.get(row, UNRANKED) for row in rows] for rows in known])
  found = average_precisions(*(_pad(some) for some in zip(*places, strict=True)))
  alone = [average_precision(*case) for case in cases]
  assert np.array_equal(found, alone, equal_nan=True)


def test_places_equal_the_loop_over_long_rankings():
  """Thousands of terms in each of several queries: sums in another order than the loop's would differ in their last bits."""
  generator = np.random.default_rng(0)
  scores = generator.integers(0, 5000, (3, 20_000)).astype(np.float32)
  order = shuffled_order(20_000)
  rows = [generator.permutation(20_000) for _ in scores]
  positive, junk = [row[:6000].tolist() for row in rows], [row[6000:9000].tolist() for row in rows]
  ranked = [np.lexsort((order, -row)).tolist() for row in scores]
  expected = [oracle.average_precision(*case) for case in zip(ranked, positive, junk, strict=True)]
  assert _measure(scores, order, positive, junk)[0].tolist() == expected


def test_perfect_places_are_exactly_one():
  sizes = [*range(1, 300), 8955]
  positive = np.where(np.arange(8955) < np.array(sizes)[:, None], np.arange(8955), -1)
  assert (average_precisions(positive, np.zeros((300, 0), int)) == 1.0).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the project's data pack (shared/data/groundtruth) is not here")
@pytest.mark.parametrize("name", ["oxford", "paris"])
def test_the_real_ground_truth(name):
  """A random ranking of all images, and one in which most are equal."""
  rows = {image: row for row, image in enumerate((REAL / f"lists/list_{name}_rank.txt").read_text().split())}
  queries = read_groundtruth(REAL / ("oxford5k" if name == "oxford" else "paris6k"))
  positive = [[rows[image] for image in query.positives] for query in queries]
  junk = [[rows[image] for image in query.junk] for query in queries]
  generator, order = np.random.default_rng(0), shuffled_order(len(rows))
  assert len(queries) == 55
  for scores in (generator.random((55, len(rows)), np.float32), generator.integers(0, 3, (55, len(rows))).astype(np.float32)):
    found = _measure(scores, order, positive, junk)
    for query, known in enumerate(zip(positive, junk, strict=True)):
      ranked = np.lexsort((order, -scores[query])).tolist()
      expected = [oracle.average_precision(ranked, *known), *(oracle.precision_at(ranked, *known, k) for k in (1, 5, 10))]
      assert found[:, query].tolist() == expected
    assert 0.001 < found[0].mean() < 0.1  # chance: about the share of positives, 0.01 to 0.03


@pytest.mark.parametrize(
  ("positive", "junk", "message"),
  [
    ([[0, 1], [2, 3]], [[0], [2]], "^2 places are both positive and junk, each .* the first is 0 of query 0$"),
    ([[0, 1], [2, 3]], [[7, 8], [7, 3]], "^1 places are both .* the first is 3 of query 1$"),
    ([[0], [1]], [[2]], "^positive and junk are of the same queries; found 2 and 1 of them$"),
    ([0], [[2]], r"^positive holds places in a ranking, whole numbers \[q m\]; found int64 \[1\]$"),
    ([[0]], [[2.0]], r"^junk holds places .* float64 \[1, 1\]$"),
    ([[0, -2], [-3, 1]], [[2], [2]], "^positive holds places .* -1 for none; found 2 others, the first is -2$"),
    ([[0]], np.array([[2**64 - 1]], np.uint64), "^junk holds places .* found 1 others, the first is 18446744073709551615$"),
  ],
)
def test_places_that_are_refused(positive, junk, message):
  for measure in (average_precisions, lambda *places: precisions_at(*places, 5)):
    with pytest.raises(InputError, match=message):
      measure(np.asarray(positive), np.asarray(junk))


def test_what_has_no_precision_at_k():
  with pytest.raises(InputError, match=r"complete rankings; 3 positives of 2 queries are not ranked, the first of query 1$"):
    precisions_at(np.array([[0, -1], [1, UNRANKED], [UNRANKED, UNRANKED]]), np.zeros((3, 0), int), 5)
  assert precisions_at(np.array([[0]]), np.array([[UNRANKED]]), 5) == [1.0]  # junk may be left out
  for k in (0, -1, 2.5):
    with pytest.raises(InputError, match=f"k is a whole number of at least 1; found {k}"):
      precisions_at(np.array([[0]]), np.array([[1]]), k)
