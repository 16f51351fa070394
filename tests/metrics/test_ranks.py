"""Places by hand, against the complete ranking, and what they must not depend on."""

import time

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.metrics.ranks import UNRANKED, find_places, shuffled_order, sort_places

NAN, INF = np.nan, np.inf

BY_HAND = {
  # The ranking is 1, 3, 0, 2.
  "no two are equal": ([2, 9, -1, 5], [0, 1, 2, 3], [2, 0, 3, 1]),
  # 1 first; of the equal 0, 2 and 3 comes 2 (order 0), 3 (order 1), 0 (order 3).
  "equal ones in an order": ([5, 9, 5, 5], [3, 2, 0, 1], [3, 0, 1, 2]),
  "all equal": ([7, 7, 7, 7], [3, 2, 0, 1], [3, 2, 0, 1]),
  # 0.0 and -0.0 are equal, and the row of order 0 comes first.
  "the zeros": ([0.0, -0.0, 1.0, -1.0], [1, 0, 2, 3], [2, 1, 0, 3]),
  # 3 and 2; then NaN and -inf, equal, of the orders 0 and 1.
  "NaN and infinities": ([NAN, -INF, -5, INF], [0, 1, 2, 3], [2, 3, 1, 0]),
  "all NaN": ([NAN, NAN, NAN, NAN], [1, 0, 3, 2], [1, 0, 3, 2]),
  "below zero": ([-1, -2, -1, -3], [0, 1, 2, 3], [0, 2, 1, 3]),
  # Neighbors in float32, and the smallest that are not zero.
  "hardly different": ([1.0, np.nextafter(np.float32(1), np.float32(2)), 1e-45, -1e-45], [0, 1, 2, 3], [1, 0, 2, 3]),
}


