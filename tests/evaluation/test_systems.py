"""The pooled systems against the oracle: with masks, of unit length, and zero where nothing fires."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.evaluation.systems import POOLED, pool_crow, pool_raw
from tests.oracle import encoding as oracle
from tests.oracle.deviation import assert_close

# Sums of at most 40 float32 numbers of one sign, roots and logarithms of them: a few units of the last place, 6e-8 each.
TOLERANCE = 1e-5


def _features(shape, seed=0):
  """Post-ReLU: about a third of the values are zero, and the last channel fires nowhere."""
  generator = np.random.default_rng(seed)
  features = np.maximum(generator.normal(0.4, 1.0, shape), 0).astype(np.float32)
  features[..., -1] = 0
  return features


def _run(pool, features, mask):
  return np.asarray(pool(jnp.asarray(features), jnp.asarray(mask)))


def _masks(shape):
  """Nothing hidden, a part of each image at the right and bottom, and a box in the middle."""
  whole, part, box = np.ones(shape, bool), np.ones(shape, bool), np.zeros(shape, bool)
  part[:, (shape[1] + 1) // 2 :] = False
  part[0, :, (shape[2] + 1) // 2 :] = False
  box[:, shape[1] // 3 : shape[1] // 3 + 2, shape[2] // 3 : shape[2] // 3 + 1] = True
  return {"whole": whole, "part": part, "box": box}


@pytest.mark.parametrize("mask", ["whole", "part", "box"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 4, 5, 8), (3, 5, 2, 17)], ids=str)
def test_pooling_is_the_oracle_s(shape, mask):
  features, mask = _features(shape), _masks(shape[:3])[mask]
  raw = oracle.normalize(oracle.pool_sum(features, mask))
  assert_close("systems.pool_raw", _run(pool_raw, features, mask), raw, TOLERANCE)
  weights = oracle.compute_spatial_weights(features, mask), oracle.compute_channel_weights(features, mask)
  crow = oracle.normalize(oracle.pool_sum(features, mask, *weights))
  assert_close("systems.pool_crow", _run(pool_crow, features, mask), crow, TOLERANCE)


def test_the_systems_are_those_of_the_table():
  assert dict(POOLED) == {"raw": pool_raw, "crow": pool_crow}


@pytest.mark.parametrize("name", POOLED)
def test_vectors_are_of_unit_length(name):
  features = _features((4, 3, 5, 16))
  features *= np.asarray([1, 1e-6, 1e6, 7], np.float32)[:, None, None, None]
  vectors = _run(POOLED[name], features, np.ones((4, 3, 5), bool))
  assert vectors.shape == (4, 16) and (vectors >= 0).all()
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)  # float32


@pytest.mark.parametrize("name", POOLED)
def test_what_fires_nowhere_stays_zero(name):
  features, mask = _features((3, 3, 5, 6)), np.ones((3, 3, 5), bool)
  features[0], mask[1] = 0, False
  vectors = _run(POOLED[name], features, mask)
  assert not vectors[:2].any()
  np.testing.assert_allclose(np.linalg.norm(vectors[2]), 1, rtol=1e-6)


@pytest.mark.parametrize("name", POOLED)
def test_what_the_mask_hides_does_not_count(name):
  features, mask = _features((2, 4, 5, 6)), _masks((2, 4, 5))["part"]
  changed = np.where(mask[..., None], features, 1e9).astype(np.float32)
  np.testing.assert_array_equal(_run(POOLED[name], features, mask), _run(POOLED[name], changed, mask))


@pytest.mark.parametrize("name", POOLED)
def test_a_system_is_one_compiled_program(name):
  features, mask = _features((2, 4, 5, 6)), np.ones((2, 4, 5), bool)
  compiled = _run(jax.jit(POOLED[name]), features, mask)
  np.testing.assert_allclose(compiled, _run(POOLED[name], features, mask), atol=1e-6)  # float32


def test_crow_raises_a_channel_that_seldom_fires():
  features = np.zeros((1, 2, 2, 2), np.float32)
  features[..., 0], features[0, 0, 0, 1] = 1, 1
  mask = np.ones((1, 2, 2), bool)
  raw, crow = (_run(pool, features, mask)[0] for pool in (pool_raw, pool_crow))
  # Raw sums are (4, 1). Channel weights are log(5/4) and log 5; the busy cell's weight is sqrt 2 of the others'.
  np.testing.assert_allclose(raw[1] / raw[0], 1 / 4, rtol=1e-6)
  expected = np.sqrt(2) * np.log(5) / ((3 + np.sqrt(2)) * np.log(5 / 4))
  np.testing.assert_allclose(crow[1] / crow[0], expected, rtol=1e-5)
