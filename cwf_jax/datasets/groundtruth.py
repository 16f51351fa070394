"""The ground truth of Oxford Buildings and Paris, read and written: four text files a query.

`NAME_query.txt` holds one line, the image's name and a box in its pixels: `oxc1_all_souls_000013 136.5 34.1 648.5 955.7`.
`NAME_good.txt`, `NAME_ok.txt` and `NAME_junk.txt` hold one image's name a line, and may be empty. Names have no ending.
J. Philbin et al., 2007; METHOD 5.1.
"""

import collections
import dataclasses
import math
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.files import write_if_changed
from cwf_jax.protocol import Box

LISTS = ("good", "ok", "junk")
PREFIX = "oxc1_"
"""What the query files of Oxford put before the image's name."""


class GroundTruthError(InputError):
  """A folder of ground truth, or queries to be written, with everything that is wrong with them."""


@dataclasses.dataclass(frozen=True)
class Query:
  """A query and its answers.

  Attributes:
    name: of the query, such as `all_souls_1`.
    image: the image it is cut from, without ending.
    box: (left, top, right, bottom) in pixels of the image.
    good, ok: images that should be found, without ending.
    junk: images that are skipped in the ranking.
  """

  name: str
  image: str
  box: Box
  good: tuple[str, ...]
  ok: tuple[str, ...]
  junk: tuple[str, ...]

  @property
  def positives(self) -> tuple[str, ...]:
    """Good, then ok, each name once."""
    return tuple(dict.fromkeys((*self.good, *self.ok)))


def read_groundtruth(folder: str | os.PathLike) -> tuple[Query, ...]:
  """Reads all queries of a folder; files with other names are left alone.

  A name that is twice in one list counts once. The prefix `oxc1_` of a query's image is removed.

  Returns:
    The queries, sorted by name.

  Raises:
    GroundTruthError: the folder cannot be read or holds no query, or any of: a file of a query is missing, cannot be read or
      is not UTF-8 (its name or its content), a query's line is no image and four finite numbers in order, a name is in two
      lists of a query.
  """
  path = Path(folder)
  try:
    files = set(os.listdir(path))
  except NotADirectoryError:
    raise GroundTruthError(f"{printable(path)} is a file; the ground truth is a folder of NAME_query.txt and so on") from None
  except (OSError, ValueError) as error:  # a zero byte is a ValueError
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be read: {reason_of(error)}") from None
  problems: list[str] = []
  queries = [_read_query(path, name, problems) for name in _list_names(files)]
  if not queries:
    problems.append("there is no query in it, no file NAME_query.txt")
  if problems:
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be used: {'; '.join(problems)}")
  return tuple(queries)


def write_groundtruth(folder: str | os.PathLike, queries: Iterable[Query]) -> None:
  """Writes four files a query, the same bytes each time; each file in one step, other files of the folder are left alone.

  Boxes are written with one decimal, as those of Oxford are; reading gives equal queries, apart from that rounding.

  Args:
    folder: made where it is not there.
    queries: at least one.

  Raises:
    GroundTruthError: the folder is a file or there is no query; nothing is written. Or any of: a query's name twice, a name
      that is empty or holds a path separator, whitespace or a control character, a name twice in the lists of a query, a
      box that is not four finite numbers in order when it is rounded.
    OSError: a file cannot be written.
  """
  queries = tuple(queries)
  problems = [] if queries else ["there is no query to write"]
  counts = collections.Counter(query.name for query in queries)
  problems += [f"the name {name!r} is that of {count} queries" for name, count in counts.items() if count > 1]
  for query in queries:
    problems += [f"{query.name!r}: {problem}" for problem in _check_names(query)]
    box = _in_order(round(float(side), 1) for side in query.box)
    if box is None:
      problems.append(f"{query.name!r}: a box is four finite numbers in order, a tenth of a pixel apart; found {query.box}")
  path = Path(folder)
  if problems:
    raise GroundTruthError(f"the ground truth {printable(path)} cannot be written: {'; '.join(problems)}")
  try:
    path.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError):
    raise GroundTruthError(f"{printable(path)} cannot be a folder: it or a part of its path is a file") from None
  for query in queries:
    for kind, lines in _format(query).items():
      write_if_changed(path / f"{query.name}_{kind}.txt", "".join(f"{line}\n" for line in lines).encode())


