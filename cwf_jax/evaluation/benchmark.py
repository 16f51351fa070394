"""A collection with known answers: what is ranked, what is looked for, and how a ranking is scored.

    benchmark = open_benchmark("toy_oxford", "landmarks")
    benchmark.score(find_places(scores, benchmark.listed, order))["mAP"].mean()

Oxford's four files a query, the pickles of the revisited sets, names of files alone (Holidays, UKBench) and a folder's JSON
become one form here: rows of the database that should be found, and rows that are skipped. METHOD.md, section 5.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cwf_jax.datasets.catalogue import KnownSet, compare_names, find_known
from cwf_jax.datasets.folder_groundtruth import read_folder_groundtruth
from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.datasets.holidays import find_queries, holidays_groups
from cwf_jax.datasets.revisited import read_revisited
from cwf_jax.datasets.ukbench import check_views, ukbench_groups
from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.evaluation.average_precision import average_precisions, precisions_at
from cwf_jax.evaluation.ns_score import ns_scores_of_places
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.protocol import Box

Places = Int[np.ndarray, "q m"]
Values = Float[np.ndarray, "q"]


_DIFFICULTIES = {
  "Medium": (("easy", "hard"), ("junk",)),
  "Easy": (("easy",), ("hard", "junk")),
  "Hard": (("hard",), ("easy", "junk")),
}
"""Of the revisited sets: which lists should be found, and which are skipped."""


class Query(NamedTuple):
  """What is looked for: an image, or a box in it.

  Attributes:
    name: of the query, each once.
    image: its id.
    box: in pixels of the upright image, as the ground truth has it; None is the whole image.
  """

  name: str
  image: str
  box: Box | None


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
  """A score of rankings.

  Attributes:
    name: "mAP", "mAP Medium", "mP@10 Hard", "N-S".
    positive: [q p] rows of the database that should be found; -1 after the last.
    junk: [q j] rows that are skipped.
    measure: of their places, a value for each query; NaN where it has no positive.
  """

  name: str
  positive: Int[np.ndarray, "q p"]
  junk: Int[np.ndarray, "q j"]
  measure: Callable[[Places, Places], Values]


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
  """Images, queries among them or beside them, and metrics.

  Attributes:
    name: of the set.
    listing: where the images are.
    database: the ids of the images that are ranked, in order.
    queries: in order.
    metrics: the one that counts first.
  """

  name: str
  listing: Listing
  database: tuple[str, ...]
  queries: tuple[Query, ...]
  metrics: tuple[Metric, ...]

  @property
  def images(self) -> tuple[str, ...]:
    """The ids of all images that are encoded whole, sorted: of the database, and of queries without a box."""
    return tuple(sorted({*self.database, *(query.image for query in self.queries if query.box is None)}))

  @functools.cached_property
  def listed(self) -> Int[np.ndarray, "q m"]:
    """The rows whose places the metrics need, of all of them side by side; -1 where there is none."""
    return np.concatenate([rows for metric in self.metrics for rows in (metric.positive, metric.junk)], axis=1)

  def score(self, places: Places) -> dict[str, Values]:
    """The value of each query by each metric.

    Args:
      places: of `listed` in the whole ranking, from 0; -1 where there is none.
    """
    found, start = {}, 0
    for metric in self.metrics:
      middle, end = start + metric.positive.shape[1], start + metric.positive.shape[1] + metric.junk.shape[1]
      found[metric.name] = metric.measure(places[:, start:middle], places[:, middle:end])
      start = end
    return found

  @functools.cached_property
  def digest(self) -> str:
    """Of database, queries and answers: a score depends on it."""
    shapes = [(metric.name, metric.positive.shape, metric.junk.shape) for metric in self.metrics]
    parts = [repr((self.database, self.queries, shapes)).encode(), self.listed.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()

  @functools.cached_property
  def own_rows(self) -> Int[np.ndarray, "q"]:
    """The row of each query's own image; -1 where it is not in the database."""
    place = {image_id: row for row, image_id in enumerate(self.database)}
    return np.asarray([place.get(query.image, -1) for query in self.queries], np.int64)