@pytest.mark.parametrize(("scores", "order", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_by_hand(scores, order, expected):
  scores = np.array([scores], np.float32)
  found = find_places(scores, np.arange(4)[None], np.array(order))
  assert found.dtype == np.int64 and found.tolist() == [expected]
  # in any order, some only, one twice, padded anywhere
  some = find_places(scores, np.array([[-1, 3, 1, 3, -1]]), np.array(order))
  assert some.tolist() == [[-1, expected[3], expected[1], expected[3], -1]]


def _signed(bits):
  """NaN with a sign and a payload."""
  return np.array([bits], np.uint32).view(np.float32)[0]


def test_every_nan_is_the_same():
  scores = np.array([[_signed(0xFFC00001), -INF, _signed(0x7F800001), _signed(0x7FC00000), 0]], np.float32)
  assert find_places(scores, np.arange(5)[None], np.array([3, 2, 1, 0, 4])).tolist() == [[4, 3, 2, 1, 0]]


@st.composite
def draw_scores(draw):
  """Scores of many, of few or of one value; among them may be what is not finite and both zeros."""
  q, n = draw(st.integers(0, 4)), draw(st.integers(1, 300))
  generator = np.random.default_rng(draw(st.integers(0, 2**32)))
  values = draw(st.sampled_from([1, 2, 7, 100, None]))
  scores = generator.standard_normal((q, n)) if values is None else generator.integers(0, values, (q, n)) / 4 - 1
  scores = scores.astype(np.float32)
  if draw(st.booleans()):
    special = generator.choice(np.array([NAN, INF, -INF, 0.0, -0.0], np.float32), (q, n))
    scores = np.where(generator.random((q, n)) < 0.4, special, scores)
  return scores, generator.permutation(n), generator.integers(-1, n, (q, draw(st.integers(0, 30))))


@hypothesis.settings(max_examples=200)
@hypothesis.given(draw_scores())
def test_equals_the_complete_ranking(case):
  scores, order, listed = case
  found = find_places(scores, listed, order)
  assert found.shape == listed.shape and (found[listed < 0] == -1).all()
  for row, rows, places in zip(scores, listed, found, strict=True):
    ranked = np.lexsort((order, -np.where(np.isnan(row), np.float32(-INF), row)))
    assert (ranked[places[rows >= 0]] == rows[rows >= 0]).all()
    for one, place in zip(rows[:5], places[:5], strict=True):  # and as the docstring says it
      known = np.where(np.isnan(row), np.float32(-INF), row)
      counted = (known > known[one]).sum() + ((known == known[one]) & (order < order[one])).sum()
      assert place == (counted if one >= 0 else -1)


@hypothesis.given(draw_scores(), st.integers(0, 2**32))
def test_a_permuted_database_changes_nothing(case, seed):
  scores, order, listed = case
  permuted = np.random.default_rng(seed).permutation(len(order))
  there = np.where(listed < 0, -1, np.argsort(permuted)[listed])
  assert np.array_equal(find_places(scores[:, permuted], there, order[permuted]), find_places(scores, listed, order))


@hypothesis.given(draw_scores())
def test_of_equal_scores_the_order_is_the_place(case):
  scores, order, listed = case
  for value in (0.25, -INF, NAN):
    found = find_places(np.full_like(scores, value), listed, order)
    assert np.array_equal(found, np.where(listed < 0, -1, order[listed]))


def test_orders():
  scores, listed = np.zeros((1, 1000), np.float32), np.arange(1000)[None]
  assert find_places(scores, listed, np.arange(1000)).tolist() == [list(range(1000))]
  assert find_places(scores, listed, np.arange(1000)[::-1]).tolist() == [list(range(1000))[::-1]]
  shuffled = shuffled_order(1000, seed=3)
  assert np.array_equal(shuffled, np.random.default_rng(3).permutation(1000))
  assert not np.array_equal(shuffled, shuffled_order(1000)) and shuffled_order(0).shape == (0,)
  assert find_places(scores, listed, shuffled).tolist() == [shuffled.tolist()]
  for n, seed in ((-1, 0), (2.5, 0), (3, -1)):
    with pytest.raises(InputError, match=f"n and seed are whole numbers of at least 0; found {n} and {seed}"):
      shuffled_order(n, seed)


def test_arrays_of_any_layout_and_what_is_handed_over_stays():
  generator = np.random.default_rng(0)
  scores, order = generator.integers(0, 9, (5, 50)).astype(np.float32), generator.permutation(50)
  listed = generator.integers(-1, 50, (5, 7))
  expected = find_places(scores, listed, order)
  copies = scores.copy(), listed.copy(), order.copy()
  for make in (np.asfortranarray, jnp.asarray, lambda array: np.repeat(array, 2, -1)[..., ::2]):
    assert np.array_equal(find_places(make(scores), make(listed), make(order)), expected)
  for dtype in (np.int8, np.int32, np.uint64):
    found = find_places(scores, np.abs(listed).astype(dtype), order.astype(dtype))
    assert np.array_equal(found[listed > 0], expected[listed > 0])
  assert all(map(np.array_equal, copies, (scores, listed, order)))


def test_nothing():
  for q, n, m in ((0, 5, 3), (2, 5, 0), (2, 0, 3), (0, 0, 0)):
    found = find_places(np.zeros((q, n), np.float32), np.full((q, m), -1), np.arange(n))
    assert found.shape == (q, m) and (found == -1).all()


def test_a_million_equal_rows_are_quick():
  n, generator = 1_000_001, np.random.default_rng(0)
  order, listed = shuffled_order(n), generator.integers(0, n, (2, 500))
  for scores in (np.zeros((2, n), np.float32), generator.integers(0, 300, (2, n)).astype(np.float32)):
    times = []
    for _ in range(5):
      start = time.perf_counter()
      find_places(scores, listed, order)
      times.append(time.perf_counter() - start)
    assert min(times) < 0.5, times


def test_sorted_places():
  places, count = sort_places("junk", np.array([[3, -1, 3, 0], [UNRANKED, 2, UNRANKED, -1], [-1, -1, -1, -1]]))
  assert places.tolist() == [[0, 3, UNRANKED, UNRANKED], [2, UNRANKED, UNRANKED, UNRANKED], [UNRANKED] * 4]
  assert count.tolist() == [2, 3, 0]


SCORES, ORDER = np.zeros((2, 3), np.float32), np.arange(3)


@pytest.mark.parametrize(
  ("scores", "listed", "order", "message"),
  [
    (SCORES, [[0]], ORDER, r"^scores \[q n\] .* found \[2, 3\], \[1, 1\] and \[3\]$"),
    (SCORES, [0, 1], ORDER, r"found \[2, 3\], \[2\] and \[3\]$"),
    (SCORES[0], [[0]], ORDER, r"found \[3\], \[1, 1\] and \[3\]$"),
    (SCORES, [[0], [1]], np.arange(4), r"found \[2, 3\], \[2, 1\] and \[4\]$"),
    (SCORES.astype(np.float64), [[0], [1]], ORDER, "^scores are float32, others would have other ties; found float64$"),
    (SCORES, [[0.0], [1.0]], ORDER, "^listed holds rows of the database, whole numbers; found the dtype float64$"),
    (SCORES, [[0, 3], [-2, 1]], ORDER, "^listed holds rows from 0 to 2, and -1 for none; found 2 others, such as 3, -2$"),
    (SCORES[:, :0], [[0], [-1]], ORDER[:0], "^listed holds rows from 0 to -1.* found 1 others, such as 0$"),
    (SCORES, [[0], [1]], [0.0, 1.0, 2.0], "^order is a permutation of 0 to 2; found the dtype float64$"),
    (SCORES, [[0], [1]], [0, 1, 1], "^order is a permutation of 0 to 2; 1 of these are not in it$"),
    (SCORES, [[0], [1]], [-1, 3, 1], "^order is a permutation of 0 to 2; 2 of these are not in it$"),
    (SCORES.astype(int), [[0], [9]], [0, 0, 0], "^scores are float32.* int64; listed .* such as 9; order .*; 2 of these"),
  ],
)
def test_what_is_refused(scores, listed, order, message):
  with pytest.raises(InputError, match=message):
    find_places(scores, np.asarray(listed), np.asarray(order))


def test_more_rows_than_a_key_holds_are_refused():
  n = 1 << 32
  scores, order = np.broadcast_to(np.float32(0), (0, n)), np.broadcast_to(np.int8(0), (n,))
  with pytest.raises(InputError, match=r"^a database has fewer than 2\^32 rows; found 4294967296$"):
    find_places(scores, np.zeros((0, 1), int), order)
