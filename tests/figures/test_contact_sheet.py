"""The contact sheet shows every answer's reasons, or why there is nothing to show."""

import weakref

import jax
import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.figures import contact_sheet
from cwf_jax.figures.contact_sheet import BOX_LEGEND, CLASSES_LEGEND, FRAMES_LEGEND, draw_answers
from cwf_jax.figures.files import save_figure
from cwf_jax.figures.panels import THUMBNAIL
from cwf_jax.figures.reasons import MAP_LEGEND
from cwf_jax.images.decoding import decode_image
from cwf_jax.images.queries import fit_query
from cwf_jax.protocol import BoxError
from cwf_jax.queries import encode_query
from cwf_jax.retrieval.answers import Result
from cwf_jax.retrieval.explanation import map_classes
from cwf_jax.retrieval.reasons import CommonClass, Match
from tests.figures.layout import HOSTILE, check_layout

SHAPES = {"tall.png": (128, 64), "wide.png": (64, 128), "tiny.png": (16, 16), "long.png": (16, 600), "high.png": (600, 16)}
"""Of three canvases."""

MATCH = Match(41, (0.0, 0.0, 30.0, 40.0), (1.0, 2.0, 12.0, 15.0), (((1.0, 2.0), (3.0, 4.0)),) * 41)
WEAK = Match(3, (0.0, 0.0, 16.0, 16.0), (0.0, 0.0, 16.0, 16.0), (((1.0, 2.0), (3.0, 4.0)),) * 3)
COMMON = (CommonClass(4, "class 4", 0.62, 0.48), CommonClass(2, "class 2", 0.2, 0.11), CommonClass(3, "class 3", 0.1, 0.06))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pictures")
  for seed, (name, shape) in enumerate(SHAPES.items()):
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC).save(folder / name)
  (folder / "truncated.png").write_bytes((folder / "wide.png").read_bytes()[:3000])
  return folder


@pytest.fixture
def panels(monkeypatch):
  """The panels of the sheet that was drawn last."""
  drawn = []

  def draw(panels, *arguments):
    drawn[:] = panels
    return original(panels, *arguments)

  original = contact_sheet.draw_panels
  monkeypatch.setattr(contact_sheet, "draw_panels", draw)
  return drawn


def _answers(folder, names, classes=COMMON, match=MATCH):
  return [
    Result(rank, name, str(folder / name), 1 - 0.1 * rank, common_classes=classes, match=match)
    for rank, name in enumerate(names, 1)
  ]


def test_answers_have_their_reasons_in_words_and_a_box_around_the_places(tiny_encoder, folder, panels):
  answers = _answers(folder, ["wide.png"]) + _answers(folder, ["tiny.png"], COMMON[:1], WEAK)
  answers += _answers(folder, ["long.png"], (), None)
  box = (0.0, 20.0, 50.0, 100.0)
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, box=box, title="A search", notes=["a note"]))
  assert texts[:3] == ["A search", "query", "tall.png"] and texts[-1] == "a note"
  assert [panel.title for panel in panels] == ["query", "1   0.9000", "1   0.9000", "1   0.9000"]
  assert [panel.name for panel in panels] == ["tall.png", "wide.png", "tiny.png", "long.png"]
  assert [panel.summary for panel in panels] == ["", "41 places match", "few places match", ""]
  assert [panel.notes for panel in panels[1:]] == [
    ("class 4 62 % / 48 %", "class 2 20 % / 11 %"),
    ("class 4 62 % / 48 %",),
    ("no class stands out in both",),
  ]
  assert [panel.box for panel in panels] == [box, MATCH.answer_box, None, None]  # a few places are no evidence
  assert [panel.frame for panel in panels] == ["query", None, None, None]
  assert all(panel.heat is None for panel in panels)
  words = " ".join(texts)  # each on one line or two
  for legend in (BOX_LEGEND, CLASSES_LEGEND, "7 of 8 with 30 or more"):
    assert legend in words
  assert MAP_LEGEND not in words and FRAMES_LEGEND not in words


