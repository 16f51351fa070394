"""The readers of every form that a ground truth has: each opens a folder as a `Benchmark`.

    benchmark = open_benchmark("toy_oxford", "landmarks")

Oxford's four files a query, the pickles of the revisited sets, names of files alone (Holidays, UKBench), a folder's JSON.
"""

import collections
import contextlib
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cwf_jax.datasets import holidays, ukbench
from cwf_jax.datasets.benchmark import Benchmark, Metric, Query
from cwf_jax.datasets.catalogue import KnownSet, compare_names, digest_names, find_known, find_revisited
from cwf_jax.datasets.folder_groundtruth import read_folder_groundtruth
from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.datasets.revisited import read_revisited
from cwf_jax.errors import InputError, compose, printable, reason_of
from cwf_jax.images.decoding import EXTENSIONS
from cwf_jax.images.listing import Listing, list_images
from cwf_jax.metrics.average_precision import average_precisions, precisions_at
from cwf_jax.metrics.ns_score import ns_scores_of_places
from cwf_jax.problems import Problem, count_of

_DIFFICULTIES = {
  "Medium": (("easy", "hard"), ("junk",)),
  "Easy": (("easy",), ("hard", "junk")),
  "Hard": (("hard",), ("easy", "junk")),
}
"""Of the revisited sets: which lists should be found, and which are skipped."""


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
  listing = list_images(Path(folder) / "images", include_hidden=True)
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
  listing = list_images(Path(folder) / "images", include_hidden=True)
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
  database = _list_database(truth.database, found, listing, folder)
  return Benchmark(_name(folder), listing, database, queries, tuple(metrics))


def open_holidays(folder: str | os.PathLike, known: KnownSet | None = None) -> Benchmark:
  """INRIA Holidays: the first of each group is a query, the others should be found, and it leaves its own list.

  Raises:
    InputError: see `open_benchmark`.
  """
  listing = list_images(Path(folder) / "images", include_hidden=True)
  _match(set(), listing, known, folder, more=holidays.find_problems(listing.ids))
  names = [os.path.basename(image_id) for image_id in listing.ids]
  groups, first = holidays.holidays_groups(names), np.flatnonzero(holidays.find_queries(names))
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
  listing = list_images(Path(folder) / "images", include_hidden=True)
  # Not compared with the known set: whole objects of it will do.
  _match(set(), listing, None, folder, more=ukbench.find_problems(listing.ids))
  objects = ukbench.ukbench_groups([os.path.basename(image_id) for image_id in listing.ids])
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
  listing = list_images(images, include_hidden=True)
  found = _match({*truth.database, *(query.image for query in truth.queries)}, listing, None, images)
  row = {name: number for number, name in enumerate(truth.database)}
  positive = _rows([[row[name] for name in query.relevant] for query in truth.queries])
  junk = _rows([[row[name] for name in query.junk] for query in truth.queries])
  queries = tuple(Query(query.image, listing.ids[found[query.image]], query.box) for query in truth.queries)
  database = _list_database(truth.database, found, listing, images)
  return Benchmark(name, listing, database, queries, (Metric("mAP", positive, junk, average_precisions),))


class FolderError(InputError):
  """The images of a folder are not those of its ground truth.

  Attributes:
    problems: what is wrong.
    listing: the images that there are.
    used: those that the ground truth names.
  """

  def __init__(self, where: str, problems: Sequence[Problem], listing: Listing, used: Sequence[str]):
    """A message of all problems, each in short."""
    super().__init__(f"{printable(where)} cannot be evaluated: {'; '.join(map(str, problems))}")
    self.problems, self.listing, self.used = tuple(problems), listing, tuple(used)


