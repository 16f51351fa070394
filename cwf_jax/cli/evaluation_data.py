"""The sets of an evaluation: found, checked file by file before anything is computed, and what goes with them."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.errors import printable

FOLDER = "folder"
TOYS = ("toy_oxford", "toy_paris")
"""Sets that are made where there is no folder of sets."""

_PROBLEMS = "problems.txt"

_CUT = 0.1
"""The part of a box that may lie outside its image without a remark."""


_SAME = 0.5
"""The part of a set's images, or of those to whiten by, from which on they are the same set under another name."""


class Ranked(NamedTuple):
  """The set that is evaluated.

  Attributes:
    benchmark: an `evaluation.benchmark.Benchmark`, all of whose images can be read.
    checked: the contents of the images.
    remarks: sentences, on what may be meant otherwise.
  """

  benchmark: Any
  checked: Any
  remarks: tuple[str, ...]


class Pool(NamedTuple):
  """What is whitened by.

  Attributes:
    images: an `ImageSet`, "bundled", or None for nothing.
    reason: why there is nothing, if there should be.
    checked: the contents of the images.
    remarks: as of `Ranked`.
  """

  images: Any
  reason: str = ""
  checked: Any = None
  remarks: tuple[str, ...] = ()


def find_data(values: flags.FlagValues, output: Path, console) -> Path | None:
  """The folder of the sets; the toy pair is made where there is none."""
  given, dataset = values["data_dir"].value, values["dataset"].value
  if given is not None or dataset not in TOYS:
    return None if given is None else Path(given)
  from cwf_jax.datasets.landmarks import TOY_OXFORD, TOY_PARIS, list_files, write_landmarks
  from cwf_jax.datasets.photographs import check_installed

  check_installed()
  for landmarks in (TOY_OXFORD, TOY_PARIS):
    folder = output / "data" / landmarks.name
    if all((folder / part / name).exists() for part, names in list_files(landmarks).items() for name in names):
      continue
    with console.progress("pictures") as progress:
      write_landmarks(folder, landmarks, progress=progress)
  return output / "data"


def open_set(
  values: flags.FlagValues, settings, systems: tuple[str, ...], data_dir: Path | None, output: Path, console
) -> Ranked:
  """The set that is asked for, for systems of these names; problems with it are told all at once."""
  from cwf_jax.evaluation.openers import FolderError, open_benchmark, open_folder

  name, problems = values["dataset"].value, []
  try:
    if name == FOLDER:
      benchmark = open_folder(values["images"].value, values["groundtruth"].value)
    else:
      benchmark = open_benchmark(name, data_dir)
    listing, used = benchmark.listing, benchmark.listing.ids if name != FOLDER else _used(benchmark)
  except FolderError as error:
    problems += error.problems
    listing, used = error.listing, error.listing.ids if name != FOLDER else error.used
    benchmark = None
  (output / _PROBLEMS).unlink(missing_ok=True)  # of an earlier run
  wrong, cut = _check_boxes(benchmark, settings, systems) if benchmark else (None, None)
  problems += [wrong] if wrong and wrong.names else []
  checked = _check(name, listing, used, problems, output, console)
  remarks = [one for one in (cut, _find_own_wrong_answers(benchmark)) if one.names]
  return Ranked(benchmark, checked, tuple(map(str, remarks)))


def _check(name: str, source, ids: tuple[str, ...], problems: list, output: Path, console):
  """Refuses images some of which cannot be read, or which have other problems; gives their contents."""
  from cwf_jax.datasets.catalogue import KNOWN, find_bad
  from cwf_jax.datasets.problems import Problem, count_of
  from cwf_jax.evaluation.folder_check import check_images
  from cwf_jax.evaluation.images import ImageSet

  known_bad = frozenset(find_bad(KNOWN[name], ids)) if name in KNOWN else frozenset()  # told as such, and not twice
  images = ImageSet(name, source, tuple(one for one in ids if one not in known_bad))
  with console.progress("images checked") as progress:
    checked = check_images(images, output / "checked", progress)
  if checked.unreadable:
    problems = [*problems, Problem(f"{count_of(checked.unreadable, 'image', 'images')} cannot be read", checked.unreadable)]
  _refuse(problems, images.root, output)
  return checked


