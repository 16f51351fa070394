"""The toy landmarks: two small collections in the form of Oxford Buildings and Paris, of photographs that packages carry.

Each scene is seen in a dozen ways: from the front, from either side, from near by, in bad light, half hidden, or as a part of
another scene, where only its box tells what is meant. Ground truth follows Oxford's rule, measured: an object is *good* where
at least three quarters of it are seen, *ok* from one quarter on, and *junk* below. No scene and no file is in both
collections, so one can be whitened by the other.

    queries = write_landmarks("landmarks/toy_oxford", TOY_OXFORD)

    landmarks/toy_oxford/images/motorcycle_000.jpg, ...
    landmarks/toy_oxford/groundtruth/motorcycle_1_query.txt, ..._good.txt, ..._ok.txt, ..._junk.txt
    landmarks/toy_oxford/groundtruth/boxes.json
"""

import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cwf_jax.datasets.groundtruth import LISTS, Query, write_groundtruth
from cwf_jax.files import write_if_changed
from cwf_jax.protocol import Box
from cwf_jax.toy.clutter import draw_bar, draw_clutter
from cwf_jax.toy.photographs import check_installed, open_photograph
from cwf_jax.toy.views import Camera, Light, Picture, Subject, cover, paste

GOOD, OK = 0.75, 0.25
"""The least part of an object that is seen where it is good, and where it is ok."""

SIZES = ((480, 360), (360, 480), (400, 400))
"""(width, height) of the pictures: landscape, portrait, square."""


@dataclasses.dataclass(frozen=True)
class Scene:
  """An object to look for.

  Attributes:
    name: of the landmark.
    photographs: (name, box of the object in pixels) of each photograph of it.
  """

  name: str
  photographs: tuple[tuple[str, Box], ...]


@dataclasses.dataclass(frozen=True)
class Landmarks:
  """A collection.

  Attributes:
    name: of its folder.
    scenes: its landmarks.
    textures: photographs of surfaces that its distractors show parts of.
    distractors: pictures of no landmark.
  """

  name: str
  scenes: tuple[Scene, ...]
  textures: tuple[str, ...]
  distractors: int


TOY_OXFORD = Landmarks(
  "toy_oxford",
  (
    Scene("astronaut", (("astronaut", (20, 0, 500, 512)),)),
    Scene("cat", (("chelsea", (60, 10, 400, 290)),)),
    Scene("coffee", (("coffee", (70, 10, 490, 392)),)),
    Scene("coins", (("coins", (10, 10, 374, 295)),)),
    Scene("moon", (("moon", (0, 0, 512, 512)),)),
    Scene("motorcycle", (("motorcycle_left", (115, 70, 695, 460)), ("motorcycle_right", (75, 70, 685, 460)))),
    Scene("page", (("page", (0, 0, 384, 191)),)),
    Scene("pagoda", (("china", (85, 20, 370, 405)),)),
    Scene("retina", (("retina", (20, 40, 1411, 1370)),)),
    Scene("rocket", (("rocket", (270, 110, 380, 427)),)),
  ),
  ("brick", "grass"),
  distractors=70,
)

TOY_PARIS = Landmarks(
  "toy_paris",
  (
    Scene("clock", (("clock_motion", (115, 70, 295, 225)),)),
    Scene("flower", (("flower", (160, 60, 450, 370)),)),
    Scene("galaxies", (("hubble_deep_field", (0, 0, 1000, 872)),)),
    Scene("handwriting", (("text", (0, 0, 448, 172)),)),
    Scene("photographer", (("camera", (10, 60, 400, 505)),)),
    Scene("tissue", (("ihc", (0, 0, 512, 512)),)),
  ),
  ("gravel", "cell"),
  distractors=100,
)

KINDS = (
  *("front", "left", "near", "hidden", "pasted"),
  *("right", "turned", "dim", "hazy", "coarse", "small", "remnant"),
)
"""The views of each scene; the first five are its queries."""

QUERIES = 5

BOXES = "boxes.json"
"""In the folder of the ground truth: {"motorcycle_000": [left, top, right, bottom], ...}.

A box is in pixels, around what is visible of the picture's own landmark. It is that of the query where the picture is one.
Distractors are absent. The landmark that another one is pasted into has no box.
"""

_LONGEST = 741
"""Pixels of a photograph's longer side that a view is taken of: more would be lost in the view."""


