"""Expansion by the scores of the answers: of queries, and of every row of a database."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.ranking import augment_database, expand_query, expand_query_by_scores, rank
from tests.oracle import ranking
from tests.oracle.deviation import assert_close

# Sums of at most 11 unit rows, none against another, weighted by powers of scores that are right to 1e-7.
TOLERANCE = 1e-5

expand = jax.jit(expand_query_by_scores, static_argnames=("n", "alpha"))
search = jax.jit(rank, static_argnames="k")


def draw(n, channels, seed=0):
  """Unit rows whose inner products have both signs."""
  rows = np.random.default_rng(seed).normal(size=(n, channels))
  return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def draw_search(seed=0):
  """Queries, a database and the ranking of all its rows."""
  queries, database = draw(3, 8, seed + 100), draw(20, 8, seed)
  return queries, database, *search(jnp.asarray(queries), jnp.asarray(database), k=20)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [1, 10, 20])
def test_expanded_queries_equal_the_oracle(n, alpha):
  queries, database, rows, scores = draw_search()
  found = expand(jnp.asarray(queries), jnp.asarray(database), rows, scores, n=n, alpha=alpha)
  expected = ranking.expand_query_by_scores(queries, database, np.asarray(rows), np.asarray(scores), n, alpha)
  assert_close("expanded queries: scores", found, expected, TOLERANCE)


def test_ten_answers_to_the_third_power_are_the_default():
  queries, database, rows, scores = draw_search()
  given = jnp.asarray(queries), jnp.asarray(database), rows, scores
  np.testing.assert_array_equal(expand(*given), expand(*given, n=10, alpha=3.0))


def test_values_by_hand():
  queries, database = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[0.6, 0.8], [-0.6, 0.8], [0.0, 1.0]])
  rows, scores = jnp.asarray([[0, 2, 1]]), jnp.asarray([[0.5, 0.0, -0.6]])
  expected = np.array([[1 + 0.125 * 0.6, 0.125 * 0.8]])  # an answer of score 0 or less is left out
  expected /= np.linalg.norm(expected)
  np.testing.assert_allclose(expand(queries, database, rows, scores, n=3), expected, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_what_is_no_answer_adds_nothing(alpha):
  queries, database, rows, _ = draw_search()
  given = jnp.asarray(queries), jnp.asarray(database), rows
  for score in (0.0, -0.0, -1.0, -np.inf, np.nan):
    found = expand(*given, jnp.full(rows.shape, score), n=10, alpha=alpha)
    np.testing.assert_allclose(found, queries, rtol=1e-6, atol=1e-7)  # of unit length, and again


@hypothesis.given(st.integers(0, 99))
def test_without_an_exponent_it_is_the_plain_sum_over_positive_answers(seed):
  queries, database, rows, scores = draw_search(seed)
  found = expand(jnp.asarray(queries), jnp.asarray(database), rows, scores, n=20, alpha=0.0)
  rows, scores = np.asarray(rows), np.asarray(scores)
  for q in range(3):
    positive = int((scores[q] > 0).sum())
    plain = ranking.expand_query(database, rows[q : q + 1], positive, queries[q : q + 1])
    assert_close("expanded queries: plain sums", found[q : q + 1], plain, TOLERANCE)


@hypothesis.given(st.integers(0, 99))
def test_where_all_scores_are_one_it_is_the_other_expansion(seed):
  queries, database, rows, _ = draw_search(seed)
  given = jnp.asarray(queries), jnp.asarray(database)
  found = expand(*given, rows, jnp.ones(rows.shape), n=10)
  np.testing.assert_allclose(found, expand_query(given[1], rows, 10, given[0]), atol=1e-6)  # another order of the sum


def test_out_of_range():
  given = jnp.ones((1, 2)), jnp.ones((3, 2)), jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2))
  for n in (0, 3):
    with pytest.raises(ValueError, match="n is 1 to 2"):
      expand_query_by_scores(*given, n=n)
  with pytest.raises(ValueError, match="alpha is at least 0; found -1"):
    expand_query_by_scores(*given, n=1, alpha=-1.0)
  for neighbors, alpha in ((0, 3.0), (1, -0.5)):
    with pytest.raises(ValueError, match=r"neighbors are at least 1; found 0|alpha is at least 0; found -0\.5"):
      augment_database(draw(4, 2), neighbors, alpha)


def test_gradients():
  """With respect to the queries, the database and the scores, away from the score of zero."""
  queries, database, rows, scores = draw_search(seed=5)
  scores = jnp.abs(scores) + 0.1

  def call(alpha, queries, database, scores):
    return expand(jnp.asarray(queries), jnp.asarray(database), rows, scores, n=10, alpha=alpha)

  for alpha in (1.0, 3.0):
    # central differences in float32: see test_normalize
    given = functools.partial(call, alpha), (queries, database, scores)
    check_grads(*given, order=1, modes=["rev"], atol=5e-3, rtol=5e-3, eps=1e-2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0])
def test_gradients_at_zeros_are_finite(alpha):
  rows = jnp.zeros((1, 2), jnp.int32)

  def total(queries, database, scores):
    return expand(queries, database, rows, scores, n=2, alpha=alpha).sum()

  slope = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
  for score in (0.0, -jnp.inf):
    gradients = slope(jnp.zeros((1, 3)), jnp.zeros((4, 3)), jnp.full((1, 2), score))
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("neighbors", "alpha"), [(1, 3.0), (4, 0.0), (10, 3.0), (99, 1.0)])
@pytest.mark.parametrize("n", [2, 20])
def test_an_augmented_database_equals_the_oracle(n, neighbors, alpha):
  """In blocks that its rows do not fill, of queries and of rows, and with more neighbors than there are."""
  database = draw(n, 8)
  if n > 2:
    database[3] = 0.0
  kept = database.copy()
  found = augment_database(database, neighbors, alpha, block=48)
  assert_close("augmented database", found, ranking.augment_database(database, neighbors, alpha), TOLERANCE)
  np.testing.assert_array_equal(database, kept)
  assert n == 2 or not found[3].any()


def test_a_row_that_others_equal_is_left_out_all_the_same():
  """More rows equal it than are asked for, so it is not among its own first answers."""
  database = np.repeat(draw(2, 8), [7, 3], axis=0)
  for neighbors in (2, 8):
    found = augment_database(database, neighbors, 1.0, block=16)
    assert_close("augmented database", found, ranking.augment_database(database, neighbors, 1.0), TOLERANCE)


def test_as_many_others_are_summed_where_a_row_is_not_among_its_own_answers():
  """As where some rows are longer than others: of rows of one length that are not equal, each is its own first answer."""
  database = np.random.default_rng(0).integers(-2, 3, (20, 8)).astype(np.float32)
  database[:8] *= 5
  first = ranking.order(ranking.score(database, database), 3)
  assert 5 < sum(n not in first[n] for n in range(20)) < 20
  found = augment_database(database, 2, 1.0, block=48)
  assert_close("augmented database", found, ranking.augment_database(database, 2, 1.0), TOLERANCE)


@pytest.mark.parametrize("n", [0, 1])
def test_a_database_without_neighbors_stays(n):
  np.testing.assert_array_equal(augment_database(draw(n, 4)), draw(n, 4))


def test_a_row_is_what_its_expansion_is():
  database = draw(20, 8)
  ranked = search(jnp.asarray(database), jnp.asarray(database), k=20)
  others = np.asarray(ranked.rows) != np.arange(20)[:, None]
  rows, scores = (jnp.asarray(np.asarray(part)[others].reshape(20, 19)) for part in ranked)
  expected = expand(jnp.asarray(database), jnp.asarray(database), rows, scores, n=4)
  np.testing.assert_allclose(augment_database(database, 4, block=48), expected, atol=1e-6)  # the same sums, with zeros between


@hypothesis.given(st.integers(0, 99), st.sampled_from([16, 48, 320]))
def test_neither_the_block_nor_the_order_of_the_rows_matters(seed, block):
  database = draw(20, 8, seed)
  order = np.random.default_rng(seed).permutation(20)
  found = augment_database(database[order], 4, block=block)
  np.testing.assert_allclose(found, augment_database(database, 4, block=48)[order], atol=1e-6)  # other vectors of the machine
