import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cwf_jax.ops.normalize import l2_normalize
from tests.oracle import encoding
from tests.oracle.deviation import assert_close

TOLERANCE = 1e-5  # float32 sums of at most 512 squares: a few ulp (6e-8 each); the root halves them


def draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 1), (3, 7), (2, 3, 5), (0, 4), (2, 2, 3, 512)])
def test_equals_the_oracle(shape):
  vectors = draw(shape)
  if len(shape) > 1 and shape[0]:
    vectors[0] = 0.0
  result = np.asarray(jax.jit(l2_normalize)(jnp.asarray(vectors)))
  assert_close("unit vectors", result, encoding.normalize(vectors), TOLERANCE)
  if len(shape) > 1:
    assert not result[:1].any()


@pytest.mark.parametrize("magnitude", [1e-30, 1e-20, 1.0, 1e20, 1e37])
def test_no_magnitude_is_lost(magnitude):
  vectors = draw((3, 16)) * np.float32(magnitude)
  assert_close("unit vectors", l2_normalize(jnp.asarray(vectors)), encoding.normalize(vectors), TOLERANCE)


def test_a_batch_is_its_rows_under_vmap():
  vectors = jnp.asarray(draw((4, 9)))
  one_by_one = jax.jit(jax.vmap(l2_normalize))(vectors)
  np.testing.assert_allclose(one_by_one, jax.jit(l2_normalize)(vectors), rtol=1e-6)  # an ulp or two


def test_gradient():
  # central differences in float32: rounding 1e-7 / eps and curvature eps^2 are both near 1e-4 for eps 1e-2
  check_grads(jax.jit(l2_normalize), (jnp.asarray(draw((2, 5))),), order=1, modes=["rev"], atol=2e-3, rtol=2e-3, eps=1e-2)


def test_gradient_at_zero_is_finite():
  gradient = jax.jit(jax.grad(lambda vectors: l2_normalize(vectors).sum()))(jnp.zeros((2, 5)))
  assert np.isfinite(gradient).all()