def list_files(landmarks: Landmarks) -> dict[str, frozenset[str]]:
  """The names of a collection's files, by the folder that they lie in."""
  scenes = [scene.name for scene in landmarks.scenes]
  images = [f"{scene}_{number:03d}.jpg" for scene in scenes for number in range(len(KINDS))]
  images += [f"distractor_{number:03d}.jpg" for number in range(landmarks.distractors)]
  kinds = ("query", *LISTS)
  truth = [f"{scene}_{number + 1}_{kind}.txt" for scene in scenes for number in range(QUERIES) for kind in kinds]
  return {"images": frozenset(images), "groundtruth": frozenset([*truth, BOXES])}


def write_landmarks(
  folder: str | os.PathLike,
  landmarks: Landmarks,
  seed: int = 0,
  progress: Callable[[int, int], Any] | None = None,
) -> tuple[Query, ...]:
  """Writes a collection: `images/` and, in Oxford's format, `groundtruth/`, with the boxes of all landmarks (`BOXES`).

  Args:
    folder: of the collection; a file in it that is as it would be is left alone.
    landmarks: `TOY_OXFORD` or `TOY_PARIS`.
    seed: of everything that is drawn: with the same NumPy, Pillow and packages that carry the photographs, the same bytes.
    progress: called with (pictures done, pictures).

  Returns:
    The queries, as `read_groundtruth` reads them.

  Raises:
    InputError: scikit-image or scikit-learn is not installed.
  """
  check_installed()
  images = Path(folder) / "images"
  images.mkdir(parents=True, exist_ok=True)
  total = len(list_files(landmarks)["images"])
  pictures: dict[str, Picture] = {}
  for name, picture, content in _draw_all(landmarks, seed):
    write_if_changed(images / f"{name}.jpg", content)
    pictures[name] = picture
    if progress is not None:
      progress(len(pictures), total)
  queries = tuple(_query(scene.name, number, pictures) for scene in landmarks.scenes for number in range(QUERIES))
  write_groundtruth(Path(folder) / "groundtruth", queries)
  boxes = {name: picture.seen[name.rpartition("_")[0]].box for name, picture in pictures.items() if picture.seen}
  write_if_changed(Path(folder) / "groundtruth" / BOXES, f"{json.dumps(boxes)}\n".encode())
  return queries


def _draw_all(landmarks: Landmarks, seed: int) -> Iterator[tuple[str, Picture, bytes]]:
  """Every picture with its name and its JPEG; each has a generator of its own."""
  subjects = {scene.name: [_subject(scene.name, *one) for one in scene.photographs] for scene in landmarks.scenes}
  textures = tuple(open_photograph(name) for name in landmarks.textures)
  for place, scene in enumerate(landmarks.scenes):
    for number, kind in enumerate(KINDS):
      generator = np.random.default_rng([seed, *f"{landmarks.name} {scene.name}".encode(), number])
      host = landmarks.scenes[(place + 1 + number % (len(landmarks.scenes) - 1)) % len(landmarks.scenes)].name
      picture = _draw(kind, scene.name, host, number, subjects, textures, generator)
      yield f"{scene.name}_{number:03d}", *_finish(picture, kind, generator)
  for number in range(landmarks.distractors):
    generator = np.random.default_rng([seed, *f"{landmarks.name} distractor".encode(), number])
    size = SIZES[int(generator.integers(len(SIZES)))]
    picture = Picture(draw_clutter(size, generator, textures), {})
    yield f"distractor_{number:03d}", *_finish(picture, "distractor", generator)


def _subject(name: str, photograph: str, box: Box) -> Subject:
  whole = open_photograph(photograph)
  scale = min(1.0, _LONGEST / max(whole.size))
  reduced = whole.resize((round(scale * whole.width), round(scale * whole.height)), Image.Resampling.LANCZOS)
  return Subject.of(name, reduced, tuple(scale * side for side in box))


