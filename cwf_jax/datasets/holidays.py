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

from cwf_jax.errors import InputError
from cwf_jax.problems import Problem, count_of, list_names

_STEP = 100
"""Numbers of a group; its query's is the first."""

_NAME = re.compile(r"([0-9]{6})\.jpg")


def holidays_groups(names: Iterable[str]) -> Int[np.ndarray, "n"]:
  """The group of each image, its number divided by 100.

  Args:
    names: six digits and `.jpg`, without folders, in any order: whole groups, each name once.

  Raises:
    InputError: see `find_problems`; or names that are there twice.
  """
  names = list(names)
  problems = find_problems(names)
  twice = tuple(name for name, count in collections.Counter(names).items() if count > 1)
  if twice:
    problems.append(Problem(f"{count_of(twice, 'name is', 'names are')} there more than once", twice))
  if problems:
    raise InputError("; ".join(map(str, problems)))
  return _read_numbers(names) // _STEP


def find_problems(paths: Iterable[str]) -> list[Problem]:
  """Why images are not those of Holidays: there is none; names that are no such name; groups without their query, or with
  nothing but it.

  Args:
    paths: whose last part is the name.
  """
  paths = list(paths)
  if not paths:
    return [Problem("there is no image of Holidays")]
  found = {path: _NAME.fullmatch(path.rpartition("/")[2]) for path in paths}
  members = collections.defaultdict(list)
  for path, match in found.items():
    if match is not None:
      members[int(match[1]) // _STEP].append(path)
  lacking, alone = [], []
  for group, names in sorted(members.items()):
    query = f"{group * _STEP:06d}.jpg"
    is_there = query in (name.rpartition("/")[2] for name in names)
    if not is_there:
      lacking.append(f"{query} (of {list_names(sorted(names))})")
    elif len(names) == 1:
      alone.append(query)
  wrong = tuple(path for path, match in found.items() if match is None)
  told = (
    (f"{count_of(wrong, 'name is', 'names are')} not of Holidays, 100000.jpg and so on", wrong),
    (f"{count_of(lacking, 'group lacks its query', 'groups lack their query')}", tuple(lacking)),
    (f"{count_of(alone, 'query has', 'queries have')} no other image to find", tuple(alone)),
  )
  return [Problem(what, names) for what, names in told if names]


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
    raise InputError(f"{count_of(wrong, 'name is', 'names are')} not of Holidays, 100000.jpg and so on: {list_names(wrong)}")
  return np.asarray([int(match[1]) for match in found], np.int64)