def open_benchmark(name: str, data_dir: str | os.PathLike) -> Benchmark:
  """Opens `DIR/NAME/`, which holds `images/` and, where it is not told by the files' names, `groundtruth/`.

  Raises:
    InputError: there is no set of that name, its folder is missing, or its ground truth cannot be read or names images that
      are not there.
  """
  known, folder = find_known(name), Path(data_dir) / name
  opened = {"oxford": open_oxford, "revisited": open_revisited, "holidays": open_holidays, "ukbench": open_ukbench}
  if known.groundtruth not in opened:
    raise InputError(f"{known.title} has no queries of its own: it is added to other sets")
  return opened[known.groundtruth](folder, known)


def open_oxford(folder: str | os.PathLike, known: KnownSet | None = None) -> Benchmark:
  """A folder of `images/` and `groundtruth/` in Oxford's format; the queries' images are in the database, and count.

  Raises:
    InputError: see `open_benchmark`.
  """
  truth = read_groundtruth(Path(folder) / "groundtruth")
  listing = list_images(Path(folder) / "images")
  named = {name for query in truth for name in (query.image, *query.positives, *query.junk)}
  place = _match(named, listing, known, folder)
  positive, junk = (_rows([[place[n] for n in names] for names in lists]) for lists in (
    [query.positives for query in truth], [query.junk for query in truth]
  ))  # fmt: skip
  queries = tuple(Query(query.name, listing.ids[place[query.image]], query.box) for query in truth)
  return Benchmark(_name(folder), listing, listing.ids, queries, (Metric("mAP", positive, junk, average_precisions),))


def open_revisited(folder: str | os.PathLike, known: KnownSet | None = None) -> Benchmark:
  """ROxford5k or RParis6k: Easy, Medium and Hard, each with mAP and mP@1, 5 and 10; queries outside the database.

  Raises:
    InputError: see `open_benchmark`.
  """
  path = Path(folder) / "groundtruth"
  files = sorted(path.glob("gnd_*.pkl"))
  if len(files) != 1:
    raise InputError(f"the ground truth of {printable(folder)} is one file gnd_*.pkl in {printable(path)}; found {len(files)}")
  truth = read_revisited(files[0])
  listing = list_images(Path(folder) / "images")
  named = {*truth.database, *(query.image for query in truth.queries)}
  found = _match(named, listing, known, folder, named)
  row = {name: number for number, name in enumerate(truth.database)}

  def list_rows(keys: Sequence[str]) -> Int[np.ndarray, "q p"]:
    return _rows([[row[name] for key in keys for name in getattr(query, key)] for query in truth.queries])

  metrics = []
  for label, (good, bad) in _DIFFICULTIES.items():
    positive, junk = list_rows(good), list_rows(bad)
    metrics.append(Metric(f"mAP {label}", positive, junk, average_precisions))
    for k in (1, 5, 10):
      metrics.append(Metric(f"mP@{k} {label}", positive, junk, functools.partial(precisions_at, k=k)))
  queries = tuple(Query(query.image, listing.ids[found[query.image]], query.box) for query in truth.queries)
  database = tuple(listing.ids[found[name]] for name in truth.database)
  return Benchmark(_name(folder), listing, database, queries, tuple(metrics))


def open_holidays(folder: str | os.PathLike, known: KnownSet | None = None) -> Benchmark:
  """INRIA Holidays: the first of each group is a query, the others should be found, and it leaves its own list.

  Raises:
    InputError: see `open_benchmark`.
  """
  listing = list_images(Path(folder) / "images")
  _match(set(), listing, known, folder)
  names = [os.path.basename(image_id) for image_id in listing.ids]
  groups, first = holidays_groups(names), np.flatnonzero(find_queries(names))
  members = [[row for row in np.flatnonzero(groups == groups[query]) if row != query] for query in first]
  queries = tuple(Query(names[row], listing.ids[row], None) for row in first)
  metric = Metric("mAP", _rows(members), first[:, None], average_precisions)
  return Benchmark(_name(folder), listing, listing.ids, queries, (metric,))


def open_ukbench(folder: str | os.PathLike, known: KnownSet | None = None) -> Benchmark:
  """UKBench or whole objects of it: every image is a query and is in the database; the score is N-S.

  Published values are of all 10,200 images; a part is easier.

  Raises:
    InputError: see `open_benchmark`.
  """
  listing = list_images(Path(folder) / "images")
  # Not compared with the known set: whole objects of it will do.
  objects = ukbench_groups([os.path.basename(image_id) for image_id in listing.ids])
  check_views(objects)
  order = np.argsort(objects, kind="stable").reshape(-1, 4)
  positive = order[np.searchsorted(objects[order[:, 0]], objects)]
  queries = tuple(Query(image_id, image_id, None) for image_id in listing.ids)
  metric = Metric("N-S", positive, np.zeros((len(queries), 0), np.int64), lambda places, _: ns_scores_of_places(places))
  return Benchmark(_name(folder), listing, listing.ids, queries, (metric,))


