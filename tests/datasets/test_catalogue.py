"""What is known of each benchmark, against the real lists; and folders that are not the set they should be."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from cwf_jax.datasets.catalogue import KNOWN, compare_names, digest_names, find_known
from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.datasets.holidays import find_queries
from cwf_jax.datasets.revisited import read_revisited
from cwf_jax.errors import InputError
from cwf_jax.images.decoding import EXTENSIONS
from cwf_jax.toy.landmarks import QUERIES, TOY_OXFORD, TOY_PARIS

REAL = Path(__file__).parents[3] / "shared" / "data" / "groundtruth"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the project's data pack (shared/data/groundtruth) is not here")

NAMES = [f"tower_{number:03d}" for number in range(10)]
SMALL = dataclasses.replace(KNOWN["paris6k"], title="Towers", images=10, names_sha256=digest_names(NAMES))
FILES = [f"{name}.jpg" for name in NAMES]


def _read_real(name):
  """(all images, those that the ground truth names, the list that comes with it)."""
  listed = (REAL / f"lists/list_{'oxford' if 'oxford' in name else 'paris'}_rank.txt").read_text().split()
  if name.startswith("r"):
    truth = read_revisited(REAL / f"revisited/gnd_{name}.pkl")
    images = {*truth.database, *(query.image for query in truth.queries)}
    return listed, images, images, len(truth.queries)
  truth = read_groundtruth(REAL / name)
  return listed, {image for query in truth for image in (query.image, *query.positives, *query.junk)}, None, len(truth)


@real
@pytest.mark.parametrize("name", ["oxford5k", "paris6k", "roxford5k", "rparis6k"])
def test_the_real_lists(name):
  known = find_known(name)
  images, named, listed, queries = _read_real(name)
  assert (len(images), queries) == (known.images, known.queries) and digest_names(images) == known.names_sha256
  assert not known.bad_images & set(images) and len(known.bad_images) == (20 if "paris" in name else 0)
  for files in ([f"{image}.jpg" for image in images], [f"{image.split('_')[1]}/{image}.JPG" for image in images]):
    assert compare_names(known, files, named, listed) == []
  if listed is None:
    assert compare_names(known, [f"{image}.jpg" for image in images], named, images) == []


@real
def test_the_whole_download_of_paris():
  known = find_known("paris6k")
  images, named, _, _ = _read_real("paris6k")
  files = [f"{image}.jpg" for image in (*images, *known.bad_images)]
  assert len(files) == 6412
  found = compare_names(known, files, named)
  names = tuple(f"{name}.jpg" for name in sorted(known.bad_images))
  assert found == [("20 files are the known corrupted ones of Paris6k, remove them", names)]
  assert str(found[0]).endswith(f": {', '.join(names[:5])} and 15 more")
  assert found[0].tell_all().splitlines() == [found[0].what, *(f"  {name}" for name in names)]
  assert compare_names(find_known("rparis6k"), files, images, [*images, *known.bad_images]) == [
    (found[0].what.replace("P", "RP", 1), names)
  ]


@real
def test_the_pickle_of_another_set():
  images, _, _, _ = _read_real("oxford5k")
  _, named, listed, _ = _read_real("rparis6k")
  found = [str(one) for one in compare_names(find_known("roxford5k"), [f"{image}.jpg" for image in images], named, listed)]
  assert found[0].startswith("6,392 images of the 6,392 that its ground truth names are not there: paris_defense_000000, ")
  assert found[1] == "its ground truth names 6,392 images, which are not the 5,063 of ROxford5k (is it the published file?)"
  assert found[2].startswith("5,063 images are not among those: all_souls_000000, ") and len(found) == 3


def test_sets_go_together():
  assert set(KNOWN) == {
    *("oxford5k", "paris6k", "roxford5k", "rparis6k", "flickr100k", "revisited1m", "holidays", "ukbench"),
    *("toy_oxford", "toy_paris"),
  }
  assert len({known.title for known in KNOWN.values()}) == len(KNOWN)
  for name, known in KNOWN.items():
    assert known.name == name and known.title.isprintable()
    assert (known.queries is None) == (known.groundtruth == "none")
    assert (known.distractors is None) == (known.with_distractors is None)
    if known.whitened_by is not None:
      assert KNOWN[known.whitened_by].whitened_by == name and KNOWN[known.whitened_by].groundtruth == known.groundtruth
    if known.distractors is not None:
      assert KNOWN[known.distractors].groundtruth == "none"
  assert KNOWN["oxford5k"].images + KNOWN["flickr100k"].images == 105_133
  assert (KNOWN["roxford5k"].with_distractors, KNOWN["paris6k"].with_distractors) == ("ROxford5k+1M", "Paris106k")


def test_ukbench_holidays_and_the_toys():
  names = [f"ukbench{number:05d}" for number in range(10_200)]
  known = find_known("ukbench")
  assert digest_names(names) == known.names_sha256 and compare_names(known, [f"{name}.jpg" for name in names], ()) == []
  files = [f"{100_000 + 100 * (number % 500) + number // 500}.jpg" for number in range(1_491)]
  assert compare_names(find_known("holidays"), files, ()) == [] and find_queries(files).sum() == 500
  for toy in (TOY_OXFORD, TOY_PARIS):
    assert KNOWN[toy.name].queries == QUERIES * len(toy.scenes)
    assert compare_names(KNOWN[toy.name], ["a.jpg", "b.jpg"], {"a"}) == []


def test_a_name_that_is_not_known():
  with pytest.raises(InputError, match=r"^no data set is named x\\n; there are oxford5k, paris6k, .*, toy_paris$"):
    find_known("x\n")
  with pytest.raises(InputError):
    find_known("")


def test_a_digest_is_of_each_name_once_in_order():
  assert digest_names(["b", "a", "b"]) == digest_names(["a", "b"]) != digest_names(["ab"])
  assert digest_names(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()


@pytest.mark.parametrize("ending", sorted(EXTENSIONS))
def test_any_ending_of_an_image_will_do(ending):
  assert compare_names(SMALL, [name + ending for name in NAMES], NAMES, NAMES) == []
  assert compare_names(SMALL, [name + ending.upper() for name in NAMES], NAMES) == []


LISTS = " (a list of them, a name a line, in groundtruth/list_paris6k.txt tells which)"


@pytest.mark.parametrize(
  ("files", "named", "listed", "problems"),
  [
    (FILES, NAMES[:3], None, []),
    (FILES, NAMES[:3], NAMES, []),
    (
      FILES[2:], NAMES[:3], None,
      ["2 images of the 3 that its ground truth names are not there: tower_000, tower_001",
       "Towers has 10 images; found 8, 2 too few" + LISTS],
    ),
    (FILES[1:], NAMES[5:], None, ["Towers has 10 images; found 9, 1 too few" + LISTS]),
    (FILES[1:], NAMES[5:], NAMES, ["1 image of the 10 of its list is not there: tower_000"]),
    (FILES[1:], NAMES[:5], NAMES, ["1 image of the 5 that its ground truth names is not there: tower_000"]),
    ([*FILES, "x.jpg"], NAMES, None, ["Towers has 10 images; found 11, 1 too many" + LISTS]),
    ([*FILES, "x.jpg", "y/\x1b.png"], NAMES, NAMES, ["2 images are not of Towers: \\x1b, x"]),
    (
      [*FILES[:9], "x.jpg"], NAMES[:3], None,
      ["there are 10 images, as many as Towers has, but their names are not all its own" + LISTS],
    ),
    (
      [*FILES[:9], "x.jpg"], NAMES[:3], NAMES,
      ["1 image of the 10 of its list is not there: tower_009", "1 image is not of Towers: x"],
    ),
    (
      FILES, NAMES, NAMES[:9],
      [
        "its list names 9 images, which are not the 10 of Towers (is it the published file?)",
        "1 image is not among those: tower_009",
      ],
    ),
    (
      [*FILES, "a/tower_001.jpg", "tower_001.png", "tower_002.JPG"], NAMES, None,
      ["2 names are those of several files, in other folders or with other endings: "
       "a/tower_001.jpg and tower_001.jpg and tower_001.png, tower_002.JPG and tower_002.jpg"],
    ),
    (
      [*FILES, "paris_louvre_000136.jpg"], NAMES, None,
      ["1 file is a known corrupted one of Towers, remove it: paris_louvre_000136.jpg"],
    ),
    (
      [*FILES, "louvre/paris_louvre_000136.jpg", "paris_louvre_000136.jpg"], NAMES, NAMES,
      ["2 files are the known corrupted ones of Towers, remove them: louvre/paris_louvre_000136.jpg, paris_louvre_000136.jpg"],
    ),
    ([], NAMES[:7], None,
     ["7 images of the 7 that its ground truth names are not there: "
      "tower_000, tower_001, tower_002, tower_003, tower_004 and 2 more",
      "Towers has 10 images; found 0, 10 too few" + LISTS]),
  ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder(files, named, listed, problems):
  assert list(map(str, compare_names(SMALL, iter(files), named, listed))) == problems
  again = compare_names(SMALL, reversed(files), set(named), None if listed is None else set(listed))
  assert list(map(str, again)) == problems


def test_a_set_of_distractors_may_have_a_name_in_several_folders():
  known = dataclasses.replace(KNOWN["flickr100k"], images=2)
  assert compare_names(known, ["a/1.jpg", "b/1.jpg"], ()) == []
  assert list(map(str, compare_names(known, ["a/1.jpg", "b/1.jpg", "b/1.png"], ()))) == [
    "1 name is that of several files, in other folders or with other endings: b/1.jpg and b/1.png"
  ]
  (problem,) = compare_names(KNOWN["revisited1m"], ["a.jpg"], ())
  assert str(problem) == "R1M has 1,001,001 images; found 1, 1,001,000 too few"
