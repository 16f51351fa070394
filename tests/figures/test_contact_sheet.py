"""The contact sheet tells every answer's class, share and place, or why there is nothing to show."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.explanation import compute_maps, explain, map_box
from cwf_jax.figures import contact_sheet
from cwf_jax.figures.contact_sheet import FRAMES_LEGEND, LEGEND, draw_answers
from cwf_jax.figures.files import save_figure
from tests.figures.layout import HOSTILE, check_layout

SHAPES = {"tall.png": (128, 64), "wide.png": (64, 128), "tiny.png": (16, 16), "long.png": (16, 600), "high.png": (600, 16)}
"""With the first two every canvas is the same, so that one program serves all tests."""


SEEN, OTHER = 2, 4
"""Classes whose maps are empty nowhere in these pictures."""


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
  seen = []

  def draw(given, *arguments):
    seen[:] = given
    return original(given, *arguments)

  original = contact_sheet.draw_panels
  monkeypatch.setattr(contact_sheet, "draw_panels", draw)
  return seen


def _part(class_id, share=0.25, name=None):
  return SimpleNamespace(name=f"class {class_id}" if name is None else name, share=share, class_id=class_id)


TOLD = (_part(SEEN), _part(5, 0.125))


def _answers(folder, names, classes=TOLD):
  return [
    SimpleNamespace(rank=rank, id=name, path=str(folder / name), score=1 - 0.1 * rank, classes=classes)
    for rank, name in enumerate(names, 1)
  ]


def test_each_answer_has_its_own_class_and_the_query_the_first_ones(tiny_encoder, folder, panels):
  answers = _answers(folder, SHAPES)
  answers[1].classes = (_part(OTHER, 0.5),)
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, title="A search", notes=["a note"]))
  assert texts[:3] == ["A search", "query", "tall.png"] and texts[-1] == "a note"
  assert LEGEND in " ".join(texts)  # on one line or two
  assert [panel.title for panel in panels] == ["query", *(f"{rank}   {1 - 0.1 * rank:.4f}" for rank in range(1, 6))]
  assert [panel.notes for panel in panels] == [
    (f"class {SEEN}",), (f"class {SEEN} 0.2500",), (f"class {OTHER} 0.5000",), *[(f"class {SEEN} 0.2500",)] * 3,
  ]  # fmt: skip
  assert [panel.frame for panel in panels] == ["query", *[None] * 5]
  pictures = [panel.pixels for panel in panels]
  expected = compute_maps(tiny_encoder, pictures, [SEEN, SEEN, OTHER, SEEN, SEEN, SEEN])
  for panel, heat, shape in zip(panels, expected, [(128, 64), *SHAPES.values()], strict=True):
    assert panel.pixels.shape[:2] == shape and not panel.missing
    np.testing.assert_array_equal(panel.heat, heat)
    assert panel.map_box == map_box(shape, tiny_encoder.settings.protocol.resized(*shape))


def test_a_map_is_that_of_the_reasons(tiny_encoder, folder, panels):
  box = (0.0, 20.0, 50.0, 100.0)
  reason = explain(tiny_encoder, folder / "tall.png", box).classes[0]
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"]), box=box, class_id=reason.class_id)
  np.testing.assert_allclose(panels[0].heat, reason.cam, atol=1e-4)  # through the network on another canvas
  assert panels[0].box == box and panels[1].box is None and panels[0].notes == (reason.name,)


def test_an_answer_that_cannot_be_read_has_the_reason_in_its_place(tiny_encoder, folder, panels):
  answers = _answers(folder, ["gone.png", "wide.png", "truncated.png"])
  figure = draw_answers(tiny_encoder, folder / "tall.png", answers)
  check_layout(figure)
  assert [panel.pixels is None for panel in panels] == [False, True, False, True]
  assert panels[1].missing and "truncated" in panels[3].missing
  assert str(folder) not in panels[1].missing + panels[3].missing
  assert [panel.heat is None for panel in panels] == [False, True, False, True]
  shown = [" ".join(text.get_text() for text in axes.texts).replace("\n", " ") for axes in figure.axes]
  assert shown == ["", panels[1].missing, "", panels[3].missing]
  assert [panel.notes[0] for panel in panels[1:]] == [f"class {SEEN} 0.2500"] * 3


def test_after_expansion_all_show_the_querys_class(tiny_encoder, folder, panels):
  answers = _answers(folder, ["wide.png", "tiny.png"], classes=())
  check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, class_id=OTHER))
  assert [panel.notes for panel in panels] == [(f"class {OTHER}",)] * 3
  for panel, heat in zip(panels, compute_maps(tiny_encoder, [panel.pixels for panel in panels], [OTHER] * 3), strict=True):
    np.testing.assert_array_equal(panel.heat, heat)


@pytest.mark.parametrize("classes", [(), (_part(None, 0.4, "(other classes)"), _part(SEEN))], ids=["none", "no id"])
def test_without_any_class_the_pictures_are_shown_as_they_are(tiny_encoder, folder, panels, classes):
  check_layout(draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"], classes)))
  assert [panel.heat for panel in panels] == [None, None] and [panel.notes for panel in panels] == [(), ()]


def test_an_answer_without_an_id_of_a_class_shows_the_querys_class(tiny_encoder, folder, panels):
  answers = _answers(folder, ["wide.png", "tiny.png"])
  answers[0].classes = (_part(None, 0.4, "(other classes)"),)
  draw_answers(tiny_encoder, folder / "tall.png", answers)
  assert [panel.notes for panel in panels] == [(f"class {SEEN}",), (f"class {SEEN}",), (f"class {SEEN} 0.2500",)]


def test_a_class_that_is_seen_nowhere_is_told(tiny_encoder, folder, panels, monkeypatch):
  empty = lambda encoder, images, ids, boxes: [np.zeros((4, 4), np.float32) for _ in images]  # noqa: E731
  monkeypatch.setattr(contact_sheet, "compute_maps", empty)
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"]))
  assert [panel.heat for panel in panels] == [None, None]
  told = [f"class {SEEN}: seen nowhere here", f"class {SEEN} 0.2500: seen nowhere here"]
  assert [panel.notes for panel in panels] == [(note,) for note in told]


def test_answers_beyond_the_most_are_counted(tiny_encoder, folder, panels, monkeypatch):
  monkeypatch.setattr(contact_sheet, "MOST", 3)
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png", *["tiny.png"] * 4])))
  assert len(panels) == 4 and texts[-1] == "The first 3 of 5 answers."
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png", *["tiny.png"] * 2])))
  assert len(panels) == 4 and not any("answers." in text for text in texts)


def test_the_truth_is_in_words_and_frames(tiny_encoder, folder, panels):
  relevance = {"wide.png": "relevant", "tiny.png": "junk", "long.png": "not relevant"}
  answers = _answers(folder, ["wide.png", "tiny.png", "long.png", "high.png"])
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, relevance=relevance))
  truths = ["relevant", "junk", "not relevant", "not relevant"]  # what the truth does not list is not relevant
  assert [panel.frame for panel in panels] == ["query", *truths]
  assert [panel.title for panel in panels[1:]] == [f"{n}   {1 - 0.1 * n:.4f}   {truth}" for n, truth in enumerate(truths, 1)]
  assert all(any(text.endswith(f"   {truth}") for text in texts) for truth in truths)
  assert FRAMES_LEGEND in " ".join(texts)


def test_pixels_are_a_query_and_what_is_none_is_refused(tiny_encoder, folder, panels):
  pixels = np.asarray(Image.open(folder / "tall.png"))
  draw_answers(tiny_encoder, pixels, _answers(folder, ["wide.png"]))
  assert panels[0].name == "" and panels[0].pixels is pixels
  with pytest.raises(InputError, match=r"gone\.png"):
    draw_answers(tiny_encoder, folder / "gone.png", _answers(folder, ["wide.png"]))


def test_no_answers_leave_the_query(tiny_encoder, folder, panels):
  check_layout(draw_answers(tiny_encoder, folder / "tall.png", []))
  assert len(panels) == 1 and panels[0].heat is None


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_hostile_names_are_saved_without_a_warning(tiny_encoder, folder, tmp_path, end):
  answers = _answers(folder, [*SHAPES, "gone.png", "truncated.png", *SHAPES])
  for answer, name in zip(answers, HOSTILE, strict=False):
    answer.id = name
  figure = draw_answers(tiny_encoder, folder / "tall.png", answers, title=HOSTILE[end == "png"], notes=HOSTILE, relevance={})
  check_layout(figure)
  save_figure(figure, tmp_path / f"a.{end}", dpi=50)
  assert (tmp_path / f"a.{end}").stat().st_size > 5000
