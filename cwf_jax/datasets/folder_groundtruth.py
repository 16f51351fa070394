"""The ground truth of a folder of images, in one JSON file:

    {"database": ["a.jpg", "b.jpg", "c.jpg"],
     "queries": {"q.jpg": {"box": [10, 20, 110, 90], "relevant": ["a.jpg"], "junk": ["c.jpg"]}}}

Names are those of the files below the folder. A query may lie in the same folder outside the database; its box, in pixels of
the upright image, may be left out and then is the whole image; so may its junk. Other programs rely on this form.
"""

import collections
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwf_jax.datasets.groundtruth import GroundTruthError
from cwf_jax.errors import compose, printable, reason_of
from cwf_jax.problems import count_of, join_problems, list_names
from cwf_jax.protocol import Box

_FARTHEST = 2**53
"""Pixels; whole numbers beyond it are no exact floats, and may be none at all."""


@dataclasses.dataclass(frozen=True)
class FolderQuery:
  """A query and its answers.

  Attributes:
    image: the query's file; it is the query's name, too.
    box: (left, top, right, bottom) in pixels; None is the whole image.
    relevant: images of the database that should be found. A query without any leaves the mean.
    junk: images that are skipped in the ranking.
  """

  image: str
  box: Box | None
  relevant: tuple[str, ...]
  junk: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class FolderGroundTruth:
  """What is searched, and for what.

  Attributes:
    database: the images that are ranked, in the file's order.
    queries: in the file's order.
  """

  database: tuple[str, ...]
  queries: tuple[FolderQuery, ...]


def read_folder_groundtruth(file: str | os.PathLike) -> FolderGroundTruth:
  """Reads the file. A name that is twice among what should be found or skipped counts once.

  Raises:
    GroundTruthError: the file cannot be read or is no JSON; or, the first ten such problems in one message: a key is missing,
      unknown or twice, a value is of another kind, there is no database or no query, a name is twice in the database, a name
      that should be found or skipped is not in the database or is both, a box is not four finite numbers in order.
  """
  path = Path(file)
  problems: list[str] = []
  content = _read_json(path, problems)
  _check_keys(content, "it", ("database", "queries"), (), problems)
  database = _read_names(content.get("database", []), "database", problems)
  listed = content.get("database") if database else ()
  twice = [name for name, times in collections.Counter(map(str, listed)).items() if times > 1]
  if twice:
    problems.append(f"the database has {count_of(twice, 'name', 'names')} more than once: {list_names(twice)}")
  queries = content.get("queries", {})
  if not isinstance(queries, dict):
    problems.append(f"queries is an object with one entry a query; found {_kind(queries)}")
    queries = {}
  if "database" in content and not database:
    problems.append("the database is empty")
  if "queries" in content and not queries:
    problems.append("there is no query")
  counts = collections.Counter(map(compose, database))
  known = {compose(name): name for name in database if counts[compose(name)] == 1} | {name: name for name in database}
  read = tuple(_read_query(name, value, known, problems) for name, value in queries.items())
  if problems:
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be used: {join_problems(problems)}")
  return FolderGroundTruth(database, read)


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
  """The file's object; keys that are twice in an object are problems."""

  def take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
      counts = collections.Counter(name for name, _ in pairs)
      problems.append(f"keys that are twice in one object: {list_names([name for name, count in counts.items() if count > 1])}")
    return found

  try:
    content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=take_pairs)
  except OSError as error:
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be read: {reason_of(error)}") from None
  except (ValueError, RecursionError) as error:  # a zero byte in the path is a ValueError, too
    reason = printable(str(error).splitlines()[0])[:200]
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be read as JSON in UTF-8: {reason}") from None
  if not isinstance(content, dict):
    raise GroundTruthError(
      f"the ground truth {printable(path)} should be a JSON object with the keys database and queries; found {_kind(content)}"
    )
  return content


def _read_query(name: str, value: Any, database: Mapping[str, str], problems: list[str]) -> FolderQuery:
  """The query as far as it could be read.

  Args:
    name, value: of the query in the file.
    database: the name in the database by its spellings.
    problems: takes what is wrong.
  """
  where = f"query '{printable(name)[:200]}'"
  if not isinstance(value, dict):
    problems.append(f"{where} is an object with the key relevant; found {_kind(value)}")
    return FolderQuery(name, None, (), ())
  _check_keys(value, where, ("relevant",), ("junk", "box"), problems)
  lists = {}
  for key in ("relevant", "junk"):
    names = _read_names(value.get(key, []), f"{where}: {key}", problems)
    lists[key] = tuple(dict.fromkeys(database.get(listed) or database.get(compose(listed), listed) for listed in names))
    unknown = [listed for listed in lists[key] if listed not in database]
    if unknown:
      problems.append(f"{where}: {count_of(unknown, 'image', 'images')} of {key} not in the database: {list_names(unknown)}")
  both = [listed for listed in lists["relevant"] if listed in set(lists["junk"])]
  if both:
    problems.append(f"{where}: {count_of(both, 'image is', 'images are')} both relevant and junk: {list_names(both)}")
  return FolderQuery(name, _read_box(value["box"], where, problems) if "box" in value else None, **lists)


def _check_keys(value: dict, where: str, needed: tuple[str, ...], optional: tuple[str, ...], problems: list[str]) -> None:
  missing, unknown = [key for key in needed if key not in value], sorted(set(value) - {*needed, *optional})
  if missing:
    problems.append(f"{where} lacks {', '.join(missing)}")
  if unknown:
    problems.append(f"{where} has keys that are not known: {list_names(unknown)} (known are {', '.join((*needed, *optional))})")


def _read_names(value: Any, where: str, problems: list[str]) -> tuple[str, ...]:
  """The names, each once."""
  if not isinstance(value, list):
    problems.append(f"{where} is a list of names; found {_kind(value)}")
    return ()
  wrong = [item for item in value if not isinstance(item, str) or not item]
  if wrong:
    found = f"{len(wrong)} of its {len(value)} items are none, the first is {_kind(wrong[0])}"
    problems.append(f"{where} is a list of names; {found}")
  return tuple(dict.fromkeys(item for item in value if isinstance(item, str) and item))


def _read_box(value: Any, where: str, problems: list[str]) -> Box | None:
  sides = value if isinstance(value, list) and len(value) == 4 else []
  if sides and all(type(side) in (int, float) and abs(side) < math.inf for side in sides):  # a NaN fails, too
    left, top, right, bottom = sides
    if left < right and top < bottom and max(map(abs, sides)) <= _FARTHEST:
      return float(left), float(top), float(right), float(bottom)
  wanted = "[left, top, right, bottom], four finite numbers, left < right and top < bottom"
  problems.append(f"{where}: a box is {wanted}; found {printable(json.dumps(value))[:100]}")
  return None


def _kind(value: Any) -> str:
  """What JSON calls the value."""
  kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
  if value == "":
    return "an empty text"
  return kinds.get(type(value), "a number")
