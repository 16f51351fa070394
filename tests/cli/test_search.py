"""`--mode=search` from the call to the answer, and every call that is refused."""

import dataclasses
import json
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from cwf_jax.cli.answers import format_table
from cwf_jax.models.class_names import ClassList
from cwf_jax.queries import Query
from cwf_jax.retrieval.answers import Result
from cwf_jax.retrieval.reasons import CommonClass


def _answers_of(found):
  return [json.loads(line) for line in found.out.splitlines()]


def _answers(found):
  assert found.code == 0, found.err
  return _answers_of(found)


def test_json_is_what_the_design_gives(cli, tiny_index, query):
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={query}", "--top=3", "--shares=2", "--format=json")
  (answer,) = _answers(found)
  assert found.err == ""
  assert list(answer) == ["query", "aggregation", "index_version", "query_classes", "results"]
  assert (answer["query"], answer["aggregation"]) == (str(query), "offline") and answer["index_version"] >= 1
  probabilities = [one["probability"] for one in answer["query_classes"]]
  assert len(probabilities) == 10 and probabilities == sorted(probabilities, reverse=True)
  assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
  first = answer["results"][0]
  assert list(first) == ["rank", "id", "path", "score", "common_classes", "classes"]
  for one in first["common_classes"]:  # the same photograph shows the same classes
    assert one["query_probability"] == pytest.approx(one["answer_probability"], abs=1e-6) and one["query_probability"] >= 0.05
  assert (first["id"], first["path"]) == ("a/picture_01.png", str(query))
  assert first["score"] == pytest.approx(1, abs=1e-6)
  for result in answer["results"]:
    assert [set(part) for part in result["classes"]] == [{"name", "share"}] * 3
    assert result["classes"][-1]["name"] == "(other classes)"
    assert sum(part["share"] for part in result["classes"]) == pytest.approx(result["score"], abs=1e-6)


def test_scores_are_told_in_full(cli, tiny_index, query):
  (answer,) = _answers(cli("--mode=search", f"--index={tiny_index}", f"--query={query}", "--format=json"))
  assert any(len(str(result["score"])) > 8 for result in answer["results"])


def test_a_table_shows_rank_score_image_and_reasons(cli, tiny_index, query):
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={query}", "--top=2")
  assert found.code == 0 and found.err == ""
  title, shown, head, first, *_, note, empty = found.out.splitlines()
  assert title == (
    f"query {query}: offline search of 12 photographs, most similar first, each image by its own classes"
  )
  assert shown.startswith("it shows: class ") and head.split() == ["rank", "score", "image", "why"]
  assert first.startswith("   1  1.0000  a/picture_01.png ") and "places match; " in first
  assert "\n   2  0." in found.out and "share" not in found.out
  assert note.startswith("note: ") and "matching places" in note and empty == ""


def test_matching_places_are_looked_for_where_they_are_asked_for(cli, tiny_index, query, photographs, tmp_path):
  where = ("--mode=search", f"--index={tiny_index}", "--format=json", "--top=3")
  (answer,) = _answers(cli(*where, f"--query={query}", "--matches"))
  first = answer["results"][0]["match"]
  assert set(first) == {"places", "query_box", "answer_box"} and first["places"] > 0
  assert first["query_box"] == pytest.approx(first["answer_box"])  # the same photograph
  many = _answers(cli(*where, f"--query={photographs / 'a'}", "--matches"))
  assert all("match" in result for one in many for result in one["results"])
  (limited,) = _answers(cli(*where, f"--query={query}", f"--min_places={first['places']}"))
  assert limited["results"][0]["id"] == "a/picture_01.png"
  assert all(result["match"]["places"] >= first["places"] for result in limited["results"])
  table = cli("--mode=search", f"--index={tiny_index}", f"--query={query}", "--nomatches").out
  assert ("places" not in table and "both show" in table) or "no class stands out" in table


def test_an_answer_whose_photograph_is_gone_is_said(cli, photographs, tiny_checkpoint, query, tmp_path):
  images, folder = shutil.copytree(photographs / "a", tmp_path / "images"), tmp_path / "i"
  assert cli("--mode=index", f"--images={images}", f"--index={folder}", f"--weights={tiny_checkpoint}").code == 0
  (images / "picture_01.png").unlink()
  found = cli("--mode=search", f"--index={folder}", f"--query={query}", "--matches", "--format=json")
  results = {result["id"]: result for result in _answers(found)[0]["results"]}
  assert results["picture_01.png"]["match"] is None and results["picture_02.png"]["match"]["places"] >= 0
  assert "such as picture_01.png; --mode=index brings the index up to date" in found.err