def _check_boxes(benchmark, settings, systems: tuple[str, ...]):
  """Boxes of which nothing that can be searched for lies in their image, and those that leave much of themselves outside."""
  from cwf_jax.datasets.problems import Problem, count_of
  from cwf_jax.evaluation.queries import box_rule_of, read_box
  from cwf_jax.images.decoding import UnreadableImageError, decode_image
  from cwf_jax.protocol import BoxError

  wrong, cut, database = [], [], frozenset(benchmark.database)
  for query in benchmark.queries:
    if query.box is None:
      continue
    where = f"the query {query.name} in {query.image}"
    try:
      size = decode_image(benchmark.listing.path(query.image)).shape[:2]
    except UnreadableImageError:  # told with all others
      continue
    rules: dict[str, list[str]] = {}
    for name in systems:
      rules.setdefault(box_rule_of(name, query, database, settings), []).append(name)
    for rule, names in rules.items():
      try:
        inside = read_box(query.box, rule, size, settings)
      except BoxError as error:
        reader = "" if rule == "corners" else f", as the setting crow_box={rule} has {' and '.join(names)} read it"
        wrong.append(f"{where}: {error}{reader}")
        continue
      if rule == "corners" and _area(inside) < (1 - _CUT) * _area(query.box):
        cut.append(where)
  refused = f"{count_of(wrong, 'box', 'boxes')} cannot be searched for (are the images the published ones?)"
  remark = f"{count_of(cut, 'box of a query lies', 'boxes of queries lie')} by more than a tenth outside the image, and is cut"
  return Problem(refused, tuple(wrong)), Problem(remark, tuple(cut))


def _area(box) -> float:
  left, top, right, bottom = box
  return (right - left) * (bottom - top)


def _find_own_wrong_answers(benchmark):
  """Queries that are images of the database, and neither among what should be found nor skipped."""
  from cwf_jax.datasets.problems import Problem, count_of

  first = benchmark.metrics[0]
  own = benchmark.own_rows[:, None]
  listed = (first.positive == own).any(1) | (first.junk == own).any(1)
  rows = zip(benchmark.queries, own[:, 0], listed, strict=True)
  names = tuple(query.name for query, row, is_listed in rows if row >= 0 and not is_listed)
  what = count_of(names, "query is an image", "queries are images")
  return Problem(f"{what} of the database and neither relevant nor junk, so that its own image counts as a wrong answer", names)


def _used(benchmark) -> tuple[str, ...]:
  return tuple(sorted({*benchmark.database, *(query.image for query in benchmark.queries)}))


def _refuse(problems: list, where: str, output: Path) -> None:
  """Ends a call on problems: in short on the terminal, with every name in a file."""
  if not problems:
    return
  output.mkdir(parents=True, exist_ok=True)
  (output / _PROBLEMS).write_text(
    "".join(problem.tell_all() for problem in problems), encoding="utf-8", errors="backslashreplace"
  )
  raise CallError(f"{printable(where)} cannot be evaluated: {'; '.join(map(str, problems))} (all of it: {output / _PROBLEMS})")


