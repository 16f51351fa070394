"""The benchmarks by name: how many images and queries they have, which images those are, and what they are used with.

    known = find_known("paris6k")
    compare_names(known, ["paris_louvre_000136.jpg", ...], {"paris_defense_000605", ...})
    # [Problem("20 files are the known corrupted ones of Paris6k, remove them", ("paris_louvre_000136.jpg", ...))]

METHOD 5.1.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterable, Mapping

from cwf_jax.errors import InputError, near, printable
from cwf_jax.problems import Problem, count_of

_BAD_PARIS = frozenset(
  f"paris_{place}_{number:06d}"
  for place, numbers in (
    ("louvre", (136, 146)),
    ("moulinrouge", (422,)),
    ("museedorsay", (1059,)),
    ("notredame", (188,)),
    ("pantheon", (284, 960, 974)),
    ("pompidou", (195, 196, 201, 467, 640)),
    ("sacrecoeur", (299, 330, 353)),
    ("triomphe", (662, 833, 863, 867)),
  )
  for number in numbers
)
"""What its authors list as corrupted: www.robots.ox.ac.uk/~vgg/data/parisbuildings/corrupt.txt."""

_OXFORD_NAMES = "c80b7faf64e36e51a6c92864cc811d8d68adb97213837706d54138e477e1e0bd"
_PARIS_NAMES = "e2b37212a8dc5f6271028a8200ed2cd060ee87d3f8792182d1f7e6825a151b15"
_UKBENCH_NAMES = "f850c056f542f502a54499026ccc823b0e48d465bb8aba44c9b2200966cda983"


@dataclasses.dataclass(frozen=True)
class KnownSet:
  """What is known of a benchmark.

  Attributes:
    name: of its folder.
    title: as tables call it.
    groundtruth: how its answers are told: "oxford", four text files a query; "revisited", a pickle; "holidays" and "ukbench",
      by the files' names; "none", it has no queries and is added to other sets.
    images: in its folder, queries that are not ranked among them; None: any number.
    queries: None for a set that has none.
    names_sha256: `digest_names` of all its images; None where the names are not known.
    bad_images: files that come with it, cannot be decoded and do not count, without ending.
    whitened_by: the set on whose images its whitening is fitted.
    distractors: the set that makes it large.
    with_distractors: its title with them.
  """

  name: str
  title: str
  groundtruth: str
  images: int | None
  queries: int | None = None
  names_sha256: str | None = None
  bad_images: frozenset[str] = frozenset()
  whitened_by: str | None = None
  distractors: str | None = None
  with_distractors: str | None = None


_NONE: frozenset[str] = frozenset()

KNOWN: Mapping[str, KnownSet] = {
  known.name: known
  for known in (
    KnownSet("oxford5k", "Oxford5k", "oxford", 5_063, 55, _OXFORD_NAMES, _NONE, "paris6k", "flickr100k", "Oxford105k"),
    KnownSet("paris6k", "Paris6k", "oxford", 6_392, 55, _PARIS_NAMES, _BAD_PARIS, "oxford5k", "flickr100k", "Paris106k"),
    KnownSet(
      *("roxford5k", "ROxford5k", "revisited", 4_993 + 70, 70, _OXFORD_NAMES, _NONE),
      *("rparis6k", "revisited1m", "ROxford5k+1M"),
    ),
    KnownSet(
      *("rparis6k", "RParis6k", "revisited", 6_322 + 70, 70, _PARIS_NAMES, _BAD_PARIS),
      *("roxford5k", "revisited1m", "RParis6k+1M"),
    ),
    KnownSet("flickr100k", "Flickr100k", "none", 100_070),
    KnownSet("revisited1m", "R1M", "none", 1_001_001),
    KnownSet("holidays", "Holidays", "holidays", 1_491, 500),
    KnownSet("ukbench", "UKBench", "ukbench", 10_200, 10_200, _UKBENCH_NAMES),
    KnownSet("toy_oxford", "toy Oxford", "oxford", None, 50, whitened_by="toy_paris"),
    KnownSet("toy_paris", "toy Paris", "oxford", None, 30, whitened_by="toy_oxford"),
  )
}
"""By name."""


def find_known(name: str) -> KnownSet:
  """The set of that name.

  Raises:
    InputError: there is none; the message lists those that there are.
  """
  if name not in KNOWN:
    raise InputError(f"no data set is named {printable(name)}; there are {', '.join(KNOWN)}{near(name, KNOWN)}")
  return KNOWN[name]


def digest_names(names: Iterable[str]) -> str:
  """SHA-256, in hexadecimal, of names without ending, each once, sorted and joined by newlines."""
  return hashlib.sha256("\n".join(sorted(set(names))).encode("utf-8", "surrogatepass")).hexdigest()


def compare_names(
  known: KnownSet,
  found_names: Iterable[str],
  named_by_groundtruth: Collection[str],
  listed: Collection[str] | None = None,
) -> list[Problem]:
  """What is wrong with the files of a set's folder, by their names alone.

  A file's name counts without its folder and ending, as the ground truth has it. The files of a set without ground truth may
  have one name in several folders.

  Args:
    known: the set.
    found_names: the files, as paths below the folder.
    named_by_groundtruth: images that have to be there, without ending.
    listed: all images of the set, without ending, from a list that came with it; None: there is none.

  Returns:
    Problems; none where nothing is wrong.
  """
  files = collections.defaultdict(list)
  for path in found_names:
    files[_name_of(path, known.groundtruth != "none")].append(path)
  bad = find_bad(known, (path for paths in files.values() for path in paths))
  found = files.keys() - known.bad_images
  named = set(named_by_groundtruth)
  problems = []
  if bad:
    what, them = ("a known corrupted one", "it") if len(bad) == 1 else ("the known corrupted ones", "them")
    problems.append(Problem(f"{count_of(bad, 'file is', 'files are')} {what} of {known.title}, remove {them}", bad))
  missing = named - found
  if missing:
    what = f"{count_of(missing, 'image', 'images')} of the {len(named):,} that its ground truth names"
    problems.append(Problem(f"{what} {'is' if len(missing) == 1 else 'are'} not there", tuple(sorted(missing))))
  if listed is None:
    problems += _compare_count(known, found, len(missing))
  else:
    problems += _compare_list(known, found, missing, set(listed) - known.bad_images)
  twice = {name: paths for name, paths in files.items() if len(paths) > 1 and name in found}
  if twice:
    pairs = tuple(" and ".join(sorted(twice[name])) for name in sorted(twice))
    what = count_of(twice, "name is that", "names are those")
    problems.append(Problem(f"{what} of several files, in other folders or with other endings", pairs))
  return problems


def find_bad(known: KnownSet, found_names: Iterable[str]) -> tuple[str, ...]:
  """The files, sorted, that are the set's known corrupted ones."""
  is_alone = known.groundtruth != "none"
  return tuple(sorted(path for path in found_names if _name_of(path, is_alone) in known.bad_images))