def _draw(
  kind: str, name: str, host: str, number: int, subjects: dict, textures: tuple, generator: np.random.Generator
) -> Picture:
  """One view of a scene before light and lens; `host` is the scene that it is pasted into."""
  subject = subjects[name][number % len(subjects[name])]
  camera = _camera(kind, subject.box, generator)
  picture = camera.take(subject)
  if kind in ("hidden", "remnant"):
    part = generator.uniform(0.35, 0.6) if kind == "hidden" else generator.uniform(0.8, 0.9)
    mask = draw_bar(camera.size, picture.seen[name].box, part, generator)
    return cover(picture, draw_clutter(camera.size, generator, textures), mask)
  if kind in ("pasted", "small"):
    behind = Camera(camera.size, generator.uniform(0.9, 1.2), shift=(-0.5 * camera.shift[0], -0.5 * camera.shift[1]))
    return paste(picture, behind.take(subjects[host][0]), name)
  return picture


def _camera(kind: str, box: Box, generator: np.random.Generator) -> Camera:
  aspect = (box[2] - box[0]) / (box[3] - box[1])
  fitting = SIZES[0] if aspect > 1.15 else SIZES[1] if aspect < 0.87 else SIZES[2]
  size = fitting if kind in ("front", "near") else SIZES[int(generator.integers(len(SIZES)))]
  side, sign = int(generator.integers(4)), generator.choice([-1.0, 1.0])
  shift = (generator.uniform(-0.04, 0.04), generator.uniform(-0.04, 0.04))
  uniform = generator.uniform
  match kind:
    case "front":
      return Camera(size, uniform(0.85, 0.95), sign * uniform(0, 3), uniform(0, 0.06), side, shift)
    case "left" | "right":
      return Camera(size, uniform(0.75, 0.95), sign * uniform(2, 8), uniform(0.28, 0.42), 0 if kind == "left" else 2, shift)
    case "near":
      return Camera(size, uniform(1.45, 1.8), sign * uniform(0, 8), uniform(0.05, 0.15), side, tuple(4 * x for x in shift))
    case "turned":
      return Camera(size, uniform(0.7, 0.85), sign * uniform(15, 32), uniform(0.05, 0.2), side, shift)
    case "pasted" | "small":
      fill = uniform(0.5, 0.62) if kind == "pasted" else uniform(0.28, 0.38)
      shift = (sign * uniform(0.15, 0.2), generator.choice([-1.0, 1.0]) * uniform(0.12, 0.2))
      return Camera(size, fill, uniform(-10, 10), uniform(0, 0.2), side, shift)
    case _:
      return Camera(size, uniform(0.6, 1.0), uniform(-8, 8), uniform(0.05, 0.2), side, shift)


def _light(kind: str, generator: np.random.Generator) -> Light:
  uniform = generator.uniform
  gain = tuple(uniform(0.85, 1.1, 3).tolist())
  common = {"gain": gain, "gamma": uniform(0.75, 1.35), "ramp": uniform(0, 0.35), "ramp_side": int(generator.integers(4))}
  common |= {"blur": uniform(0.2, 0.9), "noise": uniform(1, 5), "quality": int(generator.integers(55, 90))}
  changed = {
    "front": {"gamma": uniform(0.9, 1.1), "ramp": 0.0, "blur": 0.0, "noise": 1.0},
    "dim": {"gain": (uniform(0.25, 0.4),) * 3, "gamma": 1.2, "ramp": 0.5, "noise": uniform(8, 14)},
    "hazy": {"gain": (1.25, 1.25, 1.3), "gamma": uniform(0.45, 0.6), "blur": uniform(2.5, 3.5)},
    "coarse": {"detail": uniform(0.16, 0.24), "blur": 0.0, "quality": 20},
  }
  return Light(**common | changed.get(kind, {}))


def _finish(picture: Picture, kind: str, generator: np.random.Generator) -> tuple[Picture, bytes]:
  light = _light(kind, generator)
  shone: Image.Image = light.shine(picture.image, generator)
  content = io.BytesIO()
  shone.save(content, "jpeg", quality=light.quality)
  return Picture(shone, picture.seen), content.getvalue()


def _query(scene: str, number: int, pictures: dict[str, Picture]) -> Query:
  image = f"{scene}_{number:03d}"
  visible = {name: picture.seen[scene].visible for name, picture in pictures.items() if scene in picture.seen}
  return Query(
    name=f"{scene}_{number + 1}",
    image=image,
    box=tuple(map(float, pictures[image].seen[scene].box)),
    good=tuple(name for name, part in visible.items() if part >= GOOD),
    ok=tuple(name for name, part in visible.items() if OK <= part < GOOD),
    junk=tuple(name for name, part in visible.items() if 0 < part < OK),
  )
