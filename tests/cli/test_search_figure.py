"""`--figure` of `--mode=search`: the contact sheet of one query."""

import json
import shutil

import jax
import pytest
from PIL import Image

import cwf_jax.figures.contact_sheet as contact_sheet

BEGINNINGS = {".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture
def search(cli, tiny_index, query):
  """Searches for the query."""

  def run(*arguments):
    found = cli("--mode=search", f"--index={tiny_index}", f"--query={query}", *arguments)
    assert found.code == 0, found.err
    return found

  return run


@pytest.fixture
def sheets(monkeypatch):
  """What is drawn: panels, columns, title and notes of each sheet."""
  found, draw = [], contact_sheet.draw_panels
  monkeypatch.setattr(contact_sheet, "draw_panels", lambda *given: found.append(given) or draw(*given))
  return found


@pytest.mark.parametrize("ending", BEGINNINGS)
def test_a_sheet_is_written_in_every_format(search, tmp_path, ending):
  figure = tmp_path / f"answers{ending}"
  found = search("--top=3", f"--figure={figure}")
  assert found.err == f"figure: {figure}\n" and found.out.startswith("query ")
  assert [path.name for path in tmp_path.iterdir()] == [figure.name]
  assert figure.read_bytes().startswith(BEGINNINGS[ending])
  if ending in (".png", ".jpg", ".jpeg"):
    with Image.open(figure) as image:
      image.load()
      assert min(image.size) > 200


def test_a_sheet_shows_the_answers_that_are_printed(search, sheets, tmp_path, query):
  figure = tmp_path / "answers.png"
  found = search("--top=4", "--box=0,0,48.5,48", "--format=json", f"--figure={figure}")
  results = json.loads(found.out)["results"]
  ((panels, _, title, notes),) = sheets
  assert title == "12 photographs, most similar first"
  assert (panels[0].title, panels[0].name, panels[0].frame, panels[0].box) == ("query", query.name, "query", (0, 0, 48.5, 48))
  assert [panel.name for panel in panels[1:]] == [result["id"] for result in results]
  for panel, result in zip(panels[1:], results, strict=True):
    assert panel.title == f"{result['rank']}   {result['score']:.4f}" and panel.frame is None
    places = result["match"]["places"]
    assert panel.box == (tuple(result["match"]["answer_box"]) if places >= 12 else None)
    assert panel.summary == (f"{places} places match" if places >= 12 else panel.summary)
    names = [one["name"] for one in result["common_classes"][:2]]
    assert [note.rpartition(" % / ")[0].rpartition(" ")[0] for note in panel.notes] == (names or [""])
  assert not any("names" in note for note in notes)


def test_a_sheet_is_replaced_by_the_same_one(search, tmp_path):
  figure = tmp_path / "answers.svg"
  search("--top=2", f"--figure={figure}")
  content = figure.read_bytes()
  assert search("--top=2", f"--figure={figure}", "--quiet").err == ""
  assert figure.read_bytes() == content


def test_an_answer_whose_file_is_gone_or_broken_says_so(cli, photographs, tiny_checkpoint, sheets, tmp_path):
  images, index, figure = tmp_path / "images", tmp_path / "index", tmp_path / "answers.png"
  shutil.copytree(photographs / "a", images)
  assert cli("--mode=index", f"--images={images}", f"--index={index}", f"--weights={tiny_checkpoint}").code == 0
  (images / "picture_03.png").unlink()
  (images / "picture_04.png").write_bytes(b"nothing")
  found = cli("--mode=search", f"--index={index}", f"--query={images / 'picture_01.png'}", f"--figure={figure}")
  assert found.code == 0, found.err
  panels = {panel.name: panel for panel in sheets[0][0][1:]}
  assert len(panels) == 6 and figure.exists()
  assert [name for name, panel in panels.items() if panel.pixels is None] == [
    name for name in panels if name in ("picture_03.png", "picture_04.png")
  ]
  assert panels["picture_03.png"].missing == "no such file" and panels["picture_04.png"].missing


def test_all_files_are_gone_but_the_query(cli, photographs, tiny_checkpoint, query, sheets, tmp_path):
  images, index, figure = tmp_path / "images", tmp_path / "index", tmp_path / "answers.png"
  shutil.copytree(photographs / "a", images)
  assert cli("--mode=index", f"--images={images}", f"--index={index}", f"--weights={tiny_checkpoint}").code == 0
  shutil.rmtree(images)
  found = cli("--mode=search", f"--index={index}", f"--query={query}", f"--figure={figure}", "--top=20")
  assert found.code == 0 and figure.exists()
  assert [panel.missing for panel in sheets[0][0]] == ["", *["no such file"] * 6]


@pytest.mark.parametrize("arguments", [("--expand=2",), ("--shares=0",), ("--aggregation=online",), ("--classes=class 3,1",)])
def test_every_search_has_its_reasons(search, sheets, tmp_path, arguments):
  search("--top=3", f"--figure={tmp_path / 'answers.png'}", *arguments)
  ((panels, _, _, _),) = sheets
  assert len(panels) == 4 and all(panel.summary and panel.notes for panel in panels[1:])


@pytest.mark.long
def test_random_weights_are_noted_in_the_sheet(cli, photographs, sheets, tmp_path):
  images, index = tmp_path / "images", tmp_path / "index"
  images.mkdir()
  shutil.copy(photographs / "a/picture_00.png", images / "one.png")
  arguments = ("--weights=random:vgg16_cam_quarter", "--image_size=32", "--num_classes=4")
  assert cli("--mode=index", f"--images={images}", f"--index={index}", *arguments).code == 0
  where = ("--mode=search", f"--index={index}", f"--query={images / 'one.png'}")
  assert cli(*where, f"--figure={tmp_path / 'answers.png'}").code == 0
  assert any("the weights are random" in note for note in sheets[0][3])
  assert sheets[0][2] == "1 photograph, most similar first"


def test_a_query_s_name_of_odd_characters(cli, tiny_index, query, tmp_path):
  strange = tmp_path / "line\nbreak\x1b[31m $x_1$ \u65e5.png"
  shutil.copy(query, strange)
  figure = tmp_path / "answers \u65e5\n$.svg"
  found = cli("--mode=search", f"--index={tiny_index}", f"--query={strange}", "--top=1", f"--figure={figure}")
  assert found.code == 0 and figure.exists()
  assert found.err == f"figure: {tmp_path}/answers \u65e5\\n$.svg\n"


@pytest.mark.long
def test_maps_of_all_shapes_are_computed_by_a_program_a_canvas(search, photographs, tiny_checkpoint, tmp_path, compilations):
  from cwf_jax.images.canvases import fit_image
  from cwf_jax.images.decoding import decode_image
  from cwf_jax.load import load_encoder

  protocol, files = load_encoder(str(tiny_checkpoint), num_classes=4).settings.protocol, sorted(photographs.rglob("*.png"))
  canvases = {fit_image(decode_image(file), protocol).canvas for file in files}
  assert len(files) == 12 and 1 < len(canvases) < 12
  jax.clear_caches()
  compilations.clear()
  search("--top=12", "--maps", f"--figure={tmp_path / 'first.png'}")  # 13 pictures
  assert sum("_map" in name for name in compilations) == len(canvases), compilations
  compilations.clear()
  search("--top=12", "--maps", f"--figure={tmp_path / 'second.png'}")
  assert compilations == []


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--query=FOLDER", "--figure=TMP/new.png"], "--figure is for one query; found a folder or a list of queries"),
    (["--query=TMP/list.txt", "--figure=TMP/new.png"], "--figure is for one query"),
    (["--query=QUERY", "--figure=TMP/mine.png"], "is there already and is no figure of cwf_jax"),
    (["--query=TMP/query.png", "--figure=TMP/query.png"], "is one of the photographs that the figure is about"),
    (["--query=QUERY", "--figure=TMP/new.gif"], "must be named .png, .jpg, .jpeg, .pdf or .svg"),
    (["--query=QUERY", "--figure=TMP/none/new.png"], "there is no folder"),
    (["--query=TMP/missing.jpg", "--figure=TMP/new.png"], "missing.jpg: no such file"),
    (["--query=QUERY", "--box=0,0,5,5", "--figure=TMP/new.png"], "the least is 16x16"),
    (["--query=QUERY", "--classes=99", "--figure=TMP/new.png"], "the network's classes are 0 to 9"),
  ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(refused, tiny_index, photographs, query, tmp_path, arguments, said):
  (tmp_path / "mine.png").write_bytes(b"mine")
  (tmp_path / "list.txt").write_text(f"{query}\n")
  shutil.copy(query, tmp_path / "query.png")
  before = {path: path.read_bytes() for path in tmp_path.iterdir()}
  for name, path in {"QUERY": query, "FOLDER": photographs, "TMP": tmp_path}.items():
    arguments = [argument.replace(name, str(path)) for argument in arguments]
  assert said in refused("--mode=search", f"--index={tiny_index}", *arguments)
  assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_wrong_figure_is_told_before_any_work(refused, query, tmp_path):
  (tmp_path / "mine.png").write_bytes(b"mine")
  where = ("--mode=search", f"--index={tmp_path / 'no.index'}")
  for source in (query, tmp_path / "missing.jpg"):
    line = refused(*where, f"--query={source}", f"--figure={tmp_path / 'mine.png'}")
    assert "mine.png cannot be written: it is there already" in line and "no.index" not in line
