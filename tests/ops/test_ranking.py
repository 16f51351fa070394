import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.attribution import share_classes
from cwf_jax.ops.ranking import Ranking, expand_query, merge, rank, rank_blocks, rank_scores, score
from tests.oracle import ranking
from tests.oracle.deviation import assert_close

# Inner products of float32 unit rows: about sqrt(k) ulp (6e-8 each) of terms that are under 1.
TOLERANCE = 1e-5


def draw(n, channels, seed=0):
  """Unit rows; no two of their inner products are so near that float32 and float64 could order them differently."""
  rows = np.random.default_rng(seed).normal(size=(n, channels))
  return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def draw_whole(n, channels, seed=0):
  """Rows of small whole numbers: inner products are exact in float32, and many of them are equal."""
  return np.random.default_rng(seed).integers(-2, 3, size=(n, channels)).astype(np.float32)


def check(found: Ranking, queries, database, k):
  """Holds a ranking to the oracle's: rows exactly, scores nearly."""
  expected = ranking.score(queries, database)
  rows = ranking.order(expected, k)
  assert found.rows.dtype == jnp.int32
  assert_close("rankings (rows)", found.rows, rows, 0.0)
  assert_close("scores", found.scores, np.take_along_axis(expected, rows, axis=1), TOLERANCE)


@pytest.mark.parametrize("drawn", [draw, draw_whole], ids=["unit rows", "many ties"])
@pytest.mark.parametrize(("q", "n", "channels", "k"), [(1, 1, 1, 1), (1, 2, 8, 1), (3, 100, 16, 100), (2, 257, 32, 10)])
def test_rank_equals_the_oracle(drawn, q, n, channels, k):
  queries, database = drawn(q, channels, seed=1), drawn(n, channels)
  check(rank(jnp.asarray(queries), jnp.asarray(database), k), queries, database, k)


@pytest.mark.parametrize("block", [16, 23, 99, 128])
@pytest.mark.parametrize("drawn", [draw, draw_whole], ids=["unit rows", "many ties"])
def test_block_search_equals_full_search(drawn, block):
  queries, database = drawn(3, 8, seed=1), drawn(100, 8)
  for k in (10, 100):
    found = rank_blocks(jnp.asarray(queries), database, k, block)
    check(found, queries, database, k)
    np.testing.assert_array_equal(found.rows, rank(jnp.asarray(queries), jnp.asarray(database), k).rows)


def test_blocks_of_one_row():
  queries, database = draw(3, 8, seed=1), draw_whole(9, 8)
  check(rank_blocks(jnp.asarray(queries), database, 4, block=1), queries, database, 4)


@pytest.mark.parametrize(("n", "channels"), [(33, 512), (100, 8), (257, 32), (1001, 3), (1001, 512)])
@pytest.mark.parametrize("q", [1, 3])
def test_equal_rows_come_in_their_order(q, n, channels):
  """The last rows, too, which do not fill a vector of the machine: equal rows must score equally to the bit."""
  database = np.repeat(draw(1, channels), n, axis=0)
  queries = jnp.asarray(draw(q, channels, seed=1))
  found = rank(queries, jnp.asarray(database), n)
  np.testing.assert_array_equal(found.rows, np.tile(np.arange(n), (q, 1)))
  found = rank_blocks(queries, database, n, block=512)
  np.testing.assert_array_equal(found.rows, np.tile(np.arange(n), (q, 1)))


def test_equal_rows_across_blocks_come_in_their_order():
  database = draw(50, 8)
  doubled = np.concatenate([database, database, database[:13]])
  queries = jnp.asarray(draw(4, 8, seed=1))
  found = np.asarray(rank_blocks(queries, doubled, 113, block=32).rows)
  np.testing.assert_array_equal(found, ranking.order(ranking.score(queries, doubled), 113))
  for row in range(50):
    places = [np.flatnonzero(found == copy) for copy in (row, row + 50)]
    assert (places[0] + 1 == places[1]).all()


