"""INRIA Holidays' groups, which are told by the files' names alone: the first image of each is its query.

Jegou et al., ECCV 2008: `100000.jpg`, a query, `100001.jpg` and on, which should be found; then `100100.jpg`, the next query.

    >>> holidays_groups(["100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg"])
    array([1000, 1000, 1001, 1001])
"""

import collections
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from cwf_jax.datasets.problems import list_names
from cwf_jax.errors import InputError

_STEP = 100
"""Numbers of a group; its query's is the first."""

_NAME = re.compile(r"([0-9]{6})\.jpg")


def holidays_groups(names: Iterable[str]) -> Int[np.ndarray, "n"]:
  """The group of each image, its number divided by 100.

  Args:
    names: six digits and `.jpg`, without folders, in any order: whole groups.

  Raises:
    InputError: there is no image; names that are no such name; or names that are there twice, groups without their query or
      with nothing but it. All are counted, the first are named.
  """
  names = list(names)
  numbers = _read_numbers(names)
  if not names:
    raise InputError("there is no image of Holidays")
  groups = numbers // _STEP
  members = collections.Counter(groups.tolist())
  queries = {number // _STEP for number in numbers.tolist() if number % _STEP == 0}
  problems = []
  for found, of, problem in (
    ([name for name, count in collections.Counter(names).items() if count > 1], "names", "are there more than once"),
    ([f"{group}00.jpg" for group in sorted(members) if group not in queries], "groups", "lack their query"),
    ([f"{group}00.jpg" for group in sorted(queries) if members[group] == 1], "queries", "have no other image to find"),
  ):
    if found:
      total = {"names": len(names), "groups": len(members), "queries": len(queries)}[of]
      problems.append(f"{len(found)} of {total} {of} of Holidays {problem}: {list_names(found)}")
  if problems:
    raise InputError("; ".join(problems))
  return groups


def find_queries(names: Iterable[str]) -> Bool[np.ndarray, "n"]:
  """Which images are queries: those whose number is a multiple of 100.

  Raises:
    InputError: names that are not six digits and `.jpg`.
  """
  return _read_numbers(list(names)) % _STEP == 0


def _read_numbers(names: Sequence[str]) -> Int[np.ndarray, "n"]:
  found = [_NAME.fullmatch(name) for name in names]
  wrong = [name for name, match in zip(names, found, strict=True) if match is None]
  if wrong:
    raise InputError(f"{len(wrong)} of {len(names)} names are not Holidays', 100000.jpg and so on: {list_names(wrong)}")
  return np.asarray([int(match[1]) for match in found], np.int64)
