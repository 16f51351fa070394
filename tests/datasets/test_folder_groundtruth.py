"""The JSON of a folder of images: what is read, and everything that is wrong with it in one error."""

import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from cwf_jax.datasets.folder_groundtruth import FolderGroundTruth, FolderQuery, read_folder_groundtruth
from cwf_jax.datasets.groundtruth import GroundTruthError
from cwf_jax.errors import InputError

REAL = Path(__file__).parents[2].parent / "shared/data/retrieval/grocery/gt.json"


def _write(folder, content):
  file = folder / "gt.json"
  file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
  return file


def _content(**query):
  return {"database": ["a.jpg", "b.jpg", "c/d.png"], "queries": {"q.jpg": {"relevant": ["a.jpg"], "junk": [], **query}}}


def test_what_is_read(tmp_path):
  content = _content(junk=["c/d.png", "b.jpg", "b.jpg"], box=[1, 2.5, 30, 40])
  content["queries"]["a.jpg"] = {"relevant": []}
  found = read_folder_groundtruth(_write(tmp_path, content))
  assert found == FolderGroundTruth(
    ("a.jpg", "b.jpg", "c/d.png"),
    (
      FolderQuery("q.jpg", (1.0, 2.5, 30.0, 40.0), ("a.jpg",), ("c/d.png", "b.jpg")),
      FolderQuery("a.jpg", None, (), ()),
    ),
  )
  assert all(type(side) is float for side in found.queries[0].box)


def test_a_path_that_is_text_and_a_mark_at_the_start(tmp_path):
  file = tmp_path / "gt.json"
  file.write_bytes(b"\xef\xbb\xbf" + json.dumps(_content()).encode())
  assert read_folder_groundtruth(str(file)).database == ("a.jpg", "b.jpg", "c/d.png")


def test_a_name_that_is_twice_in_a_list_counts_once(tmp_path):
  content = _content(relevant=["b.jpg", "a.jpg", "b.jpg"])
  assert read_folder_groundtruth(_write(tmp_path, content)).queries[0].relevant == ("b.jpg", "a.jpg")
  content["database"] += ["a.jpg"]
  with pytest.raises(GroundTruthError, match=r"the database has 1 name more than once: a\.jpg$"):
    read_folder_groundtruth(_write(tmp_path, content))


@pytest.mark.skipif(not REAL.exists(), reason="the shared data pack is not there")
def test_the_real_file():
  found = read_folder_groundtruth(REAL)
  assert (len(found.database), len(found.queries)) == (964, 426)
  counts = [len(query.relevant) for query in found.queries]
  assert (min(counts), max(counts)) == (24, 42) and not any(query.junk or query.box for query in found.queries)


