import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.aggregation import aggregate, aggregate_matching, combine_scales, match_classes
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

# Sums of at most 64 unit vectors; the sum is not short against its terms, since class vectors point the same way.
TOLERANCE = 1e-5

offline = jax.jit(aggregate)
online = jax.jit(aggregate_matching)
match = jax.jit(match_classes)
combine = jax.jit(combine_scales, static_argnames="exponent")
generalize = jax.jit(combine_scales)  # the exponent is an argument of the program, as where it is learned


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


def draw_scales(scales, images, channels, seed=0):
  """Unit rows of several scales, >= 0: of the second image the last scale is zero, of the last image all are."""
  rows = np.abs(np.random.default_rng(seed).normal(size=(scales, images, channels)))
  rows[..., 1:][rows[..., 1:] < 0.3] = 0.0
  rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
  if images > 1:
    rows[-1, 1], rows[:, -1] = 0.0, 0.0
  return rows.astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 8), (2, 2, 1), (3, 4, 16)], ids=str)
def test_combined_scales_equal_the_oracle(shape):
  descriptors = draw_scales(*shape)
  found = np.asarray(combine(jnp.asarray(descriptors)))
  assert_close("combined scales", found, encoding.combine_scales(descriptors), TOLERANCE)
  assert not found[~descriptors.any((0, 2))].any()
  for exponent in (0.5, 1.0, 2.0, 3.0, 30.0):
    found = generalize(jnp.asarray(descriptors), jnp.float32(exponent))
    assert_close("combined scales", found, encoding.combine_scales(descriptors, exponent), TOLERANCE)


def test_negative_values_are_averaged_and_have_no_root():
  descriptors = draw(2, 3, 8, total=8)[0]
  assert descriptors.min() < 0
  found = combine(jnp.asarray(descriptors))
  assert_close("combined scales", found, encoding.combine_scales(descriptors), TOLERANCE)
  found = combine(jnp.asarray(descriptors), 3.0)
  assert_close("combined scales", found, encoding.combine_scales(descriptors, 3.0), TOLERANCE)


def test_combined_scales_by_hand():
  descriptors = jnp.asarray([[[1.0, 0.0]], [[0.6, 0.8]]])
  np.testing.assert_allclose(combine_scales(descriptors), [np.array([1.6, 0.8]) / np.hypot(1.6, 0.8)], rtol=1e-6)
  # squared: 1.36 and 0.64, whose roots are a row of the length of the root of 2
  np.testing.assert_allclose(combine_scales(descriptors, 2.0), [np.sqrt([0.68, 0.32])], rtol=1e-6)


@hypothesis.given(st.integers(0, 99), st.permutations(range(3)))
def test_the_order_of_the_scales_does_not_matter_and_equal_scales_are_one(seed, order):
  descriptors = draw_scales(3, 4, 16, seed)
  for exponent in (1.0, 3.0):
    found = combine(jnp.asarray(descriptors), exponent)
    np.testing.assert_allclose(combine(jnp.asarray(descriptors[order]), exponent), found, atol=1e-6)  # another order of sums
    same = jnp.asarray(descriptors[[0, 0, 0]])
    np.testing.assert_allclose(combine(same, exponent), same[0], atol=1e-6)  # a mean, a root and a length


def test_gradients_of_combined_scales():
  arguments = {"order": 1, "modes": ["rev"], "atol": 5e-3, "rtol": 5e-3, "eps": 1e-2}  # central differences in float32
  descriptors = jnp.asarray(draw_scales(3, 2, 4)[:, :1] + 0.2)
  check_grads(combine, (descriptors,), **arguments)
  check_grads(lambda rows, p: generalize(rows, jnp.asarray(p)), (descriptors, jnp.float32(3.0)), **arguments)


def test_gradients_of_combined_scales_at_zeros_are_finite():
  slope = jax.jit(jax.grad(lambda rows, p: (combine_scales(rows, p) + combine_scales(rows)).sum(), argnums=(0, 1)))
  for descriptors in (jnp.zeros((2, 3, 4)), jnp.asarray(draw_scales(2, 3, 4))):
    for exponent in (0.5, 1.0, 3.0):
      assert all(np.isfinite(gradient).all() for gradient in slope(descriptors, jnp.float32(exponent)))
