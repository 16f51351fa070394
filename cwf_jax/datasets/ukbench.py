"""UKBench's objects, which are told by the files' names alone: four views each, in the order of the numbers.

Nister and Stewenius, CVPR 2006: `ukbench00000.jpg` to `ukbench10199.jpg`, and object i is 4 i to 4 i + 3.

    >>> ukbench_groups(["ukbench00003.jpg", "ukbench00004.jpg"])
    array([0, 1])
"""

import collections
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from cwf_jax.errors import InputError
from cwf_jax.problems import Problem, count_of

VIEWS = 4
"""Photographs of each object."""

_NAME = re.compile(r"ukbench([0-9]{5})\.jpg")


def ukbench_groups(names: Iterable[str]) -> Int[np.ndarray, "n"]:
  """The number of the object that each file shows.

  Args:
    names: `ukbench` with five digits and `.jpg`, without folders.

  Raises:
    InputError: names that are no such name; all of them are counted, and the first are named.
  """
  names = list(names)
  wrong = _find_wrong(names)
  if wrong:
    raise InputError(str(wrong[0]))
  return np.asarray([int(_NAME.fullmatch(name)[1]) // VIEWS for name in names], np.int64)


def find_problems(paths: Iterable[str]) -> list[Problem]:
  """Why images are not whole objects of UKBench, of which every query can find four: there is none; names that are no such
  name; a view that several files have; objects that lack views.

  Args:
    paths: whose last part is the name.
  """
  paths = list(paths)
  if not paths:
    return [Problem("there is no image of UKBench")]
  files = collections.defaultdict(list)
  for path in paths:
    name = path.rpartition("/")[2]
    if _NAME.fullmatch(name):
      files[name].append(path)
  twice = tuple(" and ".join(sorted(files[name])) for name in sorted(files) if len(files[name]) > 1)
  objects = sorted({int(_NAME.fullmatch(name)[1]) // VIEWS for name in files})
  wanted = [f"ukbench{VIEWS * number + view:05d}.jpg" for number in objects for view in range(VIEWS)]
  lacking = tuple(name for name in wanted if name not in files)
  problems = _find_wrong(paths)
  if twice:
    problems.append(Problem(f"{count_of(twice, 'name is that', 'names are those')} of several files", twice))
  if lacking:
    what = f"{count_of(lacking, 'view is', 'views are')} missing of objects of which others are there"
    problems.append(Problem(what, lacking))
  return problems


def _find_wrong(paths: Sequence[str]) -> list[Problem]:
  wrong = tuple(path for path in paths if not _NAME.fullmatch(path.rpartition("/")[2]))
  what = f"{count_of(wrong, 'name is', 'names are')} not of UKBench, ukbench00000.jpg and so on"
  return [Problem(what, wrong)] if wrong else []
