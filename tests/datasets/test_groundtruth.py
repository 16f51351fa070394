"""The benchmarks' own files as they are, files written and read back, and everything that is refused."""

import dataclasses
import math
import os
import unicodedata
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from cwf_jax.datasets.groundtruth import GroundTruthError, Query, read_groundtruth, write_groundtruth
from cwf_jax.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "groundtruth"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the project's data pack (shared/data/groundtruth) is not here")

QUERY = Query("tower_1", "tower_000013", (136.5, 34.1, 648.5, 955.7), ("tower_000001", "tower_000013"), ("a",), ("b", "c"))
OTHER = Query("tower_2", "tower_000013", (0.0, 0.0, 5.0, 7.0), (), (), ())


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@real
@pytest.mark.parametrize(("name", "images", "good", "ok"), [("oxford", 5063, 1360, 1480), ("paris", 6392, 0, 8955)])
def test_the_real_files(name, images, good, ok):
  known = set((REAL / f"lists/list_{name}_rank.txt").read_text().split())
  assert len(known) == images
  queries = read_groundtruth(REAL / f"{name}{'5k' if name == 'oxford' else '6k'}")
  assert len(queries) == 55 and [query.name for query in queries] == sorted(query.name for query in queries)
  assert (sum(len(query.good) for query in queries), sum(len(query.ok) for query in queries)) == (good, ok)
  for query in queries:
    assert {query.image, *query.positives, *query.junk} <= known
    assert query.positives == query.good + query.ok and query.positives
    assert not set(query.positives) & set(query.junk)
    assert all(map(math.isfinite, query.box)) and query.box[0] < query.box[2] and query.box[1] < query.box[3]


@real
def test_a_real_query_and_its_repeated_name():
  query = read_groundtruth(REAL / "oxford5k")[0]
  assert (query.name, query.image, query.box) == ("all_souls_1", "all_souls_000013", (136.5, 34.1, 648.5, 955.7))
  lines = (REAL / "oxford5k/all_souls_1_good.txt").read_text().split()
  assert (len(lines), lines.count("all_souls_000091")) == (25, 2)
  assert (len(query.good), query.good.count("all_souls_000091")) == (24, 1)
  assert query.good == tuple(dict.fromkeys(lines))
  assert (len(query.ok), len(query.junk)) == (54, 33)


@real
@pytest.mark.parametrize("name", ["oxford5k", "paris6k"])
def test_the_real_files_written_and_read_back(name, tmp_path):
  queries = read_groundtruth(REAL / name)
  write_groundtruth(tmp_path, reversed(queries))
  assert read_groundtruth(tmp_path) == queries
  source, written = _files(REAL / name), _files(tmp_path)
  assert set(written) == set(source) and len(written) == 220
  # Lists are the source's to the byte, apart from the one repeated name; boxes are the same numbers.
  changed = {file for file in source if not file.endswith("_query.txt") and source[file] != written[file]}
  assert changed == ({"all_souls_1_good.txt"} if name == "oxford5k" else set())
  for file in source:
    if file.endswith("_query.txt"):
      image, *sides = written[file].decode().split()
      assert image == source[file].decode().split()[0].removeprefix("oxc1_")
      assert list(map(float, sides)) == list(map(float, source[file].split()[1:]))
      assert all(len(side.split(".")[1]) == 1 for side in sides)


def test_the_bytes_that_are_written(tmp_path):
  write_groundtruth(tmp_path / "new/folder", [QUERY, OTHER])
  expected = {
    "tower_1_query.txt": b"tower_000013 136.5 34.1 648.5 955.7\n",
    "tower_1_good.txt": b"tower_000001\ntower_000013\n",
    "tower_1_ok.txt": b"a\n",
    "tower_1_junk.txt": b"b\nc\n",
    "tower_2_query.txt": b"tower_000013 0.0 0.0 5.0 7.0\n",
    **dict.fromkeys(("tower_2_good.txt", "tower_2_ok.txt", "tower_2_junk.txt"), b""),
  }
  assert _files(tmp_path / "new/folder") == expected
  assert read_groundtruth(tmp_path / "new/folder") == (QUERY, OTHER)


