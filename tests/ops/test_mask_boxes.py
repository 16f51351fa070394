import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.ops.regions import mask_boxes

SHAPES = [(1, 1), (1, 5), (4, 1), (3, 6)]

mark = jax.jit(mask_boxes, static_argnums=1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@hypothesis.given(st.lists(st.tuples(*[st.integers(-3, 9)] * 4), min_size=1, max_size=3))
def test_a_cell_is_marked_where_it_lies_in_the_box(shape, boxes):
  boxes = np.resize(np.asarray(boxes, np.int32), (3, 4))  # of one shape, so that one program serves
  marked = np.asarray(mark(jnp.asarray(boxes), shape))
  assert marked.dtype == bool and marked.shape == (3, *shape)
  for b, (left, top, right, bottom) in enumerate(boxes):
    for i in range(shape[0]):
      for j in range(shape[1]):
        assert marked[b, i, j] == (left <= j < right and top <= i < bottom)


def test_boxes_by_hand():
  boxes = jnp.asarray([(1, 0, 3, 2), (-2, 1, 1, 99), (0, 0, 4, 3), (2, 2, 2, 3), (4, 0, 6, 3)])
  expected = """
    .##. .... #### .... ....
    .##. #... #### .... ....
    .... #... #### .... ....
  """
  rows = [line.split() for line in expected.strip().splitlines()]
  expected = [[[cell == "#" for cell in row[b]] for row in rows] for b in range(5)]
  np.testing.assert_array_equal(mask_boxes(boxes, (3, 4)), expected)


def test_under_vmap():
  boxes = jnp.asarray([(1, 0, 3, 2), (0, 1, 1, 3)])
  mapped = jax.vmap(lambda box: mask_boxes(box[None], (3, 4))[0])(boxes)
  np.testing.assert_array_equal(mapped, mask_boxes(boxes, (3, 4)))
