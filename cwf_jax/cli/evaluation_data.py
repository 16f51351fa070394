"""The sets of an evaluation: found, checked file by file before anything is computed, and what goes with them."""

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


class Data(NamedTuple):
  """Where the sets are.

  Attributes:
    folder: of them; None: none was given.
    is_made: it is made on the spot.
  """

  folder: Path | None
  is_made: bool


class Opened(NamedTuple):
  """A set whose ground truth was read.

  Attributes:
    name: of it.
    benchmark: an `evaluation.benchmark.Benchmark`; None where there are problems.
    listing: its images.
    used: ids of those that count.
    problems: what is wrong, told with what a check of the images finds.
  """

  name: str
  benchmark: Any
  listing: Any
  used: tuple[str, ...]
  problems: tuple[Any, ...]


def find_data(values: flags.FlagValues) -> Data:
  """The folder of the sets; the toy pair is made below the output where none is given."""
  given, dataset = values["data_dir"].value, values["dataset"].value
  if given is None and dataset in TOYS:
    return Data(Path(values["output"].value) / "data", True)
  return Data(None if given is None else Path(given), False)


def make_data(folder: Path, console) -> None:
  """Makes the toy pair, as far as it is not there; refuses other files among its own, which would be searched, too."""
  from cwf_jax.toy.landmarks import TOY_OXFORD, TOY_PARIS, list_files, write_landmarks
  from cwf_jax.toy.photographs import check_installed

  check_installed()
  _check_strays(folder, (TOY_OXFORD, TOY_PARIS))
  for landmarks in (TOY_OXFORD, TOY_PARIS):
    one = folder / landmarks.name
    if all((one / part / name).exists() for part, names in list_files(landmarks).items() for name in names):
      continue
    with console.progress("pictures") as progress:
      write_landmarks(one, landmarks, progress=progress)


def _check_strays(folder: Path, pair) -> None:
  from cwf_jax.toy.landmarks import list_files

  strays = []
  for landmarks in pair:
    for part, names in list_files(landmarks).items():
      strays += [path for path in (folder / landmarks.name / part).glob("*") if path.name not in names]
  strays = sorted(path for path in strays if path.suffix != ".tmp")  # what a killed run was writing is no picture
  if strays:
    names = ", ".join(map(printable, strays[:3])) + (" and more" if len(strays) > 3 else "")
    raise CallError(f"other files lie among the toy pictures and would be searched, too: {names}; remove them")


def open_set(values: flags.FlagValues, data_dir: Path | None) -> Opened:
  """The set that is asked for. Nothing is written."""
  from cwf_jax.datasets.openers import FolderError, open_benchmark, open_folder

  name = values["dataset"].value
  try:
    if name == FOLDER:
      benchmark = open_folder(values["images"].value, values["groundtruth"].value)
    else:
      benchmark = open_benchmark(name, data_dir)
  except FolderError as error:
    return Opened(name, None, error.listing, error.listing.ids if name != FOLDER else tuple(error.used), error.problems)
  used = benchmark.listing.ids if name != FOLDER else _used(benchmark)
  return Opened(name, benchmark, benchmark.listing, used, ())


def check_set(opened: Opened, settings, systems: tuple[str, ...], output: Path, console) -> Ranked:
  """The set whose images can all be read, for systems of these names; problems with it are told all at once."""
  (output / _PROBLEMS).unlink(missing_ok=True)  # of an earlier run
  benchmark, problems = opened.benchmark, list(opened.problems)
  wrong, cut = _check_boxes(benchmark, settings, systems) if benchmark else (None, None)
  problems += [wrong] if wrong and wrong.names else []
  checked = check_files(opened.name, opened.listing, opened.used, problems, output, console)
  remarks = [str(one) for one in (cut, _find_own_wrong_answers(benchmark)) if one.names]
  part = _tell_part(benchmark)
  return Ranked(benchmark, checked, (*([part] if part else []), *remarks))


def check_files(name: str, source, ids: tuple[str, ...], problems: list, output: Path, console):
  """Refuses images some of which cannot be read, or which have other problems; gives their contents."""
  from cwf_jax.datasets.catalogue import KNOWN, find_bad
  from cwf_jax.extraction.image_check import check_images
  from cwf_jax.images.image_set import ImageSet
  from cwf_jax.problems import Problem, count_of

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
  from cwf_jax.images.decoding import UnreadableImageError, decode_image
  from cwf_jax.problems import Problem, count_of
  from cwf_jax.protocol import BoxError
  from cwf_jax.systems.queries import box_rule_of, read_box

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


def _tell_part(benchmark) -> str:
  """Says so where only a part of a known set is there, as UKBench allows."""
  from cwf_jax.datasets.catalogue import KNOWN

  known = KNOWN.get(benchmark.name)
  if known is None or known.queries in (None, len(benchmark.queries)) or known.images is None:
    return ""
  here = f"{len(benchmark.queries):,} of the {known.queries:,} queries of {known.title} are here"
  return f"{here}: published values are of all of them, and a part is easier"


def _area(box) -> float:
  left, top, right, bottom = box
  return (right - left) * (bottom - top)


def _find_own_wrong_answers(benchmark):
  """Queries that are images of the database, and neither among what should be found nor skipped."""
  from cwf_jax.problems import Problem, count_of

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
  earlier = "; the report there is of an earlier run" if (output / "report.md").exists() else ""
  told = "; ".join(map(str, problems))
  raise CallError(f"{printable(where)} cannot be evaluated: {told} (all of it: {output / _PROBLEMS}{earlier})")
