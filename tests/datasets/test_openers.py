"""Every kind of ground truth as rows of a database, by hand; what is refused."""

import json
import math
import os
import pickle

import numpy as np
import pytest

from cwf_jax.datasets.catalogue import KNOWN
from cwf_jax.datasets.groundtruth import GroundTruthError
from cwf_jax.datasets.openers import (
  FolderError,
  open_benchmark,
  open_folder,
  open_holidays,
  open_oxford,
  open_revisited,
  open_ukbench,
)
from cwf_jax.errors import InputError
from cwf_jax.metrics.average_precision import mean_average_precision
from cwf_jax.metrics.ranks import find_places


def _score(benchmark, *rankings):
  """The values of rankings, each a list of ids or their beginnings, complete, best first."""
  scores = np.zeros((len(rankings), len(benchmark.database)), np.float32)
  for query, ranked in enumerate(rankings):
    assert len(ranked) == len(benchmark.database)
    for place, name in enumerate(ranked):
      (row,) = [row for row, image in enumerate(benchmark.database) if image == name or image.rpartition(".")[0] == name]
      scores[query, row] = len(ranked) - place
  places = find_places(scores, benchmark.listed, np.arange(scores.shape[1]))
  return {name: values.tolist() for name, values in benchmark.score(places).items()}


def _touch(folder, names):
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


