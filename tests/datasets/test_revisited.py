"""The pickles of ROxford5k and RParis6k: what is read, everything that is wrong in one error, and files that are hostile."""

import copy
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from cwf_jax.datasets.groundtruth import GroundTruthError
from cwf_jax.datasets.revisited import RevisitedGroundTruth, RevisitedQuery, read_revisited
from cwf_jax.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "groundtruth"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the project's data pack (shared/data/groundtruth) is not here")

CONTENT = {
  "imlist": ["a", "b", "c", "d", "e"],
  "qimlist": ["p", "q"],
  "gnd": [
    {"bbx": [136.5, 34, 648.5, 955.7], "easy": [3, 0, 3], "hard": [1], "junk": [4]},
    {"bbx": [0, 0, 5, 7], "easy": [], "hard": [], "junk": []},
  ],
}
TRUTH = RevisitedGroundTruth(
  ("a", "b", "c", "d", "e"),
  (
    RevisitedQuery("p", (136.5, 34.0, 648.5, 955.7), ("d", "a"), ("b",), ("e",)),
    RevisitedQuery("q", (0.0, 0.0, 5.0, 7.0), (), (), ()),
  ),
)


def _write(folder, content, protocol=3):
  file = folder / "gnd_test.pkl"
  file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
  return file


def _change(**query):
  """The content with another first query; a key that is None is left out."""
  content = copy.deepcopy(CONTENT)
  changed = {**content["gnd"][0], **query}
  content["gnd"][0] = {key: value for key, value in changed.items() if value is not None}
  return content


@real
@pytest.mark.parametrize(("name", "database"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_the_real_files(name, database):
  found = read_revisited(REAL / f"revisited/gnd_{name}.pkl")
  assert (len(found.database), len(found.queries)) == (database, 70)
  listed = (REAL / f"lists/list_{name[1:].rstrip('56k')}_rank.txt").read_text().split()
  images = [query.image for query in found.queries]
  assert sorted([*found.database, *images]) == sorted(listed) and len(set(images)) == 70
  with open(REAL / f"revisited/gnd_{name}.pkl", "rb") as file:
    source = pickle.load(file)  # of the project's own data pack
  for query, answer in zip(found.queries, source["gnd"], strict=True):
    assert query.box == tuple(map(float, answer["bbx"]))
    for key in ("easy", "hard", "junk"):
      assert getattr(query, key) == tuple(source["imlist"][row] for row in dict.fromkeys(answer[key]))
  # METHOD 5.3: two queries of ROxford5k have no easy positive.
  assert sum(not query.easy for query in found.queries) == (2 if name == "roxford5k" else 0)


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_read(protocol, tmp_path):
  assert read_revisited(_write(tmp_path, CONTENT, protocol)) == TRUTH
  assert read_revisited(str(tmp_path / "gnd_test.pkl")) == TRUTH


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_tuples_are_as_good_as_lists(protocol, tmp_path):
  content = copy.deepcopy(CONTENT)
  content["imlist"] = np.array(content["imlist"])
  content["qimlist"] = tuple(map(np.str_, content["qimlist"]))
  for query in content["gnd"]:
    query.update(bbx=np.array(query["bbx"]), easy=np.array(query["easy"], np.int64), hard=np.array(query["hard"], float))
    query["junk"] = [np.int32(row) for row in query["junk"]]
  assert read_revisited(_write(tmp_path, content, protocol)) == TRUTH


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({}, "it lacks imlist, qimlist, gnd"),
    ({**CONTENT, "ok": 1, 5: 2}, r"it has keys that are not known: ok, a number \(known are imlist, qimlist, gnd\)"),
    ({**CONTENT, "imlist": "abc"}, "imlist is a list of names; found a text; the database is empty; .*"),
    ({"imlist": [], "qimlist": [], "gnd": []}, "the database is empty; there is no query"),
    (
      {**CONTENT, "imlist": ["a", 1, "c", None, ""]},
      "imlist is a list of names; 3 of its 5 items are none, the first is a number",
    ),
    ({**CONTENT, "imlist": ["a", "b", "b", "a", "a"]}, "2 names are in imlist more than once: a, b"),
    ({**CONTENT, "qimlist": ["p", "p"]}, "1 names are in qimlist more than once: p"),
    ({**CONTENT, "qimlist": ["p", "b"]}, "1 of the queries' images are in the database, too: b"),
    ({**CONTENT, "qimlist": [b"p", "q"]}, "qimlist is a list of names; 1 of its 2 items are none, the first is bytes"),
    ({**CONTENT, "gnd": {}}, "gnd is a list with one entry a query; found a dictionary"),
    ({**CONTENT, "gnd": CONTENT["gnd"] * 2}, "gnd has an entry for each query of qimlist; found 4 for 2"),
    (
      {**CONTENT, "gnd": [[], CONTENT["gnd"][1]]},
      r"query 0 \(p\) is a dictionary of bbx, easy, hard and junk; found a list of 0",
    ),
    (_change(bbx=None, junk=None), r"query 0 \(p\) lacks bbx, junk"),
    (_change(ok=[1]), r"query 0 \(p\) has keys that are not known: ok \(known are bbx, easy, hard, junk\)"),
    (_change(easy=3), r"query 0 \(p\): easy is a list of rows of imlist; found a number"),
    (_change(easy="30"), r"query 0 \(p\): easy is a list of rows of imlist; found a text"),
    (_change(easy=[3, 0.5]), r"query 0 \(p\): easy is a list of rows, whole numbers; 1 of its 2 items are none, .* is 0\.5"),
    (_change(easy=[True]), r"query 0 \(p\): easy is a list of rows, .* is true or false"),
    (_change(hard=[float("nan")]), r"query 0 \(p\): hard is a list of rows, .* is nan"),
    (_change(hard=[float("inf")]), r"query 0 \(p\): hard is a list of rows, .* is inf"),
    (_change(hard=[[1]]), r"query 0 \(p\): hard is a list of rows, .* is a list of 1"),
    (_change(hard=["a"]), r"query 0 \(p\): hard is a list of rows, .* is a text"),
    (
      _change(junk=[-1, 5, 4, 1e300, 10**30, 6, 7]),
      r"query 0 \(p\): junk: 6 rows are outside of imlist, which has 5: -1, 5, a huge number, a huge number, 6 and more",
    ),
    (_change(hard=[1, 3, 0]), r"query 0 \(p\): 2 rows are both easy and hard: d, a"),
    (_change(junk=[3]), r"query 0 \(p\): 1 row is both easy and junk: d"),
    (_change(junk=[1]), r"query 0 \(p\): 1 row is both hard and junk: b"),
    *(
      (_change(bbx=box), rf"query 0 \(p\): bbx is left, top, right, bottom, .*; found {found}")
      for box, found in (
        ([1, 2, 3], "a list of 3"), ("1234", "a text"), ([3, 2, 1, 4], "3, 2, 1, 4"), ([1, 2, 3, 2], "1, 2, 3, 2"),
        ([1, 2, float("nan"), 4], "1, 2, nan, 4"), ([1, 2, float("inf"), 4], "1, 2, inf, 4"),
        ([1, 2, 3, 10**400], "1, 2, 3, a number"), ([1, 2, "3", 4], "1, 2, a text, 4"), ([0, 0, True, 4], "0, 0, true or .*"),
        ([1, 2, [], {}], "1, 2, a list of 0, a dictionary"),
      )
    ),
  ],
)  # fmt: skip
def test_contents_that_are_refused(content, message, tmp_path):
  with pytest.raises(GroundTruthError, match=rf"^the ground truth .*gnd_test\.pkl cannot be used: {message}$"):
    read_revisited(_write(tmp_path, content))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ([], "should be a dictionary of imlist, qimlist and gnd; found a list of 0"),
    (None, "should be a dictionary of imlist, qimlist and gnd; found None"),
    (b"", "cannot be read as a pickle of plain values: it is no pickle, or a damaged one: .*"),
    (b"not a pickle", "cannot be read as a pickle of plain values: it is no pickle, or a damaged one: .*"),
    (pickle.dumps(CONTENT)[:-20], "cannot be read as a pickle of plain values: it is no pickle, or a damaged one: .*"),
    (b"cos\nsystem\n(S'touch ran'\ntR.", "cannot be read as a pickle of plain values: it asks for os.system, .*"),
  ],
)
def test_files_that_are_no_such_pickle(content, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=rf"^the ground truth .*gnd_test\.pkl {message}$") as caught:
    read_revisited(_write(tmp_path, content))
  assert "\n" not in str(caught.value) and os.listdir(tmp_path) == ["gnd_test.pkl"]