def test_only_its_own_files_are_replaced(tmp_path):
  write_groundtruth(tmp_path, [QUERY, OTHER])
  (tmp_path / "notes.txt").write_text("mine")
  (tmp_path / "some_good.txt").write_text("mine, too")
  (tmp_path / "pictures").mkdir()
  write_groundtruth(str(tmp_path), iter([dataclasses.replace(QUERY, good=("z",))]))
  assert (tmp_path / "tower_1_good.txt").read_text() == "z\n"
  assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "some_good.txt").read_text() == "mine, too"
  assert read_groundtruth(str(tmp_path)) == (dataclasses.replace(QUERY, good=("z",)), OTHER)
  assert len(list(tmp_path.iterdir())) == 11


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
  write_groundtruth(tmp_path, [QUERY])
  before = _files(tmp_path)

  def refuse(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", refuse)
  with pytest.raises(OSError, match="No space left"):
    write_groundtruth(tmp_path, [dataclasses.replace(QUERY, good=("z",), ok=("y",), junk=())])
  assert _files(tmp_path) == before


def test_positives_are_good_then_ok_each_once():
  assert dataclasses.replace(QUERY, good=("b", "a", "b"), ok=("c", "a")).positives == ("b", "a", "c")


def test_a_prefix_is_removed_and_lines_may_end_in_any_way(tmp_path):
  write_groundtruth(tmp_path, [QUERY])
  (tmp_path / "tower_1_query.txt").write_bytes(b"\xef\xbb\xbfoxc1_tower_000013\t136.5  34.1 648.50000 955.7\r\n\r\n")
  (tmp_path / "tower_1_good.txt").write_bytes(b"\xef\xbb\xbftower_000001\r\n\n tower_000013 \rtower_000001")
  (tmp_path / "tower_1_junk.txt").write_bytes(b"b\nc")
  assert read_groundtruth(tmp_path) == (QUERY,)
  (tmp_path / "tower_1_query.txt").write_bytes(b"oxc1_oxc1_tower 1 2 3 4\n")
  query = read_groundtruth(tmp_path)[0]
  assert query.image == "oxc1_tower"
  write_groundtruth(tmp_path, [query])
  assert read_groundtruth(tmp_path) == (query,)


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("tower_1_query.txt", None, "tower_1_query.txt is missing"),
    ("tower_1_good.txt", None, "tower_1_good.txt is missing"),
    ("tower_1_ok.txt", None, "tower_1_ok.txt is missing"),
    ("tower_1_junk.txt", None, "tower_1_junk.txt is missing"),
    ("tower_1_ok.txt", b"caf\xe9\n", "tower_1_ok.txt is not UTF-8"),
    ("tower_1_query.txt", b"caf\xe9 1 2 3 4\n", "tower_1_query.txt is not UTF-8"),
    ("tower_1_query.txt", b"", "tower_1_query.txt should be one line, .*; found 0 lines"),
    ("tower_1_query.txt", b"a 1 2 3 4\nb 1 2 3 4\n", "tower_1_query.txt should be one line, .*; found 2 lines"),
    *(
      ("tower_1_query.txt", line.encode(), f"tower_1_query.txt should be one line, .*; found '{line}'")
      for line in (
        *("a", "a 1 2 3", "a 1 2 3 4 5", "1 2 3 4", "a 1 2 x 4", "a b 1 2 3 4", "a 1,2,3,4", "oxc1_ 1 2 3 4"),
        *("a 3 2 1 4", "a 1 4 3 2", "a 1 2 1 4", "a 1 2 3 2", "a nan 2 3 4", "a 1 2 inf 4", "a -inf 2 3 4"),
      )
    ),
    ("tower_1_ok.txt", b"x\ntower_000013\n", "tower_1_good.txt and tower_1_ok.txt both name tower_000013"),
    ("tower_1_junk.txt", b"x\ntower_000013\n", "tower_1_good.txt and tower_1_junk.txt both name tower_000013"),
    ("tower_1_ok.txt", b"c\nx\nb\n", "tower_1_ok.txt and tower_1_junk.txt both name c, b"),
  ],
)
def test_files_that_are_refused(file, content, message, tmp_path):
  write_groundtruth(tmp_path, [QUERY, OTHER])
  (tmp_path / file).unlink()
  if content is not None:
    (tmp_path / file).write_bytes(content)
  with pytest.raises(GroundTruthError, match=f"^the ground truth .* cannot be used: {message}$"):
    read_groundtruth(tmp_path)