def test_zero_and_minus_zero_are_equal():
  found = rank_scores(jnp.asarray([[-0.0, 0.0, -1.0, -0.0, 0.0]]), 5)
  np.testing.assert_array_equal(found.rows, [[0, 1, 3, 4, 2]])


def test_nan_comes_last():
  scores = np.array([[0.5, np.nan, -2.0, 0.7], [np.nan, np.nan, 0.0, np.nan]], np.float32)
  found = rank_scores(jnp.asarray(scores), 4)
  np.testing.assert_array_equal(found.rows, ranking.order(scores, 4))
  np.testing.assert_array_equal(found.rows, [[3, 0, 2, 1], [2, 0, 1, 3]])
  database = draw(10, 4)
  database[[0, 4, 9]] = np.nan
  for block in (3, 4, 16):
    rows = np.asarray(rank_blocks(jnp.asarray(draw(2, 4, seed=1)), database, 10, block).rows)
    np.testing.assert_array_equal(rows[:, 7:], [[0, 4, 9]] * 2)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [range(10)] * 2)  # never a row of the padding


def test_k_out_of_range():
  queries, database = draw(2, 4, seed=1), draw(5, 4)
  for k in (0, -1, 6):
    with pytest.raises(ValueError, match="k is 1 to 5"):
      rank(jnp.asarray(queries), jnp.asarray(database), k)
  for k in (0, -1):
    with pytest.raises(ValueError, match="k is at least 1"):
      rank_blocks(jnp.asarray(queries), database, k)


@pytest.mark.parametrize("block", [2, 5, 8])
def test_more_answers_than_rows(block):
  queries, database = draw(2, 4, seed=1), draw(5, 4)
  check(rank_blocks(jnp.asarray(queries), database, 50, block), queries, database, 5)


def test_an_empty_database():
  found = rank_blocks(jnp.asarray(draw(2, 4)), np.zeros((0, 4), np.float32), 3)
  assert found.rows.shape == found.scores.shape == (2, 0)


def test_a_memory_map_is_enough(tmp_path):
  database = draw(70, 8)
  np.save(tmp_path / "database.npy", database)
  mapped = np.load(tmp_path / "database.npy", mmap_mode="r")
  assert isinstance(mapped, np.memmap)
  queries = draw(3, 8, seed=1)
  check(rank_blocks(jnp.asarray(queries), mapped, 20, block=32), queries, database, 20)


def test_scores_equal_those_of_faiss():
  faiss = pytest.importorskip("faiss", reason="faiss, of the test extra, is not installed")
  queries, database = draw(5, 64, seed=1), draw(400, 64)
  peer = faiss.IndexFlatIP(64)
  peer.add(database)
  scores, _ = peer.search(queries, 30)
  for found in (
    rank(jnp.asarray(queries), jnp.asarray(database), 30),
    rank_blocks(jnp.asarray(queries), database, 30, block=128),
  ):
    assert_close("scores: faiss", found.scores, scores, TOLERANCE)


def test_merge():
  first = Ranking(jnp.asarray([[4, 1, 0]]), jnp.asarray([[0.9, 0.5, -jnp.inf]]))
  second = Ranking(jnp.asarray([[12, 11]]), jnp.asarray([[0.9, 0.6]]))
  for k, rows in ((1, [4]), (3, [4, 12, 11]), (5, [4, 12, 11, 1, 0]), (9, [4, 12, 11, 1, 0])):
    found = merge([first, second], k)
    np.testing.assert_array_equal(found.rows, [rows])
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("with_queries", [False, True])
@pytest.mark.parametrize("n", [1, 3, 10])
def test_expand_query_equals_the_oracle(n, with_queries):
  queries, database = draw(3, 16, seed=1), draw(40, 16)
  rows = ranking.order(ranking.score(queries, database), 10).astype(np.int32)
  own = queries if with_queries else None
  result = jax.jit(expand_query, static_argnums=2)(
    jnp.asarray(database), jnp.asarray(rows), n, None if own is None else jnp.asarray(own)
  )
  assert_close("expanded queries", result, ranking.expand_query(database, rows, n, own), TOLERANCE)


