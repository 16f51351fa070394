"""The contact sheet tells every answer's class, share and place, or why there is nothing to show."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.explanation import compute_maps, explain, map_box
from cwf_jax.figures import contact_sheet
from cwf_jax.figures.contact_sheet import FRAMES_LEGEND, LEGEND, SHARES_LEGEND, draw_answers
from cwf_jax.figures.files import save_figure
from cwf_jax.figures.panels import THUMBNAIL
from cwf_jax.images.canvases import fit_image
from cwf_jax.images.decoding import decode_image
from tests.figures.layout import HOSTILE, check_layout

SHAPES = {"tall.png": (128, 64), "wide.png": (64, 128), "tiny.png": (16, 16), "long.png": (16, 600), "high.png": (600, 16)}
"""Of three canvases."""

SEEN, OTHER = 4, 2
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


def _map(encoder, path, class_id):
  """Of one photograph at full size, alone."""
  return compute_maps(encoder, [fit_image(decode_image(path), encoder.settings.protocol)], [class_id])[0]


@pytest.fixture
def own(tiny_encoder, folder):
  """The most probable class that is seen in the query."""
  return next(reason for reason in explain(tiny_encoder, folder / "tall.png").classes if reason.cam.any())


def test_each_answer_has_its_own_class_and_the_query_the_most_probable_one(tiny_encoder, folder, panels, own):
  answers = _answers(folder, SHAPES)
  answers[1].classes = (_part(OTHER, 0.5),)
  texts = check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, title="A search", notes=["a note"]))
  assert own.class_id != SEEN
  assert texts[:3] == ["A search", "query", "tall.png"] and texts[-1] == "a note"
  told = " ".join(texts)  # on one line or two
  assert LEGEND in told and SHARES_LEGEND in told and FRAMES_LEGEND not in told
  assert [panel.title for panel in panels] == ["query", *(f"{rank}   {1 - 0.1 * rank:.4f}" for rank in range(1, 6))]
  assert [panel.notes for panel in panels] == [
    (own.name,), (f"class {SEEN} 0.2500",), (f"class {OTHER} 0.5000",), *[(f"class {SEEN} 0.2500",)] * 3,
  ]  # fmt: skip
  assert [panel.frame for panel in panels] == ["query", *[None] * 5]
  for panel, name, class_id in zip(panels, ["tall.png", *SHAPES], [own.class_id, SEEN, OTHER, SEEN, SEEN, SEEN], strict=True):
    shape = SHAPES[name]
    assert panel.shape == shape and not panel.missing
    if max(shape) <= THUMBNAIL:
      np.testing.assert_array_equal(panel.pixels, decode_image(folder / name))
    else:
      assert max(panel.pixels.shape) == THUMBNAIL
    np.testing.assert_array_equal(panel.heat, _map(tiny_encoder, folder / name, class_id))
    assert panel.map_box == map_box(shape, tiny_encoder.settings.protocol.resized(*shape))


@pytest.mark.parametrize("is_given", [True, False])
def test_a_map_is_that_of_the_reasons(tiny_encoder, folder, panels, is_given):
  box = (0.0, 20.0, 50.0, 100.0)
  reasons = explain(tiny_encoder, folder / "tall.png", box).classes
  reason = reasons[-1] if is_given else next(one for one in reasons if one.cam.any())
  chosen = reason.class_id if is_given else None
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"]), box=box, class_id=chosen)
  assert reason.cam.any()
  np.testing.assert_allclose(panels[0].heat, reason.cam, atol=1e-4)  # through the network in another batch
  assert panels[0].box == box and panels[1].box is None and panels[0].notes == (reason.name,)


def test_a_class_that_is_seen_nowhere_is_not_chosen_for_the_query(tiny_encoder, folder, panels, monkeypatch):
  def explain_all_but_the_first(*arguments):
    first, *rest = explain(*arguments).classes
    return SimpleNamespace(classes=(first._replace(cam=np.zeros_like(first.cam)), *rest))

  monkeypatch.setattr(contact_sheet, "explain", explain_all_but_the_first)
  expected = next(one for one in explain(tiny_encoder, folder / "tall.png").classes[1:] if one.cam.any())
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"], ()))
  assert [panel.notes for panel in panels] == [(expected.name,)] * 2 and panels[0].heat.any()


def test_no_photograph_is_kept_at_its_full_size(tiny_encoder, folder, tmp_path, panels, monkeypatch):
  decoded = []

  def decode(path):
    pixels = decode_image(path)
    decoded.append(weakref.ref(pixels))
    return pixels

  def compute(encoder, pictures, *arguments):
    assert [one() for one in decoded] == [None, None]  # let go before the maps are computed
    assert [max(one.pixels.shape) for one in pictures] == [128, 96, 96]
    return compute_maps(encoder, pictures, *arguments)

  monkeypatch.setattr(contact_sheet, "decode_image", decode)
  monkeypatch.setattr(contact_sheet, "compute_maps", compute)
  large = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  Image.fromarray(large).resize((3000, 2000), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
  figure = draw_answers(tiny_encoder, folder / "tall.png", _answers(tmp_path, ["large.jpg"] * 2))
  for panel, axes in zip(panels[1:], figure.axes[1:], strict=True):
    assert panel.pixels.shape == (320, 480, 3) and panel.shape == (2000, 3000) and max(panel.pixels.shape) <= THUMBNAIL
    assert max(np.asarray(axes.images[0].get_array()).shape) <= THUMBNAIL
    assert panel.map_box == map_box((2000, 3000), (64, 96)) == (0, 0, 3000, 2000)
    np.testing.assert_array_equal(panel.heat, _map(tiny_encoder, tmp_path / "large.jpg", SEEN))


def test_a_large_querys_box_lies_in_its_own_pixels(tiny_encoder, panels):
  large = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  pixels = np.asarray(Image.fromarray(large).resize((3000, 2000), Image.Resampling.BICUBIC))
  box = (100.0, 200.0, 2900.0, 1900.0)
  figure = draw_answers(tiny_encoder, pixels, [], box=box)
  assert panels[0].pixels.shape == (320, 480, 3) and panels[0].shape == (2000, 3000) and panels[0].box == box
  assert figure.axes[0].patches[0].get_bbox().extents.tolist() == [*box]


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


def test_after_expansion_all_show_the_querys_class(tiny_encoder, folder, panels, own):
  answers = _answers(folder, ["wide.png", "tiny.png"], classes=())
  for chosen, reason in ((SEEN, SimpleNamespace(class_id=SEEN, name=f"class {SEEN}")), (None, own)):
    assert chosen != own.class_id
    told = " ".join(check_layout(draw_answers(tiny_encoder, folder / "tall.png", answers, class_id=chosen)))
    assert LEGEND in told and SHARES_LEGEND not in told  # no share is shown
    for panel, name in zip(panels, ["tall.png", "wide.png", "tiny.png"], strict=True):
      heat = _map(tiny_encoder, folder / name, reason.class_id)
      if heat.any():
        np.testing.assert_array_equal(panel.heat, heat)
      assert panel.notes == (reason.name if heat.any() else f"{reason.name}: seen nowhere here",)
    assert panels[0].heat is not None
    assert chosen is None or all(panel.heat is not None for panel in panels)


@pytest.mark.parametrize("classes", [(), (_part(None, 0.4, "(other classes)"), _part(SEEN))], ids=["none", "no id"])
def test_without_any_class_the_pictures_are_shown_as_they_are(tiny_encoder, folder, panels, classes, monkeypatch):
  """Where the network sees none of the query's classes in it."""
  monkeypatch.setattr(contact_sheet, "explain", lambda *_: SimpleNamespace(classes=()))
  check_layout(draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"], classes)))
  assert [panel.heat for panel in panels] == [None, None] and [panel.notes for panel in panels] == [(), ()]


def test_an_answer_without_an_id_of_a_class_shows_the_querys_class(tiny_encoder, folder, panels, own):
  answers = _answers(folder, ["wide.png", "tiny.png"])
  answers[0].classes = (_part(None, 0.4, "(other classes)"),)
  draw_answers(tiny_encoder, folder / "tall.png", answers)
  seen = _map(tiny_encoder, folder / "wide.png", own.class_id).any()
  expected = own.name if seen else f"{own.name}: seen nowhere here"
  assert [panel.notes for panel in panels] == [(own.name,), (expected,), (f"class {SEEN} 0.2500",)]


def test_a_class_that_is_seen_nowhere_is_told(tiny_encoder, folder, panels, own, monkeypatch):
  empty = lambda encoder, images, ids, boxes: [np.zeros((4, 4), np.float32) for _ in images]  # noqa: E731
  monkeypatch.setattr(contact_sheet, "compute_maps", empty)
  draw_answers(tiny_encoder, folder / "tall.png", _answers(folder, ["wide.png"]))
  assert [panel.heat for panel in panels] == [None, None]
  told = [f"{own.name}: seen nowhere here", f"class {SEEN} 0.2500: seen nowhere here"]
  assert [panel.notes for panel in panels] == [(note,) for note in told]


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
  truths = ["relevant", "junk", "not relevant", "not relevant"]  # what the truth does not list is not relevant
  assert [panel.frame for panel in panels] == ["query", *truths]
  assert [panel.title for panel in panels[1:]] == [f"{n}   {1 - 0.1 * n:.4f}   {truth}" for n, truth in enumerate(truths, 1)]
  assert all(any(text.endswith(f"   {truth}") for text in texts) for truth in truths)
  assert FRAMES_LEGEND in " ".join(texts)


def test_pixels_are_a_query_and_what_is_none_is_refused(tiny_encoder, folder, panels):
  pixels = np.asarray(Image.open(folder / "tall.png"))
  draw_answers(tiny_encoder, pixels, _answers(folder, ["wide.png"]))
  assert panels[0].name == "" and panels[0].pixels is pixels
  for query in ((folder / "tall.png").read_bytes(), Image.open(folder / "tall.png")):
    draw_answers(tiny_encoder, query, [])
    assert panels[0].name == ""
    np.testing.assert_array_equal(panels[0].pixels, decode_image(folder / "tall.png"))
  with pytest.raises(InputError, match=r"gone\.png"):
    draw_answers(tiny_encoder, folder / "gone.png", _answers(folder, ["wide.png"]))


def test_no_answers_leave_the_query(tiny_encoder, folder, panels, own):
  told = " ".join(check_layout(draw_answers(tiny_encoder, folder / "tall.png", [])))
  assert len(panels) == 1 and panels[0].notes == (own.name,) and SHARES_LEGEND not in told
  np.testing.assert_array_equal(panels[0].heat, _map(tiny_encoder, folder / "tall.png", own.class_id))


@pytest.mark.parametrize("end", ["png", "jpg", "pdf", "svg"])
def test_hostile_names_are_saved_without_a_warning(tiny_encoder, folder, tmp_path, end):
  answers = _answers(folder, [*SHAPES, "gone.png", "truncated.png", *SHAPES])
  for answer, name in zip(answers, HOSTILE, strict=False):
    answer.id = name
  figure = draw_answers(tiny_encoder, folder / "tall.png", answers, title=HOSTILE[end == "png"], notes=HOSTILE, relevance={})
  check_layout(figure)
  save_figure(figure, tmp_path / f"a.{end}", dpi=50)
  assert (tmp_path / f"a.{end}").stat().st_size > 5000