def test_legends_are_only_of_what_is_shown(tiny_encoder, folder, panels):
  words = " ".join(check_layout(draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"], (), None))))
  assert not any(legend in words for legend in (BOX_LEGEND, CLASSES_LEGEND, FRAMES_LEGEND, MAP_LEGEND, "7 of 8"))
  check_layout(draw_answers(tiny_encoder, folder / "tall.png", []))
  assert len(panels) == 1


def test_without_maps_there_is_no_forward_pass(tiny_encoder, folder, compilations):
  jax.clear_caches()
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, SHAPES), box=(0.0, 0.0, 40.0, 40.0))
  assert compilations == []


def test_maps_are_a_row_below_each_row_of_photographs(tiny_encoder, folder, panels):
  names = [*SHAPES, "gone.png", *SHAPES]
  answers = _answers(folder, names, COMMON[1:])
  query = encode_query(tiny_encoder, folder / "tall.png")
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, maps=True))
  assert MAP_LEGEND in " ".join(texts)
  assert len(panels) == 24  # six columns
  photographs, maps = [*panels[:6], *panels[12:18]], [*panels[6:12], *panels[18:]]
  assert [panel.name for panel in photographs] == ["tall.png", *names]
  assert all(panel.heat is None for panel in photographs)
  strongest = query.strongest_class
  assert maps[0].name == f"class {strongest} {100 * query.probabilities[strongest]:.0f} %"
  assert maps[6] is None  # that of the answer that is gone
  for panel, name in zip(maps[1:], names, strict=True):
    if name != "gone.png":
      (expected,) = map_classes(tiny_encoder, fit_query(folder / name, None, tiny_encoder.settings.protocol), [2])
      assert panel.name == f"class 2 {100 * expected.probability:.0f} %" and panel.shape == SHAPES[name]
      assert panel.heat is not None or panel.notes == ("its map is empty",)
      if panel.heat is not None:
        np.testing.assert_array_equal(panel.heat, expected.cam)
        assert panel.map_box == expected.map_box


@pytest.mark.parametrize("count", [0, 1, 5])
def test_maps_of_few_answers_lie_below_their_photographs(tiny_encoder, folder, panels, count):
  figure = draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"] * count), maps=True)
  check_layout(figure)
  assert len(panels) == len(figure.axes) == 2 * (count + 1)
  for above, below in zip(figure.axes[: count + 1], figure.axes[count + 1 :], strict=True):
    assert below.get_position().x0 == pytest.approx(above.get_position().x0)
    assert below.get_position().y1 < above.get_position().y0


def test_where_no_class_is_common_the_map_is_of_the_query_s_strongest_class(tiny_encoder, folder, panels):
  box = (0.0, 20.0, 50.0, 100.0)
  query = encode_query(tiny_encoder, folder / "tall.png", box)
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"], ()), box=box, maps=True)
  (expected,) = map_classes(tiny_encoder, query.photograph, [query.strongest_class], query.probabilities)
  np.testing.assert_array_equal(panels[2].heat, expected.cam)
  for panel in panels[2:]:
    assert panel.name.startswith(f"class {query.strongest_class} ")