def test_nothing_that_similar_is_said(cli, tiny_index, query):
  where = ("--mode=search", f"--index={tiny_index}", f"--query={query}", "--box=0,0,40,40", "--min_score=1")
  assert "nothing in this index is that similar\n" in cli(*where).out
  found = cli(*where, "--format=json")
  assert _answers_of(found)[0]["results"] == [] and "nothing in this index is that similar" in found.err


@pytest.mark.parametrize("form", ["table", "json"])
def test_random_weights_are_told_with_every_answer_that_shows_classes(cli, photographs, tmp_path, form):
  images, folder = tmp_path / "images", tmp_path / "i"
  images.mkdir()
  for name in ("one.png", "two.png"):
    shutil.copy(photographs / "a/picture_00.png", images / name)
  arguments = ("--weights=random:vgg16_cam_quarter", "--image_size=32", "--num_classes=4")
  assert cli("--mode=index", f"--images={images}", f"--index={folder}", *arguments).code == 0
  found = cli("--mode=search", f"--index={folder}", f"--query={images}", f"--format={form}")
  assert found.code == 0
  if form == "table":
    assert found.out.count("the weights are random, so the names of classes mean nothing") == 2
  else:
    for answer in _answers(found):
      assert list(answer)[-3:] == ["results", "weights", "note"]
      assert answer["weights"] == "random:vgg16_cam_quarter" and "mean nothing" in answer["note"]


def test_a_box_a_list_and_expansion(cli, tiny_index, query):
  where = ("--mode=search", f"--index={tiny_index}", f"--query={query}")
  (boxed,) = _answers(cli(*where, "--box=0,0,48.5,48", "--format=json"))
  assert boxed["results"][0]["score"] < 1
  (fixed,) = _answers(cli(*where, "--classes=class 3,1", "--format=json"))
  assert {part["name"] for part in fixed["results"][0]["classes"]} == {"class 3", "class 1"}
  online_found = cli(*where, "--aggregation=online", "--format=json")
  (online,) = _answers(online_found)
  assert online_found.err == ""
  assert [result["lacked"] for result in online["results"]] == [0] * 10
  (expanded,) = _answers(cli(*where, "--expand=2", "--format=json"))
  result = expanded["results"][0]
  assert result["classes"] == [] and [set(part) for part in result["expanded_from"]] == [{"id", "share"}] * 2
  table = cli(*where, "--aggregation=online", "--expand=2").out
  assert "online search of 12 photographs, most similar first, every image by the classes of the query" in table


def test_what_an_index_lacks_for_an_online_search_is_one_line(cli, photographs, tiny_checkpoint, query, tmp_path):
  folder, weights = tmp_path / "i", f"--weights={tiny_checkpoint}"
  assert cli("--mode=index", f"--images={photographs}", f"--index={folder}", weights, "--store_classes=2").code == 0
  where = ("--mode=search", f"--index={folder}", "--top=12", "--format=json")
  found = cli(*where, f"--query={query}", "--aggregation=online")
  lacked = [result["lacked"] for result in _answers(found)[0]["results"]]
  assert max(lacked) > 2 and found.err == (
    f"note: 12 of 12 images lack the vectors of up to {max(lacked)} of the classes asked for, and are described by the others; "
    "--mode=index with --store_classes=all stores every class\n"
  )
  assert cli(*where, f"--query={query}", "--aggregation=online", "--partial") == found
  (fixed,) = _answers(several := cli(*where, f"--query={query}", "--classes=class 3"))
  assert {result["lacked"] for result in fixed["results"]} <= {0, 1}
  assert several.err.startswith("note: ") and several.err.count("\n") == 1
  many = cli(*where, f"--query={photographs / 'a'}", "--aggregation=online", "--quiet")
  assert len(_answers(many)) == 6 and many.err == ""
  offline = cli(*where, f"--query={query}", "--partial")
  assert offline.err == "" and "lacked" not in _answers(offline)[0]["results"][0]


def test_a_folder_of_queries_skips_what_cannot_be_read(cli, tiny_index, photographs, tmp_path):
  folder = shutil.copytree(photographs / "a", tmp_path / "queries")
  (folder / "broken.jpg").write_bytes(b"nothing")
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={folder}", "--top=1", "--format=json")
  answers = _answers(found)
  assert [answer["query"] for answer in answers] == [f"picture_{number:02d}.png" for number in range(6)]
  assert [answer["results"][0]["id"] for answer in answers] == [f"a/{answer['query']}" for answer in answers]
  assert found.err.splitlines()[-1].startswith("skipped broken.jpg: ")  # progress before it, on a slow machine


def test_a_list_of_queries_is_searched_in_the_order_of_the_names(cli, tiny_index, photographs, tmp_path):
  folder = photographs / "a"
  (tmp_path / "list.txt").write_text(f"# comment\n{folder}/picture_03.png\nmissing.png\n{folder}/picture_02.png\n")
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={tmp_path / 'list.txt'}", "--top=1", "--format=json")
  assert [answer["results"][0]["id"] for answer in _answers(found)] == ["a/picture_02.png", "a/picture_03.png"]
  assert found.err == "skipped missing.png: no such file\n"