def test_expand_query_of_nothing():
  database = jnp.zeros((4, 3))
  assert not np.asarray(expand_query(database, jnp.asarray([[0, 1]]), 2)).any()
  for n in (0, 3):
    with pytest.raises(ValueError, match="n is 1 to 2"):
      expand_query(database, jnp.asarray([[0, 1]]), n)


@pytest.mark.parametrize(("q", "classes", "answers"), [(1, 1, 1), (3, 5, 4)])
def test_shares_equal_the_oracle_and_add_up_to_the_score(q, classes, answers):
  vectors = draw(q * classes, 16).reshape(q, classes, 16) + np.float32(0.1)
  vectors[:, 0] *= classes == 1  # a class without a vector
  found = draw(q * answers, 16, seed=1).reshape(q, answers, 16)
  shares = np.asarray(jax.jit(share_classes)(jnp.asarray(vectors), jnp.asarray(found)))
  assert_close("shares of classes", shares, ranking.share_classes(vectors, found), TOLERANCE)
  total = vectors.astype(np.float64).sum(1)
  total /= np.linalg.norm(total, axis=1, keepdims=True)
  assert_close("sums of shares: scores", shares.sum(2), np.einsum("qk,qrk->qr", total, found.astype(np.float64)), TOLERANCE)


def test_shares_without_any_vector_are_zero():
  assert not np.asarray(share_classes(jnp.zeros((1, 3, 4)), jnp.ones((1, 2, 4)))).any()


def test_under_jit_and_vmap():
  queries, database = jnp.asarray(draw(3, 8, seed=1)), jnp.asarray(draw(40, 8))
  whole = rank(queries, database, 5)
  compiled = jax.jit(rank, static_argnums=2)(queries, database, 5)
  mapped = jax.jit(jax.vmap(lambda query: Ranking(*(part[0] for part in rank(query[None], database, 5)))))(queries)
  for found in (compiled, mapped):
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-6)  # another order of vectors


def test_gradients():
  vectors, answers = jnp.asarray(draw(6, 8).reshape(2, 3, 8)), jnp.asarray(draw(4, 8, seed=1).reshape(2, 2, 8))
  arguments = {"order": 1, "modes": ["rev"], "atol": 5e-3, "rtol": 5e-3, "eps": 1e-2}  # central differences in float32
  check_grads(jax.jit(share_classes), (vectors, answers), **arguments)
  check_grads(lambda *inputs: score(*(jnp.asarray(array) for array in inputs)), (vectors[0], answers[0]), **arguments)
  rows = jnp.asarray([[0, 2], [1, 0]])
  check_grads(jax.jit(lambda database: expand_query(database, rows, 2)), (vectors[0],), **arguments)
  at_zero = jax.jit(jax.grad(lambda vectors: share_classes(vectors, answers).sum()))(jnp.zeros_like(vectors))
  assert np.isfinite(at_zero).all()


@hypothesis.given(st.integers(0, 99))
def test_a_permuted_database_permutes_the_ranking(seed):
  queries, database = draw(3, 8, seed=seed + 100), draw(40, 8, seed=seed)
  permutation = np.random.default_rng(seed).permutation(40)
  rows = np.asarray(rank(jnp.asarray(queries), jnp.asarray(database), 40).rows)
  permuted = np.asarray(rank(jnp.asarray(queries), jnp.asarray(database[permutation]), 40).rows)
  np.testing.assert_array_equal(permutation[permuted], rows)


@hypothesis.given(st.integers(0, 99))
def test_a_batch_of_queries_is_its_queries(seed):
  queries, database = draw(3, 8, seed=seed + 100), jnp.asarray(draw(40, 8, seed=seed))
  alone = [rank(jnp.asarray(queries[i : i + 1]), database, 10).rows[0] for i in range(3)]
  np.testing.assert_array_equal(rank(jnp.asarray(queries), database, 10).rows, alone)