def open_folder(images: str | os.PathLike, groundtruth: str | os.PathLike, name: str = "folder") -> Benchmark:
  """A folder of images and the JSON of `datasets.folder_groundtruth`.

  Raises:
    InputError: either cannot be read, or the ground truth names images that are not there.
  """
  truth = read_folder_groundtruth(groundtruth)
  listing = list_images(images)
  found = _match({*truth.database, *(query.image for query in truth.queries)}, listing, None, images)
  row = {name: number for number, name in enumerate(truth.database)}
  positive = _rows([[row[name] for name in query.relevant] for query in truth.queries])
  junk = _rows([[row[name] for name in query.junk] for query in truth.queries])
  queries = tuple(Query(query.image, listing.ids[found[query.image]], query.box) for query in truth.queries)
  database = tuple(listing.ids[found[name]] for name in truth.database)
  return Benchmark(name, listing, database, queries, (Metric("mAP", positive, junk, average_precisions),))


class FolderError(InputError):
  """The images of a folder are not those of its ground truth.

  Attributes:
    problems: sentences.
    listing: the images that there are.
  """

  def __init__(self, where: str, problems: Sequence[str], listing: Listing):
    """A message of all problems."""
    super().__init__(f"{printable(where)} cannot be evaluated: {'; '.join(problems)}")
    self.problems, self.listing = tuple(problems), listing


def _match(
  named: set[str], listing: Listing, known: KnownSet | None, folder: str | os.PathLike, listed: set[str] | None = None
) -> Mapping[str, int]:
  """The row of each name of a ground truth: an id, with or without its ending; if none is, a file's name in any folder.

  Raises:
    FolderError: names that no image has, or that several have; images that are not those of a known set.
  """
  whole = {image_id: row for row, image_id in enumerate(listing.ids)}
  without: dict[str, list[int]] = {}
  alone: dict[str, list[int]] = {}  # a published archive may hold folders that its ground truth does not name
  for row, image_id in enumerate(listing.ids):
    without.setdefault(os.path.splitext(image_id)[0], []).append(row)
    alone.setdefault(os.path.splitext(os.path.basename(image_id))[0], []).append(row)
  found = {
    name: [whole[name]] if name in whole else without.get(name) or alone.get(name, []) for name in named
  }  # fmt: skip
  if known is not None and listed is None:
    listed = _read_list(Path(folder))
  problems = [] if known is None else list(compare_names(known, listing.ids, named, listed))
  for problem, wrong in (
    ("are not there", sorted(name for name, rows in found.items() if not rows) if known is None else []),
    ("are those of several files", sorted(name for name, rows in found.items() if len(rows) > 1)),
  ):
    if wrong:
      shown = ", ".join(map(printable, wrong[:5])) + (" and more" if len(wrong) > 5 else "")
      problems.append(f"{len(wrong)} images that its ground truth names {problem}: {shown}")
  problems += [f"{printable(name)}: {reason}" for name, reason in listing.skipped]
  if problems:
    raise FolderError(os.fspath(folder), problems, listing)
  return {name: rows[0] for name, rows in found.items()}


def _read_list(folder: Path) -> set[str] | None:
  """The names of all images of a set, from `groundtruth/list_*.txt`, a name a line, if there is one."""
  names = set()
  for file in sorted((folder / "groundtruth").glob("list_*.txt")):
    try:
      names |= set(file.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
      raise InputError(f"the list {printable(file)} cannot be read: {reason_of(error)}") from None
  return names or None


def _name(folder: str | os.PathLike) -> str:
  return Path(folder).name


def _rows(lists: Sequence[Sequence[int]]) -> Int[np.ndarray, "q p"]:
  """Lists of rows, each row once, side by side; -1 after the last of each."""
  unique = [list(dict.fromkeys(rows)) for rows in lists]
  padded = np.full((len(unique), max(map(len, unique), default=0)), -1, np.int64)
  for number, rows in enumerate(unique):
    padded[number, : len(rows)] = rows
  return padded
