import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.ops.resizing import enlarge, enlarge_mask
from tests.oracle.deviation import assert_close

TOLERANCE = 1e-6  # two weighted means in float32

jitted = jax.jit(enlarge, static_argnames="factor")


def _draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _mask(sizes, shape):
  mask = np.zeros((len(sizes), *shape), bool)
  for place, (rows, columns) in enumerate(sizes):
    mask[place, :rows, :columns] = True
  return jnp.asarray(mask)


def _enlarge(maps, sizes, factor):
  """Cell by cell: the center of each new cell among the centers of the old ones, clamped at the valid edge."""
  count, rows, columns, channels = maps.shape
  result = np.zeros((count, rows * factor, columns * factor, channels))

  def weights(place, valid):
    at = min(max((place + 0.5) / factor - 0.5, 0.0), valid - 1.0)
    low = math.floor(at)
    return [(low, 1 - (at - low)), (min(low + 1, valid - 1), at - low)]

  for b, (valid_rows, valid_columns) in enumerate(sizes):
    for i in range(valid_rows * factor):
      for j in range(valid_columns * factor):
        for row, down in weights(i, valid_rows):
          for column, across in weights(j, valid_columns):
            result[b, i, j] += down * across * np.asarray(maps[b, row, column], np.float64)
  return result


@hypothesis.given(
  shape=st.tuples(st.integers(1, 5), st.integers(1, 5)), factor=st.integers(1, 4), data=st.data(), seed=st.integers(0, 9)
)
def test_equals_the_loop(shape, factor, data, seed):
  sizes = [tuple(data.draw(st.integers(1, side)) for side in shape) for _ in range(2)]
  maps = _draw(2, *shape, 3, seed=seed)
  found = jitted(jnp.asarray(maps), _mask(sizes, shape), factor)
  assert_close("enlarged maps", found, _enlarge(maps, sizes, factor), TOLERANCE)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 5)])
def test_a_whole_map_is_what_jax_makes_of_it(shape, factor):
  maps = jnp.asarray(_draw(2, *shape, 3))
  expected = jax.image.resize(maps, (2, shape[0] * factor, shape[1] * factor, 3), "bilinear")
  assert_close("enlarged maps: jax.image", jitted(maps, jnp.ones((2, *shape), bool), factor), expected, TOLERANCE)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 3), (6, 6)])
def test_a_padded_map_gives_what_the_map_gives(size):
  rows, columns = size
  canvas = np.full((1, 6, 6, 2), 1e6, np.float32)
  canvas[:, :rows, :columns] = _draw(1, rows, columns, 2)
  padded = np.array(jitted(jnp.asarray(canvas), _mask([size], (6, 6)), 2))
  alone = jitted(jnp.asarray(canvas[:, :rows, :columns]), jnp.ones((1, rows, columns), bool), 2)
  np.testing.assert_array_equal(padded[:, : 2 * rows, : 2 * columns], alone)
  padded[:, : 2 * rows, : 2 * columns] = 0
  assert not padded.any()


def test_a_factor_of_one_clears_what_lies_outside_and_no_more():
  maps = _draw(1, 3, 4, 2)
  found = jitted(jnp.asarray(maps), _mask([(2, 3)], (3, 4)), 1)
  expected = np.zeros_like(maps)
  expected[:, :2, :3] = maps[:, :2, :3]
  np.testing.assert_array_equal(found, expected)


def test_one_cell_becomes_a_block_of_itself():
  maps = _draw(2, 1, 1, 3)
  found = jitted(jnp.asarray(maps), jnp.ones((2, 1, 1), bool), 3)
  np.testing.assert_allclose(found, np.broadcast_to(maps, (2, 3, 3, 3)), rtol=1e-6)  # a third and two thirds of it


def test_by_hand():
  """Half-pixel centers: a quarter and three quarters of the way between the cells, and flat at the edges."""
  found = jitted(jnp.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1), jnp.ones((1, 1, 3), bool), 2)
  np.testing.assert_array_equal(found[0, :, :, 0], [[0, 1, 3, 5, 7, 8]] * 2)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_map_without_a_valid_cell_is_empty(factor):
  found = jitted(jnp.asarray(_draw(2, 2, 3, 2)), _mask([(0, 0), (2, 3)], (2, 3)), factor)
  assert not np.any(found[0]) and np.any(found[1])


@hypothesis.given(seed=st.integers(0, 100))
def test_what_is_constant_stays_and_nothing_leaves_its_range(seed):
  maps = jnp.abs(jnp.asarray(_draw(1, 3, 3, 2, seed=seed)))
  found = jitted(maps, _mask([(2, 3)], (3, 3)), 2)
  assert found.min() >= 0 and found.max() <= maps.max() * (1 + 1e-6)
  np.testing.assert_array_equal(jitted(jnp.full((1, 3, 3, 2), 7.0), jnp.ones((1, 3, 3), bool), 2), np.full((1, 6, 6, 2), 7.0))


def test_masks_grow_with_their_maps():
  found = enlarge_mask(_mask([(1, 2), (0, 0)], (2, 3)), 2)
  np.testing.assert_array_equal(found, _mask([(2, 4), (0, 0)], (4, 6)))


def test_under_vmap_and_grad():
  maps, mask = jnp.asarray(_draw(2, 3, 2, 2)), _mask([(3, 2), (1, 1)], (3, 2))
  mapped = jax.jit(jax.vmap(lambda one, valid: enlarge(one[None], valid[None], 2)[0]))(maps, mask)
  np.testing.assert_array_equal(mapped, jitted(maps, mask, 2))
  gradient = jax.jit(jax.grad(lambda maps: enlarge(maps, mask, 2).sum()))(maps)
  # each valid cell is shared out over four new ones, those at the edge over as many more as they are repeated for
  assert gradient[1, 0, 0, 0] == 4.0 and float(gradient[0, :, :, 0].sum()) == pytest.approx(24.0)
  assert not np.any(gradient[1, 1:])