def test_more_queries_than_are_ranked_together(cli, tiny_index, photographs, tmp_path, monkeypatch):
  monkeypatch.setattr("cwf_jax.retrieval.searcher.QUERIES_AT_ONCE", 5)
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={photographs}", "--top=1", "--format=json")
  assert [answer["results"][0]["id"] for answer in _answers(found)] == [answer["query"] for answer in _answers(found)]
  assert len(_answers(found)) == 12


def test_no_readable_query_among_many_is_a_failure(cli, tiny_index, tmp_path):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={tmp_path}")
  assert (found.code, found.out) == (1, "")
  *_, skipped, failed = found.err.splitlines()
  assert skipped.startswith("skipped broken.jpg: ") and failed == f"cwf_jax: none of the queries in {tmp_path} could be read"


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--query=QUERY"], "--mode=search needs --index=PATH"),
    (["--index=INDEX"], "--mode=search needs --query=PATH"),
    (["--index=INDEX", "--query=TMP/missing.jpg"], "missing.jpg: no such file"),
    (["--index=INDEX", "--query=TMP/broken.jpg"], "broken.jpg: "),
    (["--index=INDEX", "--query=TMP/empty"], "there are no images in"),
    (["--index=INDEX", "--query=TMP/missing.txt"], "there is no file or folder"),
    (["--index=TMP/missing", "--query=QUERY"], "there is no index at"),
    (["--index=TMP/empty", "--query=QUERY"], "is not an index of cwf_jax"),
    (["--index=QUERY", "--query=QUERY"], "picture_01.png"),
    (["--index=INDEX", "--query=QUERY", "--box=1000,0,1040,40"], "lies outside the image, which has 96x64 pixels"),
    (["--index=INDEX", "--query=QUERY", "--box=40,0,40,40"], "0x40 pixels"),
    (["--index=INDEX", "--query=QUERY", "--box=0,0,15,40"], "the least is 16x16"),
    (["--index=INDEX", "--query=QUERY", "--box=0,0,40"], "--box is four numbers, left,top,right,bottom; found '0,0,40'"),
    (["--index=INDEX", "--query=QUERY", "--box=a,b,c,d"], "--box is four numbers"),
    (["--index=INDEX", "--query=QUERY", "--box="], "--box is four numbers"),
    (["--index=INDEX", "--query=QUERY", "--box=nan,0,40,40"], "four numbers"),
    (["--index=INDEX", "--query=TMP", "--box=0,0,40,40"], "--box is for one query"),
    (["--index=INDEX", "--query=QUERY", "--classes=clas 3"], "did you mean 'class 3'"),
    (["--index=INDEX", "--query=QUERY", "--classes=99"], "the network's classes are 0 to 9"),
    (["--index=INDEX", "--query=QUERY", "--classes="], "no class was named"),
    (["--index=INDEX", "--query=QUERY", "--aggregation=fixed"], "needs the list of its classes"),
    (["--index=INDEX", "--query=QUERY", "--aggregation=online", "--classes=1"], "a list of classes is for --aggregation=fixed"),
    (["--index=INDEX", "--query=QUERY", "--image_size=320"], "--image_size=320, but its own is 64"),
    (["--index=INDEX", "--query=QUERY", "--protocol=reference"], "--protocol=reference, but its own is paper"),
    (["--index=INDEX", "--query=QUERY", "--weights=default"], "--weights=default, but it has those of"),
    (["--index=INDEX", "--query=QUERY", "--weights=nosuch"], "no weights 'nosuch'"),
  ],
)
def test_a_wrong_call_is_one_line(refused, tiny_index, query, tmp_path, arguments, said):
  (tmp_path / "broken.jpg").write_bytes(b"nothing")
  (tmp_path / "empty").mkdir()
  known = {"INDEX": tiny_index, "QUERY": query, "TMP": tmp_path}
  for name, path in known.items():
    arguments = [argument.replace(name, str(path)) for argument in arguments]
  assert said in refused("--mode=search", *arguments)


def test_every_disagreement_with_the_index_is_named_at_once(refused, tiny_index, query):
  line = refused(
    "--mode=search", f"--index={tiny_index}", f"--query={query}", "--image_size=320", "--num_classes=5", "--protocol=reference"
  )
  for named in (str(tiny_index), "--image_size=320, but its own is 64", "--num_classes=5, but its own is 4", "reference"):
    assert named in line


