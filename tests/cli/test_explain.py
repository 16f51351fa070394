"""`--mode=explain` of one photograph and of two, with pictures of it, and every call that is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cwf_jax.ops.regions import THRESHOLDS
from cwf_jax.retrieval.explanation import BOX_THRESHOLD, ClassMap, Comparison, Explanation, Side
from cwf_jax.retrieval.reasons import CommonClass, Match

# The score of a pair and that of a search come from two programs, in float32: sums of 32 to 512 products.
FLOAT32 = 1e-5

BEGINNINGS = {".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture
def explain(cli, query, tiny_checkpoint):
  """Runs the mode on the query, by the tiny checkpoint."""

  def run(*arguments):
    return cli("--mode=explain", f"--query={query}", f"--weights={tiny_checkpoint}", "--num_classes=4", *arguments)

  return run


@pytest.fixture
def other(photographs):
  return photographs / "b/c" / "picture_07.png"


def _json(found):
  assert found.code == 0, found.err
  (line,) = found.out.splitlines()
  return json.loads(line)


def test_a_table_shows_probabilities_and_boxes(explain, query):
  found = explain()
  assert (found.code, found.err) == (0, "")
  title, head, *lines = found.out.splitlines()
  assert title == f"query {query}: its most probable classes"
  assert head.split() == ["class", "probability", "where"]
  for rank, (line, one) in enumerate(zip(lines, _json(explain("--format=json"))["classes"], strict=True), 1):
    boxes = [region["box"] for region in one["regions"] if region["threshold"] == BOX_THRESHOLD]
    where = ",".join(f"{side:.0f}" for side in boxes[0]) if boxes else "nowhere: its map is empty"
    assert line == f"   {rank}  {one['name']}  {100 * one['probability']:9.0f} %  {where}"


def test_json_holds_the_same(explain, query):
  found = _json(explain("--format=json"))
  assert list(found) == ["query", "box", "classes"] and (found["query"], found["box"]) == (str(query), None)
  assert len(found["classes"]) == 4
  assert [list(one) for one in found["classes"]] == [["name", "probability", "share", "regions"]] * 4
  assert sum(one["share"] for one in found["classes"]) == pytest.approx(1, abs=FLOAT32)
  probabilities = [one["probability"] for one in found["classes"]]
  assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1
  assert any(one["regions"] for one in found["classes"])
  for one in found["classes"]:
    assert [region["threshold"] for region in one["regions"]] in ([], list(THRESHOLDS))
    for left, top, right, bottom in (region["box"] for region in one["regions"]):
      assert 0 <= left < right <= 96 and 0 <= top < bottom <= 64


def test_it_shows_what_the_network_says(explain, query, tiny_checkpoint):
  import jax

  from cwf_jax.encoder import Encoder
  from cwf_jax.images.decoding import decode_image
  from cwf_jax.load import load_encoder
  from tests.oracle import encoding as oracle

  encoder = load_encoder(str(tiny_checkpoint), num_classes=4)
  pixels = decode_image(query)  # 96x64, the size at which it is computed
  encoding = jax.jit(Encoder.__call__)(encoder, pixels[None], np.asarray([[64, 96]], np.int32))
  ids, vectors = np.asarray(encoding.class_ids)[0], np.asarray(encoding.class_vectors, np.float64)[0]
  found = _json(explain("--format=json"))["classes"]
  assert [one["name"] for one in found] == [f"class {one}" for one in ids]
  expected = np.asarray(encoding.probabilities)[0][ids]
  np.testing.assert_allclose([one["probability"] for one in found], expected, atol=FLOAT32)
  shares = vectors @ oracle.aggregate(vectors[None])[0] / np.linalg.norm(vectors.sum(0))
  np.testing.assert_allclose([one["share"] for one in found], shares, atol=FLOAT32)


def test_fewer_classes_can_be_shown_than_are_summed(explain):
  found, whole = (_json(explain("--format=json", *more))["classes"] for more in (("--top=2",), ()))
  assert [one["name"] for one in found] == [one["name"] for one in whole[:2]]
  assert [one["share"] for one in found] == pytest.approx([one["share"] for one in whole[:2]], abs=FLOAT32)


def test_a_box_keeps_the_regions_within_its_cells(explain):
  told = _json(explain("--box=20,0,60.5,30", "--format=json"))
  assert told["box"] == [20, 0, 60.5, 30]
  boxed = told["classes"]
  regions = [region["box"] for one in boxed for region in one["regions"]]
  assert regions
  for left, top, right, bottom in regions:  # in whole cells of 16 pixels
    assert 16 <= left < right <= 64 and 0 <= top < bottom <= 32
  assert sum(one["share"] for one in boxed) == pytest.approx(1, abs=FLOAT32)
  whole = _json(explain("--format=json"))["classes"]
  assert [one["probability"] for one in boxed] != [one["probability"] for one in whole]


def test_two_have_a_score_matching_places_common_classes_and_exact_shares(explain, query, other):
  found = _json(explain(f"--against={other}", "--format=json", "--top=3"))
  assert list(found) == ["query", "box", "against", "score", "match", "common_classes", "sides"]
  assert (found["query"], found["box"], found["against"]) == (str(query), None, str(other))
  assert -1 <= found["score"] < 1
  assert list(found["match"]) == ["places", "query_box", "answer_box"]
  for one in found["common_classes"]:
    assert list(one) == ["name", "query_probability", "answer_probability"]
    assert min(one["query_probability"], one["answer_probability"]) >= 0.05
  assert len(found["sides"]) == 2
  for side in found["sides"]:
    assert list(side) == ["classes"]
    names, shares = zip(*((part["name"], part["share"]) for part in side["classes"]), strict=True)
    assert len(names) == 3 + 1 and names[-1] == "(other classes)"
    assert list(shares[:-1]) == sorted(shares[:-1], reverse=True)
    assert sum(shares) == pytest.approx(found["score"], abs=1e-15)  # one unit of the last place of 1


@pytest.mark.parametrize("top", [(), ("--top=4",), ("--top=9",)], ids=str)
def test_with_all_classes_listed_nothing_is_left_over(explain, other, top):
  found = _json(explain(f"--against={other}", "--format=json", *top))
  for side in found["sides"]:
    assert len(side["classes"]) == 4 and all(part["name"].startswith("class ") for part in side["classes"])
    assert sum(part["share"] for part in side["classes"]) == pytest.approx(found["score"], abs=FLOAT32)


MATCH = Match(41, (0.0, 0.0, 32.0, 16.4), (1.0, 2.0, 33.0, 34.0), (((1.0, 2.0), (3.0, 4.0)),) * 41)


@pytest.mark.parametrize(
  ("match", "words", "where"),
  [
    (MATCH, "41 places match", (": the places lie in the box 0,0,32,16", ": the places lie in the box 1,2,33,34")),
    (Match(0, None, None, ()), "no place matches", ("", "")),
  ],
  ids=["evidence", "none"],
)
def test_a_table_of_two(explain, query, other, monkeypatch, tmp_path, match, words, where):
  side = Side(np.zeros((64, 64, 3), np.uint8), None, (("class 3", 0.0), ("class 1", -1e-9)), None)
  comparison = Comparison(-1e-9, side, side, match, (CommonClass(3, "class 3", 0.62, 0.48),))
  monkeypatch.setattr("cwf_jax.retrieval.explanation.compare", lambda *_: comparison)
  found = explain(f"--against={other}", f"--figure={tmp_path / 'figure.png'}", "--maps")
  assert found.code == 0 and (tmp_path / "figure.png").exists()
  title, first, second, note = found.out.splitlines()
  assert title == f"score 0.0000: {words}; both show: class 3 62 % / 48 %"
  assert (first, second) == (f"  {query}{where[0]}", f"  {other}{where[1]}")
  assert note.startswith("note: ") and "7 of 8 with 30 or more" in note


def test_a_photograph_and_itself_score_one_and_sides_can_be_swapped(explain, cli, query, other, tiny_checkpoint):
  assert _json(explain(f"--against={query}", "--format=json"))["score"] == pytest.approx(1, abs=FLOAT32)
  there = _json(explain(f"--against={other}", "--format=json"))
  swapped = ("--mode=explain", f"--query={other}", f"--against={query}", f"--weights={tiny_checkpoint}", "--num_classes=4")
  back = _json(cli(*swapped, "--format=json"))
  assert back["score"] == pytest.approx(there["score"], abs=FLOAT32)
  assert [part["name"] for part in back["sides"][0]["classes"]] == [part["name"] for part in there["sides"][1]["classes"]]


def test_a_box_is_the_query_s_alone(explain, query):
  found = _json(explain(f"--against={query}", "--box=0,0,48,48", "--format=json"))
  assert found["score"] < 1 and found["box"] == [0, 0, 48, 48]
  if found["match"]["places"]:
    _, _, right, bottom = found["match"]["query_box"]
    assert right <= 48 and bottom <= 48


@pytest.fixture(scope="module")
def whitened_index(photographs, tiny_checkpoint, tmp_path_factory):
  """An index of half of the photographs, whitened by themselves."""
  from cwf_jax.indexing.build import build_index
  from cwf_jax.load import load_encoder

  folder = tmp_path_factory.mktemp("indexes") / "whitened.index"
  encoder = load_encoder(str(tiny_checkpoint), num_classes=4)
  build_index(photographs / "a", folder, encoder, whitening="self", n_pca=4, store_classes=0)
  return folder


@pytest.mark.parametrize("box", [(), ("--box=16,0,80,50",)])
@pytest.mark.parametrize("kind", ["tiny_index", "whitened_index"])
def test_with_an_index_the_score_is_that_of_a_search(cli, request, query, photographs, kind, box):
  index, against = request.getfixturevalue(kind), photographs / "a" / "picture_04.png"
  where = (f"--index={index}", f"--query={query}", "--format=json", *box)
  (result,) = (one for one in _json(cli("--mode=search", *where, "--top=12"))["results"] if one["path"] == str(against))
  found = _json(cli("--mode=explain", *where, f"--against={against}"))
  assert found["score"] == pytest.approx(result["score"], abs=FLOAT32)
  ours, theirs = (
    {part["name"]: part["share"] for part in some if part["name"] != "(other classes)"}
    for some in (found["sides"][0]["classes"], result["classes"])
  )
  assert ours == pytest.approx(theirs, abs=FLOAT32)


def test_with_an_index_its_sizes_are_taken(cli, whitened_index, query):
  found = _json(cli("--mode=explain", f"--query={query}", f"--index={whitened_index}", "--format=json"))
  assert len(found["classes"]) == 4
  assert sum(one["share"] for one in found["classes"]) == pytest.approx(1, abs=FLOAT32)


@pytest.mark.parametrize("ending", BEGINNINGS)
@pytest.mark.parametrize("pair", [False, True], ids=["one", "two"])
def test_a_figure_is_written_in_every_format(explain, other, tmp_path, ending, pair):
  figure = tmp_path / f"figure{ending}"
  found = explain(f"--figure={figure}", *([f"--against={other}", "--maps"] if pair else ["--box=0,0,40,40"]))
  assert found.code == 0 and found.err == f"figure: {figure}\n"
  assert found.out.startswith("score " if pair else "query ")
  assert [path.name for path in tmp_path.iterdir()] == [figure.name]
  content = figure.read_bytes()
  assert content.startswith(BEGINNINGS[ending])
  if ending in (".png", ".jpg", ".jpeg"):
    with Image.open(figure) as image:
      image.load()
      assert min(image.size) > 300


def test_a_figure_is_replaced_by_the_same_one(explain, tmp_path):
  figure = tmp_path / "figure.svg"
  assert explain(f"--figure={figure}").code == 0
  content = figure.read_bytes()
  found = explain(f"--figure={figure}", "--quiet", "--format=json")
  assert found.err == "" and _json(found)["classes"]
  assert figure.read_bytes() == content


@pytest.mark.parametrize("pair", [False, True], ids=["one", "two"])
def test_unreliable_names_are_noted(cli, query, other, tmp_path, monkeypatch, pair):
  import cwf_jax.figures.reasons as figures

  drawn = []
  draw = figures.draw_panels
  monkeypatch.setattr(figures, "draw_panels", lambda *given, **more: drawn.append(given[3]) or draw(*given, **more))
  arguments = ["--mode=explain", f"--query={query}", "--weights=random:vgg16_cam_quarter", "--image_size=32", "--num_classes=4"]
  arguments += [f"--against={other}"] if pair else []
  found = cli(*arguments, f"--figure={tmp_path / 'figure.png'}")
  assert found.code == 0
  assert found.out.splitlines()[-1].startswith("note: the weights are random, so the names of classes mean nothing")
  assert any("the weights are random" in note for note in drawn[0])
  answer = _json(cli(*arguments, "--format=json"))
  assert list(answer)[-2:] == ["weights", "note"]
  assert answer["weights"] == "random:vgg16_cam_quarter" and "mean nothing" in answer["note"]


def test_names_that_a_terminal_or_a_font_cannot_show(cli, query, tiny_checkpoint, tmp_path):
  strange = tmp_path / "line\nbreak\x1b[31m $x_1$ \u65e5.png"
  shutil.copy(query, strange)
  where = ("--mode=explain", f"--query={strange}", f"--weights={tiny_checkpoint}", "--num_classes=4")
  found = cli(*where, f"--against={strange}", f"--figure={tmp_path / 'figure.png'}")
  assert found.code == 0 and found.out.count("line\\nbreak\\x1b[31m $x_1$ \u65e5.png") == 2
  assert "\x1b" not in found.out + found.err
  assert _json(cli(*where, "--format=json"))["query"] == str(strange)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--mode=explain needs --query=FILE; --mode=explain --help shows examples"),
    (["--query="], "--mode=explain needs --query=FILE"),
    (["--query=TMP/missing.jpg"], "missing.jpg: no such file"),
    (["--query=TMP/broken.jpg"], "broken.jpg: "),
    (["--query=TMP"], "TMP: "),
    (["--query=QUERY", "--against=TMP/missing.jpg"], "missing.jpg: no such file"),
    (["--query=QUERY", "--against=TMP/broken.jpg"], "broken.jpg: "),
    (["--query=QUERY", "--top=0"], "--top takes a whole number of at least 1; found '0'"),
    (["--query=QUERY", "--top=some"], "--top takes a whole number of at least 1; found 'some'"),
    (["--query=QUERY", "--format=xml"], "--format takes one of table, json; found 'xml'"),
    (["--query=QUERY", "--box=1000,0,1040,40"], "lies outside the image, which has 96x64 pixels"),
    (["--query=QUERY", "--box=0,0,15,40"], "the least is 16x16"),
    (["--query=QUERY", "--box=40,0,16,40"], "the box 40,0,16,40"),
    (["--query=QUERY", "--box=0,0,40"], "--box is four numbers, left,top,right,bottom; found '0,0,40'"),
    (["--query=QUERY", "--box="], "--box is four numbers"),
    (["--query=QUERY", "--box=nan,0,40,40"], "four numbers"),
    (["--query=QUERY", "--figure=TMP/mine.png"], "is there already and is no figure of cwf_jax"),
    (["--query=TMP/query.png", "--figure=TMP/query.png"], "is one of the photographs that the figure is about"),
    (["--query=QUERY", "--against=TMP/query.png", "--figure=TMP/query.png"], "is one of the photographs"),
    (["--query=QUERY", "--figure=TMP/figure.gif"], "must be named .png, .jpg, .jpeg, .pdf or .svg"),
    (["--query=QUERY", "--figure=TMP/figure"], "must be named .png"),
    (["--query=QUERY", "--figure=TMP/none/figure.png"], "there is no folder"),
    (["--query=QUERY", "--figure=TMP/folder.png"], "is a folder; name a file"),
    (["--query=QUERY", "--box=0,0,5,5", "--figure=TMP/new.png"], "the least is 16x16"),
    (["--query=TMP/broken.jpg", "--figure=TMP/new.png"], "broken.jpg: "),
    (["--query=QUERY", "--weights=nosuch", "--figure=TMP/new.png"], "no weights 'nosuch'"),
    (["--query=QUERY", "--index=TMP/missing"], "there is no index at"),
    (["--query=QUERY", "--index=INDEX", "--image_size=320"], "--image_size=320, but its own is 64"),
    (["--query=QUERY", "--index=INDEX", "--weights=default"], "--weights=default, but it has those of"),
    (["--query=QUERY", "--shares=2"], "there is no flag --shares"),
  ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(
  refused, tiny_checkpoint, tiny_index, query, tmp_path, arguments, said
):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  (tmp_path / "mine.png").write_bytes(b"mine")
  (tmp_path / "folder.png").mkdir()
  shutil.copy(query, tmp_path / "query.png")
  before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
  for name, path in {"INDEX": tiny_index, "QUERY": query, "TMP": tmp_path}.items():
    arguments = [argument.replace(name, str(path)) for argument in arguments]
  if not any(argument.startswith(("--weights", "--index")) for argument in arguments):
    arguments += [f"--weights={tiny_checkpoint}", "--num_classes=4"]
  assert said.replace("TMP", str(tmp_path)) in refused("--mode=explain", *arguments)
  assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_wrong_figure_is_told_before_any_work(refused, query, tmp_path):
  line = refused("--mode=explain", f"--query={tmp_path / 'missing.jpg'}", "--weights=nosuch", f"--figure={tmp_path / 'x.gif'}")
  assert "must be named" in line
  assert "must be named" in refused("--mode=explain", f"--query={query}", "--index=missing", f"--figure={tmp_path / 'x.gif'}")


def test_help_teaches(cli):
  found = cli("--mode=explain", "--help")
  assert (found.code, found.err) == (0, "")
  assert found.out.startswith("--mode=explain: tell which classes are where in a photograph")
  assert "python main.py --mode=explain --query=tower.jpg --figure=tower-classes.png" in found.out
  for flag in ("--query=TEXT", "--against=TEXT", "--box=TEXT", "--figure=TEXT", "--top=N", "--maps"):
    assert flag in found.out, flag
  words = " ".join(found.out.split())  # on two lines
  assert "number of classes, at most those that a descriptor sums (default: 6)" in words
  assert max(map(len, found.out.splitlines())) <= 100
  assert "--mode=explain" in cli("--help").out


def test_an_empty_map_is_nowhere(explain, monkeypatch):
  regions = ((0.0, 0.0, 40.0, 30.0), (0.0, 0.0, 32.0, 16.0), (0.0, 0.0, 32.0, 16.0), None, None)
  classes = [ClassMap(3, "class 3", 0.5, np.zeros((4, 4)), (0.0, 0.0, 64.0, 64.0), one) for one in (regions, (None,) * 5)]
  explanation = Explanation(np.zeros((64, 64, 3), np.uint8), None, tuple(classes), (0.5, 0.5))
  monkeypatch.setattr("cwf_jax.retrieval.explanation.explain", lambda *_: explanation)
  found = explain()
  assert "   1  class 3         50 %  0,0,32,16\n   2  class 3         50 %  nowhere: its map is empty\n" in found.out
  first, second = _json(explain("--format=json"))["classes"]
  assert [region["threshold"] for region in first["regions"]] == list(THRESHOLDS[:3]) and second["regions"] == []