def _list_names(files: set[str]) -> list[str]:
  """The names that have a query's file, or all three lists: then the query's file is what is missing."""
  names = {kind: {file.removesuffix(f"_{kind}.txt") for file in files if file.endswith(f"_{kind}.txt")} for kind in LISTS}
  queries = {file.removesuffix("_query.txt") for file in files if file.endswith("_query.txt")}
  return sorted((queries | set.intersection(*names.values())) - {""})


def _read_query(folder: Path, name: str, problems: list[str]) -> Query:
  """The query as far as it could be read."""
  if any("\ud800" <= mark <= "\udfff" for mark in name):
    problems.append(f"the name of {printable(name)}_query.txt is not UTF-8")
  image, box = _read_box(folder / f"{name}_query.txt", problems)
  lists = {kind: _read_lines(folder / f"{name}_{kind}.txt", problems) for kind in LISTS}
  for one, other in (("good", "ok"), ("good", "junk"), ("ok", "junk")):
    common = [image for image in lists[one] if image in set(lists[other])]
    if common:
      files = " and ".join(printable(f"{name}_{kind}.txt") for kind in (one, other))
      problems.append(f"{files} both name {', '.join(map(printable, common))}")
  return Query(name, image, box, **lists)


def _read_box(file: Path, problems: list[str]) -> tuple[str, Box]:
  known = len(problems)
  lines = _read_lines(file, problems)
  words = lines[0].split() if len(lines) == 1 else []
  try:
    box = _in_order(map(float, words[1:]))
  except ValueError:
    box = None
  if box is not None and words[0] != PREFIX:
    return words[0].removeprefix(PREFIX), box
  if len(problems) == known:
    found = f"found {printable(lines[0])[:100]!r}" if len(lines) == 1 else f"found {len(lines)} lines"
    problems.append(
      f"{printable(file.name)} should be one line, an image and four finite numbers with left < right and top < bottom "
      f"(image left top right bottom); {found}"
    )
  return "", (0.0, 0.0, 0.0, 0.0)


def _read_lines(file: Path, problems: list[str]) -> tuple[str, ...]:
  """The lines that are not blank, each once, without blanks around."""
  try:
    text = file.read_bytes().decode("utf-8-sig")
  except FileNotFoundError:
    problems.append(f"{printable(file.name)} is missing")
  except UnicodeDecodeError:
    problems.append(f"{printable(file.name)} is not UTF-8")
  except OSError as error:
    problems.append(f"{printable(file.name)} cannot be read: {reason_of(error)}")
  else:
    # `splitlines` would split at characters that a name may hold.
    return tuple(dict.fromkeys(line for line in map(str.strip, re.split(r"\r\n|\r|\n", text)) if line))
  return ()


def _in_order(sides: Iterable[float]) -> Box | None:
  box = tuple(sides)
  if len(box) != 4 or not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
    return None
  return box


def _check_names(query: Query) -> list[str]:
  listed = [name for kind in LISTS for name in getattr(query, kind)]
  problems = [
    f"a name has a letter or more, and no path separator, whitespace or control character; found {name!r}"
    for name in dict.fromkeys((query.name, query.image, *listed))
    if name.split() != [name] or any(mark in "/\\\ufeff" or unicodedata.category(mark) in ("Cc", "Cs") for mark in name)
  ]
  return problems + [f"{name!r} is {n} times in its lists" for name, n in collections.Counter(listed).items() if n > 1]


def _format(query: Query) -> dict[str, tuple[str, ...]]:
  """The lines of each file."""
  # An image whose own name begins with the prefix gets a second one, which reading removes.
  image = PREFIX + query.image if query.image.startswith(PREFIX) else query.image
  sides = " ".join(f"{round(float(side), 1) + 0.0:.1f}" for side in query.box)  # + 0.0: no "-0.0"
  return {**{kind: getattr(query, kind) for kind in LISTS}, "query": (f"{image} {sides}",)}