def _match(
  named: set[str],
  listing: Listing,
  known: KnownSet | None,
  folder: str | os.PathLike,
  listed: set[str] | None = None,
  more: Sequence[Problem] = (),
) -> Mapping[str, int]:
  """The row of each name of a ground truth: an id, with or without its ending; if none is, a file's name in any folder.

  A name that no file has is compared in Unicode's composed form: file systems write accents in different ways.

  Raises:
    FolderError: names that no image has, or that several have; images that are not those of a known set; or `more` is wrong.
  """
  composed = [compose(image_id) for image_id in listing.ids]
  found = _find_rows(named, listing.ids)
  rows_of_composed = _find_rows({compose(name) for name, rows in found.items() if not rows}, composed)
  found = {name: rows or rows_of_composed[compose(name)] for name, rows in found.items()}
  if known is not None and listed is None:
    listed = _read_list(Path(folder), known)
  problems = [*([] if known is None else compare_names(known, listing.ids, named, listed)), *more]
  absent = [name for name, rows in found.items() if not rows] if known is None else []
  for verbs, wrong in (
    (("is not there", "are not there"), absent),
    (("is that of several files", "are those of several files"), [name for name, rows in found.items() if len(rows) > 1]),
  ):
    if wrong:
      what = f"{count_of(wrong, 'image', 'images')} that its ground truth names {verbs[len(wrong) > 1]}"
      problems.append(Problem(what, tuple(sorted(wrong))))
  if listing.skipped:
    reasons = tuple(f"{name}: {reason}" for name, reason in listing.skipped)
    problems.append(Problem(f"{count_of(reasons, 'file', 'files')} cannot be listed", reasons))
  if problems:
    used = sorted({listing.ids[row] for rows in found.values() for row in rows})
    raise FolderError(os.fspath(folder), problems, listing, used)
  return {name: rows[0] for name, rows in found.items()}


def _find_rows(names: Iterable[str], ids: Sequence[str]) -> dict[str, list[int]]:
  """The rows of the ids that each name stands for; none, or several, where it does not name one image."""
  # A published archive may hold folders that its ground truth does not name.
  whole, without, alone, alone_without = (collections.defaultdict[str, list[int]](list) for _ in range(4))
  for row, image_id in enumerate(ids):
    file = os.path.basename(image_id)
    whole[image_id].append(row)
    without[os.path.splitext(image_id)[0]].append(row)
    alone[file].append(row)
    alone_without[os.path.splitext(file)[0]].append(row)
  return {name: whole.get(name) or without.get(name) or alone.get(name) or alone_without.get(name, []) for name in names}


def _list_database(
  names: Sequence[str], found: Mapping[str, int], listing: Listing, folder: str | os.PathLike
) -> tuple[str, ...]:
  """The ids of a database's images.

  Raises:
    FolderError: several of its names are those of one image, such as "a" and "a.jpg".
  """
  rows = [found[name] for name in names]
  counts = collections.Counter(rows)
  twice = tuple(name for name, row in zip(names, rows, strict=True) if counts[row] > 1)
  if twice:
    what = f"{count_of(twice, 'name', 'names')} of the database are those of the same images"
    raise FolderError(os.fspath(folder), [Problem(what, twice)], listing, [listing.ids[row] for row in sorted(set(rows))])
  return tuple(listing.ids[row] for row in rows)


def _read_list(folder: Path, known: KnownSet) -> set[str] | None:
  """The names of all images of a set, if there is a list: `groundtruth/list_*.txt`, a name a line, with or without ending, or
  the ground truth of the revisited set on the same images, beside it."""
  names = set()
  for file in sorted((folder / "groundtruth").glob("list_*.txt")):
    try:
      names |= {_without_ending(name) for name in file.read_text(encoding="utf-8-sig").split()}
    except (OSError, UnicodeDecodeError) as error:
      raise InputError(f"the list {printable(file)} cannot be read: {reason_of(error)}") from None
  revisited = find_revisited(known)
  if not names and revisited is not None:
    for file in sorted((folder.parent / revisited.name / "groundtruth").glob("gnd_*.pkl")):
      with contextlib.suppress(InputError):  # it is the other set's, and told where that one is evaluated
        truth = read_revisited(file)
        found = {*truth.database, *(query.image for query in truth.queries)}
        if digest_names(found - known.bad_images) == known.names_sha256:  # another one tells nothing of this set
          names |= found
  return names or None


def _without_ending(name: str) -> str:
  whole, ending = os.path.splitext(name)
  return whole if ending.lower() in EXTENSIONS else name


def _name(folder: str | os.PathLike) -> str:
  return Path(folder).name


def _rows(lists: Sequence[Sequence[int]]) -> Int[np.ndarray, "q p"]:
  """Lists of rows, each row once, side by side; -1 after the last of each."""
  unique = [list(dict.fromkeys(rows)) for rows in lists]
  padded = np.full((len(unique), max(map(len, unique), default=0)), -1, np.int64)
  for number, rows in enumerate(unique):
    padded[number, : len(rows)] = rows
  return padded
