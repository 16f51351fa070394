"""UKBench's objects, which are told by the files' names alone: four views each, in the order of the numbers.

Nister and Stewenius, CVPR 2006: `ukbench00000.jpg` to `ukbench10199.jpg`, and object i is 4 i to 4 i + 3.

    >>> ukbench_groups(["ukbench00003.jpg", "ukbench00004.jpg"])
    array([0, 1])
"""

import re
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from cwf_jax.datasets.problems import list_names
from cwf_jax.errors import InputError

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
  found = [_NAME.fullmatch(name) for name in names]
  wrong = [name for name, match in zip(names, found, strict=True) if match is None]
  if wrong:
    raise InputError(f"{len(wrong)} of {len(names)} names are not UKBench's, ukbench00000.jpg and so on: {list_names(wrong)}")
  return np.asarray([int(match[1]) // VIEWS for match in found], np.int64)


def check_views(objects: Int[np.ndarray, "n"]) -> None:
  """Checks that a part of UKBench is whole objects: only then can every query find four.

  Raises:
    InputError: there is no image, or objects have another number of views than four; all are counted, the first are named.
  """
  numbers, counts = np.unique(objects, return_counts=True)
  if not numbers.size:
    raise InputError("there is no image of UKBench")
  wrong = [f"{number} ({count})" for number, count in zip(numbers, counts, strict=True) if count != VIEWS]
  if wrong:
    raise InputError(
      f"{len(wrong)} of {len(numbers)} objects of UKBench have not {VIEWS} views, by number (views found): {list_names(wrong)}"
    )
