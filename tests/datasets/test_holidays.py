"""Groups and queries from file names, and names and groups that are refused."""

import numpy as np
import pytest

from cwf_jax.datasets.holidays import find_problems, find_queries, holidays_groups
from cwf_jax.errors import InputError


def test_the_number_divided_by_100_is_the_group():
  sizes = [2 + number % 5 for number in range(500)]
  names = [f"{100_000 + 100 * group + number}.jpg" for group, size in enumerate(sizes) for number in range(size)]
  groups, queries = holidays_groups(names), find_queries(names)
  assert groups.dtype == np.int64 and queries.dtype == bool
  np.testing.assert_array_equal(groups, np.repeat(np.arange(1000, 1500), sizes))
  assert queries.sum() == 500 and [names[row] for row in np.flatnonzero(queries)][:2] == ["100000.jpg", "100100.jpg"]


def test_any_order_and_any_iterable():
  names = ["100101.jpg", "000003.jpg", "100100.jpg", "000000.jpg", "100199.jpg"]
  assert holidays_groups(iter(names)).tolist() == [1001, 0, 1001, 0, 1001]
  assert find_queries(iter(names)).tolist() == [False, False, True, True, False]
  assert find_queries([]).shape == (0,)


@pytest.mark.parametrize("read", [holidays_groups, find_queries])
@pytest.mark.parametrize(
  "name",
  [
    *("10000.jpg", "1000000.jpg", "100000.png", "100000", "100000.JPG", "x100000.jpg", "100000.jpg ", "100000.jpg\n"),
    *("10000a.jpg", "-10000.jpg", "jpg/100000.jpg", "", "10000\u0661.jpg"),
  ],
)
def test_another_name_is_refused(name, read):
  with pytest.raises(InputError, match=r"^1 name is not of Holidays, 100000\.jpg and so on: ") as caught:
    read(["100000.jpg", "100001.jpg", name])
  assert "\n" not in str(caught.value)


def test_wrong_names_are_counted_and_the_first_are_named():
  with pytest.raises(InputError, match=r"^7 names are not .*: x0, x1, x2, x3, x4 and 2 more"):
    holidays_groups(["100000.jpg", *(f"x{number}" for number in range(7))])


@pytest.mark.parametrize(
  ("numbers", "message"),
  [
    ([], "there is no image of Holidays"),
    ([100000], r"1 query has no other image to find: 100000\.jpg"),
    ([100001, 100002], r"1 group lacks its query: 100000\.jpg \(of 100001\.jpg, 100002\.jpg\)"),
    ([100000, 100001, 100001], r"1 name is there more than once: 100001\.jpg"),
    (
      [100000, 100001, 100101, 100200, 100302, 100401, 100501, 100601, 100701],
      r"6 groups lack their query: 100100\.jpg \(of 100101\.jpg\), .*, 100600\.jpg \(of 100601\.jpg\) and 1 more; "
      r"1 query has no other image to find: 100200\.jpg",
    ),
  ],
)
def test_groups_are_whole(numbers, message):
  with pytest.raises(InputError, match=f"^{message}$"):
    holidays_groups(f"{number}.jpg" for number in numbers)


def test_all_that_is_wrong_is_told_by_path():
  found = find_problems(["jpg/100000.jpg", "jpg/100001.jpg", "jpg/IMG_1.jpg", "100101.jpg", "jpg/100102.jpg", "100200.jpg"])
  assert found == [
    ("1 name is not of Holidays, 100000.jpg and so on", ("jpg/IMG_1.jpg",)),
    ("1 group lacks its query", ("100100.jpg (of 100101.jpg, jpg/100102.jpg)",)),
    ("1 query has no other image to find", ("100200.jpg",)),
  ]