def _compare_count(known: KnownSet, found: Collection[str], missing: int) -> list[Problem]:
  """Whether there are as many as should be and, as far as that can be told without a list, those."""
  if known.images is None:
    return []
  if len(found) != known.images:
    differ = abs(len(found) - known.images)
    verb = f"{differ:,} too {'few' if len(found) < known.images else 'many'}"
    return [Problem(f"{known.title} has {known.images:,} images; found {len(found):,}, {verb}{_tell_list(known)}")]
  if missing or (known.names_sha256 is not None and digest_names(found) != known.names_sha256):
    what = f"there are {len(found):,} images, as many as {known.title} has, but their names are not all its own"
    return [Problem(what + _tell_list(known))]
  return []


def _tell_list(known: KnownSet) -> str:
  """Where a list could come from, which would tell names."""
  if known.names_sha256 is None:
    return ""
  revisited = find_revisited(known)
  beside = f", or {revisited.name}/ with its ground truth beside it," if revisited else ""
  return f" (a list of them, a name a line, in groundtruth/list_{known.name}.txt{beside} tells which)"


def find_revisited(known: KnownSet) -> KnownSet | None:
  """The revisited set on the same images, whose ground truth lists them all; None: there is none."""
  alike = (one for one in KNOWN.values() if one.groundtruth == "revisited" and one.names_sha256 == known.names_sha256)
  return None if known.names_sha256 is None else next(alike, None)


def _compare_list(known: KnownSet, found: Collection[str], missing: Collection[str], listed: Collection[str]) -> list[Problem]:
  """Whether the list is the set's own, and the images are those of the list; `missing` were told already."""
  problems = []
  is_other = known.names_sha256 is not None and digest_names(listed) != known.names_sha256
  if is_other:
    where = "its ground truth" if known.groundtruth == "revisited" else "its list"
    names = count_of(listed, "image", "images")
    what = f"{where} names {names}, which are not the {known.images:,} of {known.title} (is it the published file?)"
    problems.append(Problem(what))
  lacking, other = tuple(sorted(listed - found - missing)), tuple(sorted(found - listed))
  if lacking:
    what = f"{count_of(lacking, 'image', 'images')} of the {len(listed):,} of its list"
    problems.append(Problem(f"{what} {'is' if len(lacking) == 1 else 'are'} not there", lacking))
  if other:
    of = "among those" if is_other else f"of {known.title}"
    problems.append(Problem(f"{count_of(other, 'image is', 'images are')} not {of}", other))
  return problems


def _name_of(path: str, is_alone: bool) -> str:
  """Without ending and, of a name that stands alone, without folders."""
  return os.path.splitext(path.rpartition("/")[2] if is_alone else path)[0]