class TestOxford:
  def test_names_come_with_and_without_their_ending(self, empty_benchmark):
    folder = empty_benchmark(
      ["hall.jpg", "b/gate.png", "st.mary.webp", "tower.jpg", "other.jpg"],
      query="oxc1_hall",
      good=["hall.jpg", "b/gate"],
      ok=["st.mary"],
      junk=["tower.jpg"],
    )
    benchmark = open_oxford(str(folder))
    assert benchmark.database == ("b/gate.png", "hall.jpg", "other.jpg", "st.mary.webp", "tower.jpg")
    assert benchmark.images == benchmark.listing.ids == benchmark.database and benchmark.name == "made"
    assert benchmark.queries == (("q_1", "hall.jpg", (0, 0, 20, 20)),)
    (metric,) = benchmark.metrics
    assert metric.name == "mAP" and metric.positive.tolist() == [[1, 0, 3]] and metric.junk.tolist() == [[4]]
    assert benchmark.listed.tolist() == [[1, 0, 3, 4]] and benchmark.own_rows.tolist() == [1]

  @pytest.mark.parametrize(
    ("lists", "ranked", "expected"),
    [
      ({"good": "ab"}, "abcdef", 1),
      # found second and third: 1/2 (0 + 1/2)/2 + 1/2 (1/2 + 2/3)/2
      ({"good": "b", "ok": "d"}, "cbdaef", 5 / 12),
      # the same behind junk, which is skipped
      ({"good": "b", "ok": "d", "junk": "ae"}, "acbedf", 5 / 12),
      ({"good": "b", "ok": "d", "junk": "ac"}, "acbedf", 1 / 2 + 1 / 2 * (1 / 2 + 2 / 3) / 2),
      ({"good": "f"}, "abcdef", 1 / 12),  # (0/5 + 1/6)/2
      ({"good": "f", "junk": "abcde"}, "abcdef", 1),
      ({"junk": "abc"}, "abcdef", math.nan),
    ],
  )
  def test_average_precision_by_hand(self, empty_benchmark, lists, ranked, expected):
    benchmark = open_oxford(empty_benchmark([f"{name}.jpg" for name in "abcdef"], query="a", **lists))
    found = _score(benchmark, list(ranked))["mAP"][0]
    assert found == pytest.approx(expected, abs=1e-15, nan_ok=True)

  def test_a_query_without_positives_leaves_the_mean(self, empty_benchmark):
    folder = empty_benchmark(["a.jpg", "b.jpg", "c.jpg"], query="a", good="a")
    for name, content in (("query", "b 0 0 9 9\n"), ("good", ""), ("ok", ""), ("junk", "c\n")):
      (folder / "groundtruth" / f"q_2_{name}.txt").write_text(content)
    benchmark = open_oxford(folder)
    assert benchmark.metrics[0].positive.tolist() == [[0], [-1]]
    found = _score(benchmark, "bac", "abc")["mAP"]
    assert found[0] == 0.25 and math.isnan(found[1]) and mean_average_precision(found) == 0.25

  @pytest.mark.parametrize("label", ["good", "ok", "junk"])
  def test_a_name_that_several_files_have_is_refused(self, empty_benchmark, label):
    folder = empty_benchmark(["hall.jpg", "gate.jpg", "gate.png"], **{label: ["gate"]})
    with pytest.raises(FolderError, match=r"1 image that its ground truth names is that of several files: gate$") as caught:
      open_oxford(folder)
    assert str(caught.value).startswith(f"{folder} cannot be evaluated: ")
    assert caught.value.listing.ids == ("gate.jpg", "gate.png", "hall.jpg") and len(caught.value.problems) == 1

  def test_the_ending_tells_such_files_apart(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg", "gate.jpg", "gate.png"], good=["gate.png"], junk=["gate.jpg"])
    (metric,) = open_oxford(folder).metrics
    assert metric.positive.tolist() == [[1]] and metric.junk.tolist() == [[0]]

  def test_a_whole_name_comes_before_one_without_its_ending(self, empty_benchmark):
    folder = empty_benchmark(["x.jpg", "x.jpg.png", "hall.jpg"], good=["x.jpg"])
    assert open_oxford(folder).metrics[0].positive.tolist() == [[1]]

  def test_missing_names_are_counted_and_told(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg"], query="nave", good=["hall", "gate.jpg"], ok=["hall.png"], junk=["tower"])
    with pytest.raises(FolderError, match=r"4 images .* are not there: gate.jpg, hall.png, nave, tower$"):
      open_oxford(folder)

  def test_of_many_missing_names_the_first_are_told(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg"], good=[f"gone_{number:02d}" for number in range(30)])
    with pytest.raises(FolderError, match=r"30 images .* are not there: gone_00, .*, gone_04 and 25 more$"):
      open_oxford(folder)

  def test_a_folder_without_its_parts_is_refused(self, tmp_path):
    with pytest.raises(GroundTruthError, match="groundtruth"):
      open_oxford(tmp_path)

  def test_images_may_lie_in_folders_that_the_ground_truth_does_not_name(self, empty_benchmark):
    folder = empty_benchmark(["x/hall.jpg", "y/gate.jpg", "z/gate.jpg", "y/nave.jpg"], good=["nave"])
    assert open_oxford(folder).metrics[0].positive.tolist() == [[2]]
    with pytest.raises(FolderError, match="several files: gate"):
      open_oxford(empty_benchmark(["x/hall.jpg", "y/gate.jpg", "z/gate.jpg"], good=["gate"]))
    # With its ending, too; and such a name comes before one that only begins like it.
    folder = empty_benchmark(["x/hall.jpg", "y/gate.jpg", "z/gate.png", "y/gate.jpg.png"], good=["gate.jpg", "gate.png"])
    opened = open_oxford(folder)
    assert [opened.database[row] for row in opened.metrics[0].positive[0]] == ["y/gate.jpg", "z/gate.png"]


class TestDigest:
  def _open(self, tmp_path, **entry):
    _touch(tmp_path / "images", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    truth = {"database": ["a.jpg", "b.jpg", "c.jpg"], "queries": {"d.jpg": {"relevant": ["a.jpg"], "junk": [], **entry}}}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    return open_folder(tmp_path / "images", tmp_path / "gt.json")

  def test_it_tells_all_answers_apart(self, tmp_path):
    cases = [
      {},
      {"relevant": ["b.jpg"]},
      {"relevant": ["a.jpg", "b.jpg"]},
      {"relevant": ["a.jpg"], "junk": ["b.jpg"]},  # the same rows, one of them skipped
      {"relevant": [], "junk": ["a.jpg"]},
      {"box": [0, 0, 20, 20]},
      {"box": [0, 0, 20, 21]},
    ]
    digests = [self._open(tmp_path, **case).digest for case in cases]
    assert len(set(digests)) == len(cases) and self._open(tmp_path).digest == digests[0]


class TestFolder:
  def test_rows_boxes_and_queries_beside_the_database(self, tmp_path):
    _touch(tmp_path / "images", ["a.jpg", "b.jpg", "c/d.jpg", "q.jpg", "unused.jpg"])
    truth = {
      "database": ["c/d.jpg", "a.jpg", "b.jpg"],
      "queries": {
        "q.jpg": {"box": [1, 2, 30, 40], "relevant": ["b.jpg", "c/d.jpg", "b.jpg"], "junk": ["a.jpg"]},
        "a.jpg": {"relevant": [], "junk": []},
      },
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    benchmark = open_folder(tmp_path / "images", tmp_path / "gt.json")
    assert benchmark.name == "folder" and open_folder(tmp_path / "images", tmp_path / "gt.json", "x").name == "x"
    assert benchmark.database == ("c/d.jpg", "a.jpg", "b.jpg")
    assert benchmark.queries == (("q.jpg", "q.jpg", (1, 2, 30, 40)), ("a.jpg", "a.jpg", None))
    assert benchmark.images == ("a.jpg", "b.jpg", "c/d.jpg")  # a query with a box is not encoded whole
    (metric,) = benchmark.metrics
    assert metric.positive.tolist() == [[2, 0], [-1, -1]] and metric.junk.tolist() == [[1], [-1]]
    assert benchmark.own_rows.tolist() == [-1, 1]
    found = _score(benchmark, ["a.jpg", "b.jpg", "c/d.jpg"], ["a.jpg", "b.jpg", "c/d.jpg"])["mAP"]
    assert found[0] == 1 and math.isnan(found[1])

  def test_a_query_without_a_box_beside_the_database_is_encoded(self, tmp_path):
    _touch(tmp_path / "images", ["a.jpg", "q.jpg"])
    (tmp_path / "gt.json").write_text('{"database": ["a.jpg"], "queries": {"q.jpg": {"relevant": ["a.jpg"], "junk": []}}}')
    benchmark = open_folder(tmp_path / "images", tmp_path / "gt.json")
    assert benchmark.images == ("a.jpg", "q.jpg") and benchmark.database == ("a.jpg",)

  def test_names_match_in_any_form_of_unicode(self, tmp_path):
    """Files, the database and the answers each write their accents in another way."""
    _touch(tmp_path / "images", ["caf\u00e9/\u00fc.jpg", "caf\u00e9/o\u0308.jpg", "a.jpg"])
    truth = {
      "database": ["cafe\u0301/u\u0308.jpg", "\u00f6", "a.jpg"],
      "queries": {"cafe\u0301/\u00fc.jpg": {"relevant": ["o\u0308", "caf\u00e9/u\u0308.jpg"]}},
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    benchmark = open_folder(tmp_path / "images", tmp_path / "gt.json")
    assert benchmark.database == ("caf\u00e9/\u00fc.jpg", "caf\u00e9/o\u0308.jpg", "a.jpg")
    assert benchmark.queries[0].image == "caf\u00e9/\u00fc.jpg" and benchmark.metrics[0].positive.tolist() == [[1, 0]]

  def test_a_name_in_the_form_of_two_files_is_that_of_several(self, tmp_path):
    files = ["\u1ed9.jpg", "o\u0323\u0302.jpg"]
    _touch(tmp_path / "images", files)
    truth = {"database": files, "queries": {files[0]: {"relevant": [files[1]]}}}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert set(open_folder(tmp_path / "images", tmp_path / "gt.json").database) == set(files)
    truth["database"] = ["\u1ecd\u0302.jpg"]  # a third form of both
    truth["queries"] = {files[0]: {"relevant": []}}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(FolderError, match="1 image that its ground truth names is that of several files"):
      open_folder(tmp_path / "images", tmp_path / "gt.json")

  def test_names_of_one_image_are_refused(self, tmp_path):
    _touch(tmp_path / "images", ["a.png", "b.png", "c/d.png"])
    truth = {"database": ["a", "b.png", "a.png", "c/d", "c/d.png"], "queries": {"b": {"relevant": ["a", "a.png"]}}}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(FolderError, match=r"4 names of the database are those of the same images: a, a.png, c/d, c/d.png$"):
      open_folder(tmp_path / "images", tmp_path / "gt.json")

  def test_images_that_are_not_there(self, tmp_path):
    _touch(tmp_path / "images", ["a.jpg"])
    (tmp_path / "gt.json").write_text('{"database": ["a.jpg", "b.jpg"], "queries": {"q.jpg": {"relevant": [], "junk": []}}}')
    with pytest.raises(FolderError, match=r"2 images that its ground truth names are not there: b.jpg, q.jpg$"):
      open_folder(tmp_path / "images", tmp_path / "gt.json")


class TestHolidays:
  NAMES = ("100000.jpg", "100001.jpg", "100002.jpg", "100100.jpg", "100101.jpg")

  def test_the_query_leaves_its_own_list(self, tmp_path):
    _touch(tmp_path / "images", self.NAMES)
    benchmark = open_holidays(tmp_path)
    assert benchmark.queries == (("100000.jpg", "100000.jpg", None), ("100100.jpg", "100100.jpg", None))
    assert benchmark.database == self.NAMES and benchmark.own_rows.tolist() == [0, 3]
    (metric,) = benchmark.metrics
    assert metric.positive.tolist() == [[1, 2], [4, -1]] and metric.junk.tolist() == [[0], [3]]
    own_first = ["100000", "100001", "100100", "100002", "100101"]
    own_last = ["100100", "100000", "100101", "100001", "100002"]
    # 1 and 3 of the list without the query: 1/2 1 + 1/2 (1/2 + 2/3)/2; the second: 2 of the list without it, (0 + 1/2)/2
    assert _score(benchmark, own_first, own_last)["mAP"] == pytest.approx([19 / 24, 0.25], abs=1e-15)

  def test_in_folders_below(self, tmp_path):
    _touch(tmp_path / "images", [f"jpg/{name}" for name in self.NAMES])
    benchmark = open_holidays(tmp_path)
    assert benchmark.queries[1] == ("100100.jpg", "jpg/100100.jpg", None)

  def test_a_group_without_its_query_is_refused(self, tmp_path):
    _touch(tmp_path / "images", self.NAMES[1:])
    with pytest.raises(InputError, match=r"1 group lacks its query: 100000.jpg"):
      open_holidays(tmp_path)


class TestUKBench:
  def test_a_query_counts_itself(self, tmp_path):
    names = [f"ukbench{number:05d}.jpg" for number in (*range(4), *range(8, 12))]
    _touch(tmp_path / "images", names)
    benchmark = open_ukbench(tmp_path)
    assert len(benchmark.queries) == 8 and benchmark.queries[5] == (names[5], names[5], None)
    (metric,) = benchmark.metrics
    assert metric.name == "N-S" and metric.positive[6].tolist() == [4, 5, 6, 7] and metric.junk.shape == (8, 0)
    own = [*names[:4], *names[4:]]
    found = _score(benchmark, own, own, own, own, own, own, own, [names[7], *names[:3], names[3], *names[4:7]])
    assert found == {"N-S": [4, 4, 4, 4, 0, 0, 0, 1]}  # the last finds itself and nothing else

  def test_a_part_of_an_object_is_refused(self, tmp_path):
    _touch(tmp_path / "images", [f"ukbench{number:05d}.jpg" for number in range(7)])
    with pytest.raises(InputError, match=r"1 view is missing of objects of which others are there: ukbench00007"):
      open_ukbench(tmp_path)

  def test_one_view_twice_is_refused(self, tmp_path):
    names = [f"ukbench{number:05d}.jpg" for number in (0, 1, 2)]
    _touch(tmp_path / "images", [*names, f"more/{names[1]}"])
    with pytest.raises(FolderError, match=r"several files: more/ukbench00001.jpg and ukbench00001.jpg; 1 view is missing"):
      open_ukbench(tmp_path)

  def test_a_file_that_cannot_be_listed_is_told(self, tmp_path):
    _touch(tmp_path / "images", [f"ukbench{number:05d}.jpg" for number in range(4)])
    with open(os.fsencode(tmp_path / "images") + b"/ukbench\xff.jpg", "wb"):
      pass
    with pytest.raises(FolderError, match=r"1 file cannot be listed: ukbench\\udcff\.jpg: the name is not UTF-8$"):
      open_ukbench(tmp_path)


class TestRevisited:
  def _open(self, tmp_path, gnd, names="abcdef", extra=()):
    folder = tmp_path / "made"
    _touch(folder / "images", [f"{name}.jpg" for name in (*names, "q", "r", *extra)])
    (folder / "groundtruth").mkdir(exist_ok=True)
    content = {"imlist": list(names), "qimlist": ["q", "r"], "gnd": gnd}
    (folder / "groundtruth" / "gnd_made.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return open_revisited(folder)

  GND = (
    {"bbx": [0.0, 0.0, 30.0, 40.0], "easy": [0, 3], "hard": [1], "junk": [4]},
    {"bbx": [5.0, 5.0, 30.0, 40.0], "easy": [], "hard": [2], "junk": []},
  )

  def test_what_is_found_and_what_is_skipped(self, tmp_path):
    benchmark = self._open(tmp_path, list(self.GND))
    assert benchmark.database == tuple(f"{name}.jpg" for name in "abcdef") and benchmark.own_rows.tolist() == [-1, -1]
    assert benchmark.queries == (("q", "q.jpg", (0, 0, 30, 40)), ("r", "r.jpg", (5, 5, 30, 40)))
    assert benchmark.images == benchmark.database
    assert [metric.name for metric in benchmark.metrics] == [
      f"{what} {level}" for level in ("Medium", "Easy", "Hard") for what in ("mAP", "mP@1", "mP@5", "mP@10")
    ]
    lists = {
      metric.name: [sorted(set(rows.tolist()) - {-1}) for rows in (metric.positive[0], metric.junk[0])]
      for metric in benchmark.metrics
    }
    assert lists["mAP Medium"] == [[0, 1, 3], [4]] and lists["mP@5 Medium"] == lists["mAP Medium"]
    assert lists["mAP Easy"] == [[0, 3], [1, 4]] and lists["mAP Hard"] == [[1], [0, 3, 4]]

  def test_values_by_hand(self, tmp_path):
    benchmark = self._open(tmp_path, list(self.GND))
    found = _score(benchmark, "ebcadf", "abcdef")
    # Easy: e and b are skipped, c a d f has its positives second and third. Hard: e, a and d are skipped: b comes first.
    # Medium: e is skipped, b c a d f: 1/3 1 + 1/3 (1/2 + 2/3)/2 + 1/3 (2/3 + 3/4)/2
    assert found["mAP Easy"][0] == pytest.approx(5 / 12, abs=1e-15) and found["mAP Hard"][0] == 1
    assert found["mAP Medium"][0] == pytest.approx(1 / 3 + 7 / 36 + 17 / 72, abs=1e-15)
    assert [found[f"mP@{k} Easy"][0] for k in (1, 5, 10)] == pytest.approx([0, 2 / 3, 2 / 3])
    assert [found[f"mP@{k} Medium"][0] for k in (1, 5, 10)] == pytest.approx([1, 3 / 4, 3 / 4])
    # The second query has no easy positive: it leaves the mean of Easy.
    assert all(math.isnan(found[f"{what} Easy"][1]) for what in ("mAP", "mP@1", "mP@5", "mP@10"))
    assert mean_average_precision(found["mAP Easy"]) == found["mAP Easy"][0]
    assert found["mAP Medium"][1] == pytest.approx((0 + 1 / 3) / 2) and found["mP@1 Medium"][1] == 0

  def test_one_pickle_is_wanted(self, tmp_path):
    (tmp_path / "groundtruth").mkdir()
    with pytest.raises(InputError, match=r"one file gnd_\*\.pkl in .*; found 0$"):
      open_revisited(tmp_path)
    for name in ("gnd_a.pkl", "gnd_b.pkl"):
      (tmp_path / "groundtruth" / name).touch()
    with pytest.raises(InputError, match=r"found 2$"):
      open_revisited(tmp_path)

  def test_images_that_are_not_there(self, tmp_path):
    self._open(tmp_path, list(self.GND))
    (tmp_path / "made" / "images" / "r.jpg").unlink()
    with pytest.raises(FolderError, match=r"1 image that its ground truth names is not there: r$"):
      open_revisited(tmp_path / "made")


class TestByName:
  def test_names_that_are_none(self, tmp_path):
    with pytest.raises(InputError, match="no data set is named nothing; there are oxford5k"):
      open_benchmark("nothing", tmp_path)
    with pytest.raises(InputError, match=r"^Flickr100k has no queries of its own: it is added to other sets$"):
      open_benchmark("flickr100k", tmp_path)

  def test_every_set_with_queries_has_an_opener(self, tmp_path):
    for name, known in KNOWN.items():
      with pytest.raises(InputError) as caught:
        open_benchmark(name, tmp_path)
      assert (known.queries is None) == ("no queries of its own" in str(caught.value))

  def test_a_known_set_of_any_size(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg", "gate.jpg"], good=["hall"])
    folder.rename(folder.parent / "toy_oxford")
    assert open_benchmark("toy_oxford", folder.parent).name == "toy_oxford"

  def test_images_of_a_known_set_are_counted_and_compared(self, empty_benchmark):
    folder = empty_benchmark(["hall.jpg", "gate.jpg"], good=["nave"])
    folder.rename(folder.parent / "oxford5k")
    with pytest.raises(FolderError) as caught:
      open_benchmark("oxford5k", folder.parent)
    told = str(caught.value)
    assert "1 image of the 2 that its ground truth names is not there: nave" in told
    assert "Oxford5k has 5,063 images; found 2, 5,061 too few (a list of them, a name a line, in" in told
