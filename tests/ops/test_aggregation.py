import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.aggregation import aggregate, aggregate_matching, match_classes
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

# Sums of at most 64 unit vectors; the sum is not short against its terms, since class vectors point the same way.
TOLERANCE = 1e-5

offline = jax.jit(aggregate)
online = jax.jit(aggregate_matching)
match = jax.jit(match_classes)


def draw(images, held, channels, total, seed=0):
  """Unit class vectors, of which each image's second is zero, and their classes: `held` of `total`, each once."""
  random = np.random.default_rng(seed)
  vectors = random.normal(size=(images, held, channels)) + 0.5
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  if held > 1:
    vectors[:, 1] = 0.0
  class_ids = np.stack([random.permutation(total)[:held] for _ in range(images)])
  return vectors.astype(np.float32), class_ids.astype(np.int32)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 8), (3, 4, 1), (3, 5, 16), (1, 64, 512)], ids=str)
def test_aggregate_equals_the_oracle(shape):
  vectors, _ = draw(*shape, total=64)
  assert_close("descriptors", offline(jnp.asarray(vectors)), encoding.aggregate(vectors), TOLERANCE)


def test_no_vector_gives_a_zero_descriptor():
  assert not np.asarray(offline(jnp.zeros((2, 3, 4)))).any()
  assert not np.asarray(online(jnp.zeros((2, 3, 4)), jnp.ones((1, 2, 3), bool))).any()


@pytest.mark.parametrize(("queries", "wanted"), [(1, 1), (2, 3), (3, 8)])
@pytest.mark.parametrize(("images", "held", "channels"), [(1, 1, 1), (3, 4, 6), (4, 8, 16)])
def test_online_aggregation_equals_the_oracle(queries, wanted, images, held, channels):
  vectors, class_ids = draw(images, held, channels, total=8)
  random = np.random.default_rng(1)
  asked = np.stack([random.permutation(8)[:wanted] for _ in range(queries)]).astype(np.int32)
  matches, lacking = match(jnp.asarray(class_ids), jnp.asarray(asked))
  result = np.asarray(online(jnp.asarray(vectors), matches))
  expected, expected_lacking = encoding.aggregate_wanted(vectors, class_ids, asked)
  assert_close("descriptors", result, expected, TOLERANCE)
  np.testing.assert_array_equal(lacking, expected_lacking)
  assert not result[~expected.any(-1)].any()


def test_match_classes_by_hand():
  matches, lacking = match_classes(jnp.asarray([[5, 2, 7], [1, 9, 0]]), jnp.asarray([[7, 5], [0, 3]]))
  expected = [[[True, False, True], [False, False, False]], [[False, False, False], [False, False, True]]]
  np.testing.assert_array_equal(matches, expected)
  np.testing.assert_array_equal(lacking, [[0, 2], [2, 1]])


@hypothesis.given(st.integers(0, 99))
def test_online_equals_offline_where_the_class_lists_agree(seed):
  vectors, class_ids = draw(4, 5, 16, total=20, seed=seed)
  wanted = np.random.default_rng(seed).permuted(class_ids, axis=1)  # in any order
  matches, lacking = match(jnp.asarray(class_ids), jnp.asarray(wanted))
  own = np.asarray(online(jnp.asarray(vectors), matches))[np.arange(4), np.arange(4)]
  np.testing.assert_allclose(own, offline(jnp.asarray(vectors)), atol=1e-6)  # the same sums in another order
  assert not np.diagonal(lacking).any()


@hypothesis.given(st.integers(0, 99))
def test_the_order_of_the_classes_does_not_matter(seed):
  vectors, _ = draw(3, 6, 16, total=20, seed=seed)
  shuffled = np.random.default_rng(seed).permutation(vectors, axis=1)
  np.testing.assert_allclose(offline(jnp.asarray(shuffled)), offline(jnp.asarray(vectors)), atol=1e-6)


def test_under_vmap_and_a_batch_is_its_images():
  vectors, class_ids = (jnp.asarray(array) for array in draw(3, 4, 6, total=8))
  alone = jax.jit(jax.vmap(lambda image: aggregate(image[None])[0]))(vectors)
  np.testing.assert_allclose(alone, offline(vectors), atol=1e-6)
  wanted = jnp.asarray([[0, 1, 2], [3, 4, 5]])
  matches, _ = match(class_ids, wanted)
  by_query = jax.jit(jax.vmap(lambda chosen: aggregate_matching(vectors, chosen[None])[0]))(matches)
  np.testing.assert_allclose(by_query, online(vectors, matches), atol=1e-6)


def test_gradients():
  vectors, class_ids = (jnp.asarray(array) for array in draw(2, 3, 4, total=6))
  matches, _ = match(class_ids, class_ids)
  arguments = {"order": 1, "modes": ["rev"], "atol": 5e-3, "rtol": 5e-3, "eps": 1e-2}  # central differences in float32
  check_grads(offline, (vectors,), **arguments)
  check_grads(jax.jit(lambda vectors: aggregate_matching(vectors, matches)), (vectors,), **arguments)
  zero = jax.jit(jax.grad(lambda vectors: aggregate(vectors).sum() + aggregate_matching(vectors, matches).sum()))
  assert np.isfinite(zero(jnp.zeros_like(vectors))).all()
