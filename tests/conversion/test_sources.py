"""What is checked of an array before it is read, whatever file it lies in."""

import h5py
import ml_dtypes
import numpy as np
import pytest

from cwf_jax.conversion.sources import Weight


def _find_problem(array, shape):
  return Weight("x", array).find_problem(shape)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_floating_point_numbers_are_taken(made, kind):
  assert _find_problem(made.create_dataset("x", (2, 3), kind), (2, 3)) is None


@pytest.mark.parametrize(
  ("kind", "message"),
  [
    ("i4", "holds int32, expected floating-point numbers"),
    ("c8", "holds complex64"),
    ("S5", "holds |S5"),
    (h5py.string_dtype(), "holds object"),
    (h5py.ref_dtype, "holds object"),
    (h5py.vlen_dtype(np.float32), "holds object"),
    ([("a", "f4")], "holds [('a'"),
  ],
)
def test_what_is_no_number_is_refused(made, kind, message):
  problem = _find_problem(made.create_dataset("x", (3,), kind), (3,))
  assert problem.startswith(message)


def test_a_shape_is_checked_before_anything_is_read(made):
  huge = made.create_dataset("huge", (2**40, 2**20), "f8", chunks=(1024, 1024))
  assert _find_problem(huge, (3,)) == f"is ({2**40}, {2**20}), expected (3,)"
  assert _find_problem(made.create_dataset("empty", dtype="f4", shape=None, data=h5py.Empty("f4")), (3,)).startswith(
    "is empty, expected (3,)"
  )


def test_axes_are_put_in_our_order():
  kernel = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
  assert Weight("x", kernel, "oihw").shape == (4, 5, 3, 2) and Weight("x", kernel[0, 0], "oi").shape == (5, 4)
  assert Weight("x", kernel, "oihw").read((4, 5, 3, 2))[1, 2, 0, 1] == kernel[1, 0, 1, 2]
  assert Weight("x", kernel, "oihw", is_turned=True).read((4, 5, 3, 2))[1, 2, 0, 1] == kernel[1, 0, 4 - 2, 5 - 3]
  assert Weight("x", kernel[0], "oihw").find_problem((4, 5, 3, 2)) == "is (3, 4, 5), expected (4, 5, 3, 2)"


def test_bfloat16_is_taken_and_whole_numbers_are_not():
  assert _find_problem(np.ones(3, ml_dtypes.bfloat16), (3,)) is None
  assert _find_problem(np.ones(3, np.int8), (3,)).startswith("holds int8")


def test_groups_must_divide_the_channels():
  kernel = Weight("x", np.ones((4, 2, 3, 3)), "oihw", groups=3)
  assert kernel.find_problem((3, 3, 6, 4)) == "has 4 channels in 3 groups"
