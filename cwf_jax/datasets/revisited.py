"""The ground truth of the revisited Oxford and Paris, ROxford5k and RParis6k: one pickle, `gnd_roxford5k.pkl`.

A dictionary of `imlist` (the database, names without ending), `qimlist` (the queries' images, none of them in the database)
and `gnd`: for each query `bbx`, and rows of `imlist` that are `easy` or `hard` to find, or `junk`. F. Radenovic et al., 2018;
METHOD 5.3. The pickle is read as data: nothing in it is run.
"""

import collections
import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from cwf_jax.datasets.groundtruth import GroundTruthError
from cwf_jax.datasets.plain_pickle import MOST_STEPS, PlainPickleError, read_plain_pickle
from cwf_jax.errors import printable, reason_of
from cwf_jax.problems import count_of, join_problems, list_names
from cwf_jax.protocol import Box

LISTS = ("easy", "hard", "junk")

_MOST_BYTES = 64 * 2**20
"""Of a file; RParis6k's has 276,508."""

_FARTHEST = 2**53
"""Pixels; whole numbers beyond it are no exact floats, and may be none at all."""

_NO_BOX = (0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class RevisitedQuery:
  """A query and its answers; which of them count is a matter of the protocol: Easy, Medium or Hard.

  Attributes:
    image: the query's, without ending; it is not in the database.
    box: (left, top, right, bottom) in pixels of the image.
    easy, hard: images of the database that show the same, clearly or barely.
    junk: images that are skipped in the ranking.
  """

  image: str
  box: Box
  easy: tuple[str, ...]
  hard: tuple[str, ...]
  junk: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class RevisitedGroundTruth:
  """What is searched, and for what.

  Attributes:
    database: the images that are ranked, without ending, in the file's order.
    queries: in the file's order.
  """

  database: tuple[str, ...]
  queries: tuple[RevisitedQuery, ...]


def read_revisited(file: str | os.PathLike) -> RevisitedGroundTruth:
  """Reads the pickle, of whatever protocol, lists or NumPy's arrays. A row that is twice in one list counts once.

  Raises:
    GroundTruthError: the file cannot be read, has over 64 MB, is no pickle or holds more than plain values and arrays (code
      is named and never run); or, the first ten of such problems in one message: a key is missing or unknown, a value is of
      another kind, there is no database or no query, a name is no text or is there twice, a query's image is in the database,
      a row is no row of the database or is in two lists of a query, a box is not four finite numbers in order.
  """
  path = Path(file)
  content = _read(path)
  problems: list[str] = []
  _check_keys(content, "it", ("imlist", "qimlist", "gnd"), problems)
  database = _read_names(content.get("imlist", []), "imlist", problems)
  images = _read_names(content.get("qimlist", []), "qimlist", problems)
  answers = content.get("gnd", [])
  if not isinstance(answers, list | tuple):
    problems.append(f"gnd is a list with one entry a query; found {_kind(answers)}")
    answers = ()
  elif "qimlist" in content and "gnd" in content and len(answers) != len(images):
    problems.append(f"gnd has an entry for each query of qimlist; found {len(answers)} for {len(images)}")
  if "imlist" in content and not database:
    problems.append("the database is empty")
  if "qimlist" in content and not images:
    problems.append("there is no query")
  # One list may stand for those of many queries, in a small file.
  lists = (rows for answer in answers if isinstance(answer, dict) for rows in map(answer.get, LISTS))
  listed = sum(len(rows) for rows in lists if isinstance(rows, list | tuple))
  if listed > MOST_STEPS:
    problems.append(f"its queries list {listed:,} rows, far more than a ground truth needs")
    answers = ()
  known = set(database)
  both = [name for name in images if name and name in known]
  if both:
    problems.append(f"{len(both)} of the queries' images are in the database, too: {list_names(both)}")
  queries = tuple(
    _read_query(image, answer, f"query {number} ({printable(image)[:100]})", database, problems)
    for number, (image, answer) in enumerate(zip(images, answers, strict=False))
  )
  if problems:
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be used: {join_problems(problems)}")
  return RevisitedGroundTruth(database, queries)


def _read(path: Path) -> dict[Any, Any]:
  """The pickle's dictionary."""
  try:
    with open(path, "rb") as file:
      content = file.read(_MOST_BYTES + 1)
  except (OSError, ValueError) as error:  # a zero byte in the path is a ValueError
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be read: {reason_of(error)}") from None
  if len(content) > _MOST_BYTES:
    raise GroundTruthError(f"the ground truth {printable(path)} has over {_MOST_BYTES >> 20} MB; a gnd_*.pkl has far less")
  try:
    value = read_plain_pickle(content)
  except PlainPickleError as error:
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be read as a pickle of plain values: {error}") from None
  if not isinstance(value, dict):
    raise GroundTruthError(
      f"the ground truth {printable(path)} should be a dictionary of imlist, qimlist and gnd; found {_kind(value)}"
    )
  return value


def _read_query(image: str, value: Any, where: str, database: tuple[str, ...], problems: list[str]) -> RevisitedQuery:
  """The query as far as it could be read."""
  if not isinstance(value, dict):
    problems.append(f"{where} is a dictionary of bbx, easy, hard and junk; found {_kind(value)}")
    return RevisitedQuery(image, _NO_BOX, (), (), ())
  _check_keys(value, where, ("bbx", *LISTS), problems)
  rows = {key: _read_rows(value.get(key, []), f"{where}: {key}", len(database), problems) for key in LISTS}
  for one, other in (("easy", "hard"), ("easy", "junk"), ("hard", "junk")):
    common = [row for row in rows[one] if row in rows[other]]
    if common:
      names = list_names([database[row] for row in common])
      problems.append(f"{where}: {count_of(common, 'row is', 'rows are')} both {one} and {other}: {names}")
  box = _read_box(value["bbx"], where, problems) if "bbx" in value else _NO_BOX
  return RevisitedQuery(image, box, **{key: tuple(database[row] for row in rows[key]) for key in LISTS})


def _check_keys(value: dict, where: str, needed: tuple[str, ...], problems: list[str]) -> None:
  missing = [key for key in needed if key not in value]
  unknown = [key if isinstance(key, str) else _kind(key) for key in value if key not in needed]
  if missing:
    problems.append(f"{where} lacks {', '.join(missing)}")
  if unknown:
    problems.append(f"{where} has keys that are not known: {list_names(unknown)} (known are {', '.join(needed)})")


def _read_names(value: Any, where: str, problems: list[str]) -> tuple[str, ...]:
  """The names; those that are none are empty, so that rows stay what they are."""
  if not isinstance(value, list | tuple):
    problems.append(f"{where} is a list of names; found {_kind(value)}")
    return ()
  names = tuple(item if isinstance(item, str) else "" for item in value)
  wrong = [item for item, name in zip(value, names, strict=True) if not name]
  if wrong:
    found = f"{len(wrong)} of its {len(value)} items are none, the first is {_kind(wrong[0])}"
    problems.append(f"{where} is a list of names; {found}")
  twice = [name for name, count in collections.Counter(names).items() if name and count > 1]
  if twice:
    problems.append(f"{len(twice)} names are in {where} more than once: {list_names(twice)}")
  return names


def _read_rows(value: Any, where: str, count: int, problems: list[str]) -> dict[int, None]:
  """The rows in order, each once."""
  if not isinstance(value, list | tuple):
    problems.append(f"{where} is a list of rows of imlist; found {_kind(value)}")
    return {}
  wrong = [item for item in value if not (isinstance(item, int | float) and not isinstance(item, bool) and item % 1 == 0)]
  if wrong:
    found = f"{len(wrong)} of its {len(value)} items are none, the first is {_kind(wrong[0])}"
    problems.append(f"{where} is a list of rows, whole numbers; {found}")
    return {}
  outside = [item for item in value if not 0 <= item < count]
  if outside:
    shown = list_names([f"{item:d}" if -(10**9) < item < 10**9 else "a huge number" for item in map(int, outside)])
    problems.append(f"{where}: {count_of(outside, 'row is', 'rows are')} outside of imlist, which has {count}: {shown}")
  return dict.fromkeys(int(item) for item in value if 0 <= item < count)


def _read_box(value: Any, where: str, problems: list[str]) -> Box:
  sides = value if isinstance(value, list | tuple) and len(value) == 4 else ()
  if sides and all(type(side) in (int, float) and abs(side) <= _FARTHEST for side in sides):  # a NaN fails, too
    left, top, right, bottom = map(float, sides)
    if left < right and top < bottom:
      return left, top, right, bottom
  plain = [f"{side:g}" if type(side) in (int, float) and abs(side) <= _FARTHEST else _kind(side) for side in sides]
  found = ", ".join(plain) if plain else _kind(value)
  wanted = "left, top, right, bottom, four finite numbers, left < right and top < bottom"
  problems.append(f"{where}: bbx is {wanted}; found {found}")
  return _NO_BOX


def _kind(value: Any) -> str:
  """What a value is, in words; a number that is short as it is."""
  if isinstance(value, list | tuple):
    return f"a list of {len(value)}"
  if isinstance(value, float) and (value % 1 or not math.isfinite(value)):
    return f"{value:g}"
  if value == "":
    return "an empty text"
  kinds = {dict: "a dictionary", str: "a text", bytes: "bytes", bytearray: "bytes", bool: "true or false", type(None): "None"}
  return kinds.get(type(value), "a number" if isinstance(value, int | float) else "something else")