def choose_whitening(values: flags.FlagValues, ranked: Ranked, data_dir: Path | None, output: Path, console) -> Pool:
  """What to whiten by; the evaluated set itself only where it is asked for by name."""
  from cwf_jax.datasets.catalogue import KNOWN, find_known
  from cwf_jax.evaluation.experiment import BUNDLED
  from cwf_jax.evaluation.image_source import open_images
  from cwf_jax.evaluation.images import ImageSet

  asked, dataset = values["whitening"].value, values["dataset"].value
  if asked == "none":
    return Pool(None)
  if asked == BUNDLED:
    return Pool(BUNDLED)
  name = asked
  if asked == "other":
    partner = None if dataset == FOLDER else find_known(dataset).whitened_by
    if partner is None:
      return Pool(BUNDLED)
    if not (data_dir / partner / "images").is_dir():
      return Pool(None, f"{partner} is not in {data_dir}, to whiten by")
    name = partner
  is_known = data_dir is not None and name in KNOWN
  source = open_images(data_dir / name / "images" if is_known else name)
  mine, other = KNOWN.get(dataset), KNOWN.get(name) if is_known else None
  same_names = mine is not None and other is not None and None is not mine.names_sha256 == other.names_sha256
  may_overlap = asked == dataset and is_known
  if not may_overlap and (same_names or _overlap(source, ranked.benchmark)):
    raise _itself(name, dataset)
  problems = _list_problems(name, data_dir, source) if is_known else []
  checked = _check(name if is_known else "", source, source.ids, problems, output, console)
  remarks = () if may_overlap else _compare_contents(name, dataset, ranked, checked)
  return Pool(ImageSet(name if is_known else Path(name).stem, source, source.ids), "", checked, remarks)


def _itself(name: str, dataset: str) -> CallError:
  hint = f"; say --whitening={dataset} if you mean it" if dataset != FOLDER else ""
  return CallError(f"the images of --whitening={name} are those of the evaluated set itself{hint}")


def _compare_contents(name: str, dataset: str, ranked: Ranked, checked) -> tuple[str, ...]:
  """Refuses a copy, or a tar, of what is evaluated; a remark where some images of it are among those to whiten by."""
  from cwf_jax.datasets.problems import Problem, count_of

  database = {ranked.checked.contents[image_id] for image_id in ranked.benchmark.database}
  shared = tuple(image_id for image_id, content in checked.contents.items() if content in database)
  if len(shared) >= _SAME * min(len(database), len(checked.contents)):
    raise _itself(name, dataset)
  what = f"{count_of(shared, 'image', 'images')} to whiten by {'is' if len(shared) == 1 else 'are'} in the evaluated set, too"
  return (str(Problem(what, shared)),) if shared else ()


def _list_problems(name: str, data_dir: Path, listing) -> list:
  """What is wrong with the files of a known set, by its ground truth if that is there."""
  from cwf_jax.datasets.catalogue import KNOWN, compare_names
  from cwf_jax.errors import InputError
  from cwf_jax.evaluation.openers import FolderError, open_benchmark

  try:
    open_benchmark(name, data_dir)
    return []
  except FolderError as error:
    return list(error.problems)
  except InputError:
    return compare_names(KNOWN[name], listing.ids, ())


def _overlap(source, benchmark) -> bool:
  """Whether images of a folder or list are files of the benchmark's database."""
  from cwf_jax.images.listing import Listing

  if not isinstance(source, Listing):
    return False
  own = {os.path.realpath(benchmark.listing.path(name)) for name in benchmark.database}
  return any(os.path.realpath(source.path(name)) in own for name in source.ids)


def choose_distractors(values: flags.FlagValues, data_dir: Path | None):
  """The distractors, why there are none, and the title of the set with them; nothing where none go with it."""
  from cwf_jax.datasets.catalogue import KNOWN, compare_names, find_known
  from cwf_jax.evaluation.images import ImageSet
  from cwf_jax.images.listing import list_images

  dataset = values["dataset"].value
  known = None if dataset == FOLDER else find_known(dataset)
  if known is None or known.distractors is None or values["distractors"].value == "none":
    return None, "", ""
  folder = data_dir / known.distractors / "images"
  if not folder.is_dir():
    return None, f"{known.distractors} is not in {data_dir}", known.with_distractors
  listing = list_images(folder)
  problems = compare_names(KNOWN[known.distractors], listing.ids, ())
  if problems:
    return None, "; ".join(map(str, problems)), known.with_distractors
  return ImageSet(known.distractors, listing, listing.ids), "", known.with_distractors