def test_files_that_cannot_be_read(tmp_path):
  for name, reason in (("missing.pkl", "No such file"), ("", "Is a directory"), ("a\0b", "null byte")):
    with pytest.raises(GroundTruthError, match=f"^the ground truth .* cannot be read: .*{reason}"):
      read_revisited(tmp_path / name)
  with open(tmp_path / "large.pkl", "wb") as file:
    file.truncate(64 * 2**20 + 1)
  with pytest.raises(GroundTruthError, match=r"large\.pkl has over 64 MB; "):
    read_revisited(tmp_path / "large.pkl")


def test_all_problems_are_told_at_once_on_one_line(tmp_path):
  content = {**_change(bbx=[1], hard=[9]), "more\nkeys": 1}
  content["qimlist"] = ["p\x1b", "a"]
  with pytest.raises(GroundTruthError) as caught:
    read_revisited(_write(tmp_path, content))
  told = str(caught.value)
  parts = ("more\\nkeys", "are in the database, too: a", "query 0 (p\\x1b): hard: 1 row is", "query 0 (p\\x1b): bbx is left")
  assert "\n" not in told and told.count(";") == 4 - 1 + 1 and all(part in told for part in parts)


def test_of_many_problems_the_first_are_told(tmp_path):
  content = {**CONTENT, "qimlist": [f"q{number}" for number in range(70)], "gnd": [{}] * 70}
  with pytest.raises(GroundTruthError, match=r"query 9 \(q9\) lacks bbx, easy, hard, junk; and 60 problems more$"):
    read_revisited(_write(tmp_path, content))


def test_one_list_that_stands_for_those_of_many_queries(tmp_path):
  rows = list(range(1000))
  content = {
    "imlist": [f"a{row}" for row in rows],
    "qimlist": [f"q{row}" for row in range(2001)],
    "gnd": [{"bbx": [0, 0, 1, 1], "easy": rows, "hard": [], "junk": []}] * 2001,
  }
  with pytest.raises(GroundTruthError, match=r"its queries list 2,001,000 rows, far more than a ground truth needs$"):
    read_revisited(_write(tmp_path, content))


def test_whatever_the_bytes_they_are_read_or_refused(tmp_path):
  chance = random.Random(0)
  sources = [pickle.dumps(CONTENT, protocol) for protocol in range(6)]
  for number in range(400):
    content = bytearray(sources[number % 6])
    for _ in range(chance.randint(1, 2)):
      content[chance.randrange(len(content))] = chance.randrange(256)
    try:
      found = read_revisited(_write(tmp_path, bytes(content)))
    except GroundTruthError as error:
      assert "\n" not in str(error)
    else:
      assert len(found.queries) == 2 and len(set(found.database)) == 5