def test_all_problems_are_told_at_once_on_one_line(tmp_path):
  write_groundtruth(tmp_path, [QUERY, OTHER, dataclasses.replace(QUERY, name="tower_3")])
  (tmp_path / "tower_1_query.txt").write_text("a 1 2\x0c3\n")
  (tmp_path / "tower_2_ok.txt").write_text("x\x0by\n")
  (tmp_path / "tower_2_junk.txt").write_text("x\x0by\n")
  (tmp_path / "tower_3_good.txt").unlink()
  (tmp_path / "tower_3_good.txt").mkdir()
  (tmp_path / "tower_3_junk.txt").unlink()
  (tmp_path / "new\nline_query.txt").write_text("a 1 2 3 4\n")
  with pytest.raises(GroundTruthError) as caught:
    read_groundtruth(tmp_path)
  told = str(caught.value)
  assert isinstance(caught.value, InputError) and "\n" not in told
  assert told.count(";") == 7 - 1 + 1  # seven problems, one of them with a semicolon of its own
  for part in (
    *("tower_1_query.txt should be", "tower_2_ok.txt and tower_2_junk.txt both name x\\x0by"),
    *("tower_3_good.txt cannot be read: Is a directory", "tower_3_junk.txt is missing"),
    *(f"new\\nline_{kind}.txt is missing" for kind in ("good", "ok", "junk")),
  ):
    assert part in told


def test_a_query_whose_name_is_not_utf8_is_refused(tmp_path):
  write_groundtruth(tmp_path, [QUERY])
  for kind in ("query", "good", "ok", "junk"):
    content = (tmp_path / f"tower_1_{kind}.txt").read_bytes()
    with open(os.fsencode(tmp_path) + b"/caf\xe9_" + kind.encode() + b".txt", "wb") as file:
      file.write(content)
  with pytest.raises(GroundTruthError, match=r"cannot be used: the name of caf\\udce9_query.txt is not UTF-8$"):
    read_groundtruth(tmp_path)


def test_odd_names_are_escaped_in_messages_and_plain_ones_are_not(tmp_path):
  for name, shown in (("\x1b[31m\n\u2028", "\\x1b[31m\\n\\u2028"), ("it's a\\b", "it's a\\b")):
    with pytest.raises(GroundTruthError) as caught:
      read_groundtruth(tmp_path / name)
    assert str(caught.value) == f"the ground truth {tmp_path}/{shown} cannot be read: No such file or directory"
    (tmp_path / name).touch()
    with pytest.raises(GroundTruthError) as caught:
      read_groundtruth(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path}/{shown} is a file; ")


def test_folders_that_are_refused(tmp_path):
  with pytest.raises(GroundTruthError, match=r"there is no query in it, no file NAME_query\.txt$"):
    read_groundtruth(tmp_path)
  for name in ("a_good.txt", "a_ok.txt", "_query.txt", "query.txt", "notes"):
    (tmp_path / name).write_text("a")
  with pytest.raises(GroundTruthError, match="there is no query in it"):
    read_groundtruth(tmp_path)
  with pytest.raises(GroundTruthError, match=r"notes is a file; the ground truth is a folder of NAME_query\.txt and so on"):
    read_groundtruth(tmp_path / "notes")
  for name in ("missing", "mis\nsing", "n\0thing", "x" * 300):
    with pytest.raises(GroundTruthError, match=r"^the ground truth .* cannot be read: .*$"):
      read_groundtruth(tmp_path / name)
  for name in ("notes", "notes/below"):
    with pytest.raises(GroundTruthError, match="cannot be a folder: it or a part of its path is a file"):
      write_groundtruth(tmp_path / name, [QUERY])


