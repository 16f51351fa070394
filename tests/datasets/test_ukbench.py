"""Objects from file names, and names and parts that are refused."""

import numpy as np
import pytest

from cwf_jax.datasets.ukbench import find_problems, ukbench_groups
from cwf_jax.errors import InputError


def test_four_numbers_are_an_object():
  names = [f"ukbench{number:05d}.jpg" for number in range(10_200)]
  objects = ukbench_groups(names)
  assert objects.dtype == np.int64
  np.testing.assert_array_equal(objects, np.repeat(np.arange(2550), 4))
  assert find_problems(names) == []


def test_any_order_and_any_iterable():
  assert ukbench_groups(iter(["ukbench00009.jpg", "ukbench00000.jpg", "ukbench10199.jpg"])).tolist() == [2, 0, 2549]
  assert ukbench_groups([]).shape == (0,)


@pytest.mark.parametrize(
  "name",
  [
    *("ukbench0000.jpg", "ukbench000000.jpg", "ukbench00000.png", "ukbench00000", "UKBENCH00000.jpg", "xukbench00000.jpg"),
    *("ukbench00000.jpg ", "ukbench00000.jpg\n", "ukbench0000a.jpg", "ukbench-0001.jpg", ""),
    "ukbench0000\u0661.jpg",
  ],
)
def test_another_name_is_refused(name):
  with pytest.raises(InputError, match=r"^1 name is not of UKBench, ukbench00000\.jpg and so on: ") as caught:
    ukbench_groups(["ukbench00000.jpg", name])
  assert "\n" not in str(caught.value)


def test_wrong_names_are_counted_and_the_first_are_named():
  with pytest.raises(InputError, match=r"^7 names are not .*: x0, x1, x2, x3, x4 and 2 more$"):
    ukbench_groups(["ukbench00000.jpg", *(f"x{number}" for number in range(7))])


@pytest.mark.parametrize(
  ("paths", "problems"),
  [
    ([], [("there is no image of UKBench", ())]),
    ([f"a/ukbench{number:05d}.jpg" for number in (*range(4), *range(20, 24))], []),
    (
      ["ukbench00000.jpg", "ukbench00001.jpg", "x/ukbench00001.jpg", "ukbench00003.jpg", "x/foo.jpg", "ukbench10199.jpg"],
      [
        ("1 name is not of UKBench, ukbench00000.jpg and so on", ("x/foo.jpg",)),
        ("1 name is that of several files", ("ukbench00001.jpg and x/ukbench00001.jpg",)),
        (
          "4 views are missing of objects of which others are there",
          ("ukbench00002.jpg", "ukbench10196.jpg", "ukbench10197.jpg", "ukbench10198.jpg"),
        ),
      ],
    ),
  ],
)
def test_a_part_is_whole_objects(paths, problems):
  assert find_problems(paths) == problems
