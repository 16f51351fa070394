"""Objects from file names, and names and parts that are refused."""

import numpy as np
import pytest

from cwf_jax.datasets.ukbench import check_views, ukbench_groups
from cwf_jax.errors import InputError


def test_four_numbers_are_an_object():
  names = [f"ukbench{number:05d}.jpg" for number in range(10_200)]
  objects = ukbench_groups(names)
  assert objects.dtype == np.int64
  np.testing.assert_array_equal(objects, np.repeat(np.arange(2550), 4))
  check_views(objects)


def test_any_order_and_any_iterable():
  assert ukbench_groups(iter(["ukbench00009.jpg", "ukbench00000.jpg", "ukbench10199.jpg"])).tolist() == [2, 0, 2549]
  assert ukbench_groups([]).shape == (0,)


@pytest.mark.parametrize(
  "name",
  [
    *("ukbench0000.jpg", "ukbench000000.jpg", "ukbench00000.png", "ukbench00000", "UKBENCH00000.jpg", "xukbench00000.jpg"),
    *("ukbench00000.jpg ", "ukbench00000.jpg\n", "ukbench0000a.jpg", "ukbench-0001.jpg", "a/ukbench00000.jpg", ""),
    "ukbench0000\u0661.jpg",
  ],
)
def test_another_name_is_refused(name):
  with pytest.raises(InputError, match=r"^1 of 2 names are not UKBench's, ukbench00000\.jpg and so on: ") as caught:
    ukbench_groups(["ukbench00000.jpg", name])
  assert "\n" not in str(caught.value)


def test_wrong_names_are_counted_and_the_first_are_named():
  with pytest.raises(InputError, match=r"^7 of 8 names .*: x0, x1, x2, x3, x4 and more$"):
    ukbench_groups(["ukbench00000.jpg", *(f"x{number}" for number in range(7))])


@pytest.mark.parametrize(
  ("objects", "message"),
  [
    ([], "there is no image of UKBench"),
    ([0, 0, 0, 0, 1, 1, 1], r"1 of 2 objects of UKBench have not 4 views, by number \(views found\): 1 \(3\)$"),
    ([5] * 5 + [2], r"2 of 2 objects .*: 2 \(1\), 5 \(5\)$"),
    (list(range(9)), r"9 of 9 objects .*: 0 \(1\), 1 \(1\), 2 \(1\), 3 \(1\), 4 \(1\) and more$"),
  ],
)
def test_a_part_is_whole_objects(objects, message):
  with pytest.raises(InputError, match=message):
    check_views(np.asarray(objects, int))