BOX = r"a box is \[left, top, right, bottom\], four finite numbers, left < right and top < bottom; found "


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({}, "it lacks database, queries"),
    ({"database": ["a"]}, "it lacks queries"),
    ({**_content(), "images": 1}, r"it has keys that are not known: images \(known are database, queries\)"),
    ({**_content(), "database": {}}, "database is a list of names; found an object; .*"),
    ({"database": [], "queries": {}}, "the database is empty; there is no query"),
    ({**_content(), "queries": []}, "queries is an object with one entry a query; found a list; there is no query"),
    (
      {**_content(), "database": ["a.jpg", 1, "", None]},
      "database is a list of names; 3 of its 4 items are none, the first is a number",
    ),
    ({**_content(), "queries": {"q": "a"}}, "query 'q' is an object with the key relevant; found a text"),
    (_content(relevant="a.jpg"), "query 'q.jpg': relevant is a list of names; found a text"),
    (_content(junk=None), "query 'q.jpg': junk is a list of names; found null"),
    (_content(junk=[True]), "query 'q.jpg': junk is a list of names; 1 of its 1 items are none, the first is true or false"),
    (_content(relevent=[]), r"query 'q.jpg' has keys that are not known: relevent \(known are relevant, junk, box\)"),
    (_content(relevant=["a", "b.jpg", "x"]), "query 'q.jpg': 2 images of relevant not in the database: a, x"),
    (
      _content(junk=[f"x{number}" for number in range(8)]),
      "query 'q.jpg': 8 images of junk not in the database: x0, x1, x2, x3, x4 and more",
    ),
    (
      _content(relevant=["a.jpg", "b.jpg"], junk=["b.jpg"]),
      "query 'q.jpg': 1 image is both relevant and junk: b.jpg",
    ),
    *(
      (_content(box=box), f"query 'q.jpg': {BOX}.*")
      for box in (
        *([], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 1, 4], [1, 4, 3, 2], ["1", 2, 3, 4], [True, 2, 3, 4], "1,2,3,4", None, 5),
        *([float("nan"), 2, 3, 4], [1, 2, float("inf"), 4], [1, 2, 10**400, 4], {"left": 1}),
      )
    ),
  ],
)
def test_contents_that_are_refused(content, message, tmp_path):
  file = _write(tmp_path, content)
  with pytest.raises(GroundTruthError, match=rf"^the ground truth .*gt\.json cannot be used: {message}$"):
    read_folder_groundtruth(file)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "cannot be read as JSON in UTF-8: "),
    ("{", "cannot be read as JSON in UTF-8: "),
    ("[" * 100_000, "cannot be read as JSON in UTF-8: "),
    ("[]", "should be a JSON object with the keys database and queries; found a list"),
    ("null", "should be a JSON object with the keys database and queries; found null"),
    ('{"database": ["a"], "database": ["a"], "queries": {"q": {"relevant": [], "junk": []}}}',
     "cannot be used: keys that are twice in one object: database"),
    ('{"database": ["a"], "queries": {"q": {"relevant": [], "junk": []}, "q": {"relevant": ["a"], "junk": []}}}',
     "cannot be used: keys that are twice in one object: q"),
  ],
)  # fmt: skip
def test_texts_that_are_refused(text, message, tmp_path):
  with pytest.raises(InputError, match=message) as caught:
    read_folder_groundtruth(_write(tmp_path, text))
  assert "\n" not in str(caught.value)


def test_files_that_are_refused(tmp_path):
  (tmp_path / "latin.json").write_bytes(b'{"database": ["caf\xe9"]}')
  for name, reason in (
    ("missing.json", "No such file"), ("", "Is a directory"), ("latin.json", "JSON in UTF-8"), ("a\0b", "null byte"),
  ):  # fmt: skip
    with pytest.raises(GroundTruthError, match=rf"cannot be read.*: .*{reason}|cannot be read as {reason}"):
      read_folder_groundtruth(tmp_path / name)


def test_all_problems_are_told_at_once_on_one_line(tmp_path):
  content = _content(relevant=["gone"], box=[1], extra=1)
  content["queries"]["new\nline"] = {"junk": ["b.jpg"]}
  content["queries"]["third"] = 3
  with pytest.raises(GroundTruthError) as caught:
    read_folder_groundtruth(_write(tmp_path, content))
  told = str(caught.value)
  assert "\n" not in told and told.count(";") == 5 - 1 + 2  # five problems, two of them with a semicolon of their own
  parts = ("extra", "1 image of relevant", "four finite numbers", "new\\nline' lacks relevant", "'third' is an")
  assert all(part in told for part in parts)


json_values = st.recursive(
  st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["a", "b", "relevant", ""]),
  lambda inner: st.lists(inner, max_size=4)
  | st.dictionaries(st.sampled_from(["database", "queries", "relevant", "junk", "box", "a"]), inner, max_size=4),
  max_leaves=20,
)


@hypothesis.settings(max_examples=150)
@hypothesis.given(json_values)
def test_whatever_the_json_it_is_read_or_refused(tmp_path_factory, value):
  file = _write(tmp_path_factory.mktemp("any"), {"database": ["a", "b"], "queries": {"a": value}})
  try:
    assert len(read_folder_groundtruth(file).queries) == 1
  except GroundTruthError as error:
    assert "\n" not in str(error)


def test_of_many_problems_the_first_are_told(tmp_path):
  (tmp_path / "gt.json").write_text(json.dumps({"database": ["a"], "queries": {f"q{number}": {} for number in range(300)}}))
  with pytest.raises(GroundTruthError, match=r"query 'q9' lacks relevant; and 290 problems more$"):
    read_folder_groundtruth(tmp_path / "gt.json")