@pytest.mark.parametrize("damage", ["rows", "manifest", "no data", "no manifests", "settings"])
def test_a_damaged_index_is_told(refused, photographs, tiny_checkpoint, query, tmp_path, cli, damage):
  folder = tmp_path / "damaged"
  where = ("--mode=index", f"--images={photographs}/a", f"--index={folder}")
  assert cli(*where, f"--weights={tiny_checkpoint}", "--num_classes=4").code == 0
  shutil.rmtree(folder / "snapshots", ignore_errors=True)
  data = folder / "images.lance"
  kind = {"rows": "*.lance", "no data": "*.lance"}.get(damage, "*.manifest")
  files = [path for path in data.rglob(kind) if path.is_file()]
  assert files
  for path in files:
    content = path.read_bytes()
    if damage.startswith("no "):
      path.unlink()
    else:
      path.write_bytes(content.replace(b"fingerprint", b"fingerprimt") if damage == "settings" else content[:40])
  line = refused("--mode=search", f"--index={folder}", f"--query={query}")
  assert str(folder) in line and len(line) < 500


def test_an_index_is_searched_with_a_copy_of_its_weights(cli, refused, photographs, tiny_checkpoint, query, tmp_path):
  weights = shutil.copytree(tiny_checkpoint, tmp_path / "weights")
  folder = tmp_path / "i"
  assert cli("--mode=index", f"--images={photographs}/a", f"--index={folder}", f"--weights={weights}").code == 0
  weights.rename(tmp_path / "moved")
  where = ("--mode=search", f"--index={folder}", f"--query={query}")
  assert str(weights) in refused(*where)
  assert cli(*where, f"--weights={tmp_path / 'moved'}").code == 0


def test_quiet_says_nothing_but_errors(cli, tiny_index, photographs, tmp_path):
  folder = shutil.copytree(photographs / "a", tmp_path / "queries")
  (folder / "broken.jpg").write_bytes(b"nothing")
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={folder}", "--quiet", f"--log_file={tmp_path / 'log'}")
  assert (found.code, found.err) == (0, "")
  assert "skipped broken.jpg" in (tmp_path / "log").read_text()


def test_a_query_in_which_no_class_is_seen_is_told(cli, tiny_index, query, monkeypatch):
  from cwf_jax.retrieval import searcher

  encode = searcher.encode_query

  def encode_nothing(*arguments, **options):
    encoded = encode(*arguments, **options)
    return dataclasses.replace(encoded, class_vectors=np.zeros_like(encoded.class_vectors))

  monkeypatch.setattr(searcher, "encode_query", encode_nothing)
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={query}", "--top=2")
  assert "sees none of its classes" in found.err and found.code == 0
  assert "   1  0.0000  a/picture_00.png" in found.out


def test_names_that_a_terminal_cannot_show_are_escaped(cli, tiny_index, query, tmp_path):
  strange = tmp_path / "line\nbreak\x1b[31m.png"
  shutil.copy(query, strange)
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={strange}", "--top=1")
  assert found.code == 0 and "line\\nbreak\\x1b[31m.png" in found.out


class _Index(types.SimpleNamespace):
  """An index of two photographs, as far as a table of answers asks it."""

  def __len__(self):
    return 2


def _format(results):
  settings = types.SimpleNamespace(classes=ClassList.numbered(3), class_note="the weights are random, so beware")
  index = _Index(settings=types.SimpleNamespace(system="ofa"))
  searcher = types.SimpleNamespace(encoder=types.SimpleNamespace(settings=settings), index=index)
  photograph = types.SimpleNamespace(box=(0.0, 0.0, 40.0, 40.5))
  query = Query(np.arange(3), np.zeros((3, 2)), np.array([0.5, 0.3, 0.2]), photograph)
  return format_table("q.jpg", query, results, searcher, "online", True)


def test_a_table_fits_its_width_with_long_names():
  name = "/".join(["a_rather_long_folder"] * 4) + "/photograph.jpg"
  common = tuple(CommonClass(place, f"some long name of a class {place}", 0.2, 0.1) for place in range(5))
  results = [Result(1, name, "/a", 0.5, common), Result(2, "short.jpg", "/b", -1e-9, common, lacked=3)]
  lines = _format(results).splitlines()
  assert lines[0].startswith("query q.jpg in the box 0,0,40,40.5: online search of 2 photographs")
  assert lines[1] == "it shows: class 0 50 %, class 1 30 %, class 2 20 %"
  assert max(map(len, lines[1:-2])) <= 118
  assert sum(name in line for line in lines) == 1
  assert "lacks 3 of the classes" in "\n".join(lines) and "-0.0000" not in "\n".join(lines)
  column = lines[2].index("why")
  assert all(line[:column].strip() == "" for line in lines if line.startswith("     "))
  assert lines[-1] == "note: the weights are random, so beware"


def test_an_image_of_one_color_is_a_query(cli, tiny_index, tmp_path):
  Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={tmp_path / 'black.png'}", "--top=1")
  assert found.code == 0
