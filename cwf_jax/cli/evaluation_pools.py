"""What goes with the set of an evaluation: what it is whitened by, and its distractors."""

from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.evaluation_data import FOLDER, Ranked, check_files
from cwf_jax.errors import printable

_SAME = 0.5
"""The part of the images to whiten by that may not be in the evaluated set: then they are that set under another name."""


class Pool(NamedTuple):
  """What is whitened by.

  Attributes:
    images: an `ImageSet`, "bundled", or None for nothing.
    reason: why there is nothing, if there should be.
    checked: the contents of the images.
    remarks: as of `Ranked`.
    is_itself: it is the evaluated set, as asked for.
  """

  images: Any
  reason: str = ""
  checked: Any = None
  remarks: tuple[str, ...] = ()
  is_itself: bool = False


def choose_whitening(values: flags.FlagValues, ranked: Ranked, data_dir: Path | None, output: Path, console) -> Pool:
  """What to whiten by; the evaluated set itself only where it is asked for by name."""
  from cwf_jax.datasets.catalogue import KNOWN, find_known
  from cwf_jax.evaluation.experiment import BUNDLED
  from cwf_jax.images.image_set import ImageSet
  from cwf_jax.images.sources import open_images

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
  if asked == dataset == FOLDER:
    own = ranked.benchmark.listing, ranked.benchmark.database
    contents = {image_id: ranked.checked.contents[image_id] for image_id in sorted(own[1])}
    return Pool(ImageSet(FOLDER, own[0], tuple(contents)), "", ranked.checked._replace(contents=contents), is_itself=True)
  is_known = data_dir is not None and name in KNOWN
  source = open_images(data_dir / name / "images" if is_known else name)
  mine, other = KNOWN.get(dataset), KNOWN.get(name) if is_known else None
  same_names = mine is not None and other is not None and None is not mine.names_sha256 == other.names_sha256
  may_overlap = asked == dataset and is_known
  if not may_overlap and same_names:
    raise _itself(name, dataset, f"both are of {mine.title}")
  problems = _list_problems(name, data_dir, source) if is_known else []
  checked = check_files(name if is_known else "", source, source.ids, problems, output, console)
  remarks = () if may_overlap else _compare_contents(name, dataset, ranked, checked)
  return Pool(ImageSet(name if is_known else _name_of(name), source, source.ids), "", checked, remarks, may_overlap)


def _name_of(path: str) -> str:
  """A folder's or file's name without ending; of `NAME/images`, as a set has them, NAME."""
  absolute = Path(path).absolute()
  return absolute.parent.name if absolute.name == "images" else absolute.stem


def _itself(name: str, dataset: str, why: str) -> CallError:
  return CallError(
    f"the images of --whitening={printable(name)} are those of the evaluated set itself ({why}); "
    f"say --whitening={dataset} to whiten by that set all the same"
  )


def _compare_contents(name: str, dataset: str, ranked: Ranked, checked) -> tuple[str, ...]:
  """Refuses a copy, a tar or a part of what is evaluated; a remark where some images of it are among those to whiten by."""
  from cwf_jax.problems import Problem

  database = {ranked.checked.contents[image_id] for image_id in ranked.benchmark.database}
  shared = tuple(image_id for image_id, content in checked.contents.items() if content in database)
  if len(shared) >= _SAME * len(checked.contents):
    raise _itself(name, dataset, f"{len(shared):,} of {len(checked.contents):,}")
  what = f"{len(shared):,} of the {len(checked.contents):,} images to whiten by are in the evaluated set, too"
  return (str(Problem(what, shared)),) if shared else ()


def _list_problems(name: str, data_dir: Path, listing) -> list:
  """What is wrong with the files of a known set, by its ground truth if that is there."""
  from cwf_jax.datasets.catalogue import KNOWN, compare_names
  from cwf_jax.datasets.openers import FolderError, open_benchmark
  from cwf_jax.errors import InputError

  try:
    open_benchmark(name, data_dir)
    return []
  except FolderError as error:
    return list(error.problems)
  except InputError:
    return compare_names(KNOWN[name], listing.ids, ())


def choose_distractors(values: flags.FlagValues, data_dir: Path | None):
  """The distractors, why there are none, and the title of the set with them; nothing where none go with it."""
  from cwf_jax.datasets.catalogue import KNOWN, compare_names, find_known
  from cwf_jax.images.image_set import ImageSet
  from cwf_jax.images.listing import list_images

  dataset = values["dataset"].value
  known = None if dataset == FOLDER else find_known(dataset)
  if known is None or known.distractors is None or values["distractors"].value == "none":
    return None, "", ""
  folder = data_dir / known.distractors / "images"
  if not folder.is_dir():
    return None, f"{known.distractors} is not in {data_dir}", known.with_distractors
  listing = list_images(folder, include_hidden=True)
  problems = compare_names(KNOWN[known.distractors], listing.ids, ())
  if problems:
    return None, "; ".join(map(str, problems)), known.with_distractors
  return ImageSet(known.distractors, listing, listing.ids), "", known.with_distractors