def test_no_photograph_is_held_at_its_full_size(tiny_encoder, folder, tmp_path, panels, monkeypatch):
  decoded = []

  def read(image):
    assert not [one for one in decoded[1:-1] if one() is not None]  # but the query and the last
    pixels = original(image)
    decoded.append(weakref.ref(pixels))
    return pixels

  original = contact_sheet.read_pixels
  monkeypatch.setattr(contact_sheet, "read_pixels", read)
  large = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  Image.fromarray(large).resize((3000, 2000), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
  figure = draw_answers(tiny_encoder, folder / "tall.png", _answers(tmp_path, ["large.jpg"] * 3), maps=True)
  for panel, axes in zip(panels[1:4], figure.axes[1:4], strict=True):
    assert panel.pixels.shape == (320, 480, 3) and panel.shape == (2000, 3000)
    assert max(np.asarray(axes.images[0].get_array()).shape) <= THUMBNAIL
    assert axes.patches[0].get_bbox().extents.tolist() == [*MATCH.answer_box]  # in pixels of the photograph


def test_an_answer_that_cannot_be_read_has_the_reason_in_its_place(tiny_encoder, folder, panels):
  answers = _answers(folder, ["gone.png", "wide.png", "truncated.png"], match=None)
  figure = draw_answers(tiny_encoder, folder / "tall.png", answers)
  check_layout(figure)
  assert [panel.pixels is None for panel in panels] == [False, True, False, True]
  assert panels[1].missing == "no such file" and "truncated" in panels[3].missing
  shown = [" ".join(text.get_text() for text in axes.texts).replace("\n", " ") for axes in figure.axes]
  assert shown == ["", panels[1].missing, "", panels[3].missing]
  assert [panel.notes[0] for panel in panels[1:]] == ["class 4 62 % / 48 %"] * 3


def test_answers_beyond_the_most_are_counted(tiny_encoder, folder, panels, monkeypatch):
  monkeypatch.setattr(contact_sheet, "MOST", 3)
  texts = check_layout(
    draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png", *["tiny.png"] * 4]), notes=["a note"])
  )
  assert len(panels) == 4 and texts[-2:] == ["The first 3 of 5 answers.", "a note"]
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png", *["tiny.png"] * 2])))
  assert len(panels) == 4 and not any("answers." in text for text in texts)


def test_the_truth_is_in_words_and_frames(tiny_encoder, folder, panels):
  relevance = {"wide.png": "relevant", "tiny.png": "junk", "long.png": "not relevant"}
  answers = _answers(folder, ["wide.png", "tiny.png", "long.png", "high.png"])
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, relevance=relevance))
  truths = ["relevant", "junk", "not relevant", "not relevant"]  # an answer that the truth does not have is not relevant
  assert [panel.frame for panel in panels] == ["query", *truths]
  assert [panel.title for panel in panels[1:]] == [f"{n}   {1 - 0.1 * n:.4f}   {truth}" for n, truth in enumerate(truths, 1)]
  assert FRAMES_LEGEND in " ".join(texts)


def test_pixels_are_a_query_and_what_is_none_is_refused(tiny_encoder, folder, panels):
  pixels = np.asarray(Image.open(folder / "tall.png"))
  draw_answers(tiny_encoder, pixels, _answers(folder, ["wide.png"]))
  assert panels[0].name == "" and panels[0].pixels is pixels
  for query in ((folder / "tall.png").read_bytes(), Image.open(folder / "tall.png")):
    draw_answers(tiny_encoder, query, [])
    assert panels[0].name == ""
    np.testing.assert_array_equal(panels[0].pixels, decode_image(folder / "tall.png"))
  for maps in (False, True):
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
      draw_answers(tiny_encoder, folder / "gone.png", [], maps=maps)
    with pytest.raises(InputError, match="uint8"):
      draw_answers(tiny_encoder, np.zeros((32, 32, 3)), [], maps=maps)
    with pytest.raises(BoxError, match="the least is 16x16"):
      draw_answers(tiny_encoder, pixels, [], box=(0.0, 0.0, 5.0, 5.0), maps=maps)


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_hostile_names_are_saved_without_a_warning(tiny_encoder, folder, tmp_path, end):
  files = [*SHAPES, "gone.png", "truncated.png", *SHAPES]
  answers = [
    Result(7, name, str(folder / file), 0.5, common_classes=(CommonClass(1, name, 1.0, 0.5),) * 3, match=MATCH)
    for file, name in zip(files, HOSTILE, strict=False)
  ]
  figure = draw_answers(tiny_encoder, folder / "tall.png", answers, title=HOSTILE[end == "png"], notes=HOSTILE, relevance={})
  check_layout(figure)
  save_figure(figure, tmp_path / f"a.{end}", dpi=50)
  assert (tmp_path / f"a.{end}").stat().st_size > 5000