BAD_NAMES = ("", "a/b", "a\\b", "a b", " a", "a\n", "a\0b", "a\x7f", "a\x85b", "a\u2028b", "\u3000", "\udce9", "\ufeffa")


@pytest.mark.parametrize("field", ["name", "image", "good", "ok", "junk"])
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_are_not_written(name, field, tmp_path):
  value = name if field in ("name", "image") else ("x", name)
  with pytest.raises(GroundTruthError, match=r"cannot be written: .*no path separator, whitespace or control") as caught:
    write_groundtruth(tmp_path / "new", [OTHER, dataclasses.replace(QUERY, **{field: value})])
  assert repr(name) in str(caught.value)
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
  ("queries", "message"),
  [
    ([], "there is no query to write"),
    ([QUERY, OTHER, QUERY], "the name 'tower_1' is that of 2 queries"),
    ([dataclasses.replace(QUERY, good=("x", "x"))], "'tower_1': 'x' is 2 times in its lists"),
    ([dataclasses.replace(QUERY, junk=("a",))], "'tower_1': 'a' is 2 times in its lists"),
    *(
      ([dataclasses.replace(QUERY, box=box)], "'tower_1': a box is four finite numbers in order, a tenth of a pixel apart; .*")
      for box in ((1, 2, 3), (1, 2, 3, 4, 5), (3, 2, 1, 4), (1, 4, 3, 2), (1, 2, 1.04, 4), (1, 2, math.inf, 4), (math.nan,) * 4)
    ),
    (
      [dataclasses.replace(QUERY, image="a b"), dataclasses.replace(OTHER, box=())],
      "'tower_1': a name .* found 'a b'; 'tower_2': a box .*",
    ),
  ],
)  # fmt: skip
def test_queries_that_are_not_written(queries, message, tmp_path):
  with pytest.raises(GroundTruthError, match=f"cannot be written: {message}$"):
    write_groundtruth(tmp_path / "new", queries)
  assert not (tmp_path / "new").exists()


def test_a_box_near_zero_has_no_minus_sign(tmp_path):
  write_groundtruth(tmp_path, [dataclasses.replace(QUERY, box=(-0.01, -0.0, 9, 9.96))])
  assert (tmp_path / "tower_1_query.txt").read_text() == "tower_000013 0.0 0.0 9.0 10.0\n"


def _is_name(text):
  return text.split() == [text] and not any(mark in "/\\\ufeff" or unicodedata.category(mark) == "Cc" for mark in text)


names = (
  st.from_regex(r"(oxc1_)?[a-z0-9_.\-]{1,12}", fullmatch=True)
  | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
).filter(_is_name)


@st.composite
def draw_queries(draw):
  queries = []
  for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
    listed = draw(st.lists(names, max_size=9, unique=True))
    first, second = sorted(draw(st.tuples(st.integers(0, len(listed)), st.integers(0, len(listed)))))
    left, top, width, height = draw(st.tuples(*[st.integers(-50, 20000)] * 2, *[st.integers(1, 20000)] * 2))
    box = tuple(side / 10 for side in (left, top, left + width, top + height))
    lists = map(tuple, (listed[:first], listed[first:second], listed[second:]))
    queries.append(Query(name, draw(names), box, *lists))
  return queries


@hypothesis.settings(max_examples=60)
@hypothesis.given(draw_queries())
def test_what_is_written_is_read_back(tmp_path_factory, queries):
  folder, again = tmp_path_factory.mktemp("written"), tmp_path_factory.mktemp("again")
  write_groundtruth(folder, queries)
  found = read_groundtruth(folder)
  assert found == tuple(sorted(queries, key=lambda query: query.name))
  write_groundtruth(again, found)
  assert _files(folder) == _files(again) and len(_files(folder)) == 4 * len(queries)
