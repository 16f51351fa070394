"""Views against closed form: where a camera puts an object, how much of it is seen, and what light does to it."""

import cmath
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.transform import ProjectiveTransform

from cwf_jax.toy.views import Camera, Light, Picture, Seen, Subject, _adjugate, _project, cover, paste


def _photograph(width=120, height=90, seed=0):
  small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
  return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _mask(size, *rectangles):
  """255 in the rectangles (left, top, right, bottom)."""
  pixels = np.zeros(size[::-1], np.uint8)
  for left, top, right, bottom in rectangles:
    pixels[top:bottom, left:right] = 255
  return Image.fromarray(pixels)


def _noise(size, seed=0):
  return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def _expected_quad(camera, box):
  """What of the photograph is at the picture's corners (from the upper left with the clock), by complex numbers."""
  (width, height), (left, top, right, bottom) = camera.size, box
  scale = max((right - left) / (camera.fill * width), (bottom - top) / (camera.fill * height))
  middle = complex(left + right, top + bottom) / 2 - scale * complex(camera.shift[0] * width, camera.shift[1] * height)
  quad = []
  for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
    is_far = (x == -1, y == -1, x == 1, y == 1)[camera.side]
    longer = 1 / (1 - camera.tilt) if is_far else 1.0
    stretch_x, stretch_y = (1.0, longer) if camera.side in (0, 2) else (longer, 1.0)
    offset = scale * complex(x * stretch_x * width / 2, y * stretch_y * height / 2)
    corner = middle + offset * cmath.exp(1j * math.radians(camera.angle))
    quad.append((corner.real, corner.imag))
  return np.asarray(quad)


def _estimate(source, target):
  """scikit-image's homography of four points to four points."""
  if hasattr(ProjectiveTransform, "from_estimate"):  # since 0.26, where the other one warns
    return ProjectiveTransform.from_estimate(source, target)
  transform = ProjectiveTransform()
  assert transform.estimate(source, target)
  return transform


def _corners(width, height):
  return np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float64)


def _box_corners(box):
  left, top, right, bottom = box
  return np.asarray([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def _shoelace(points):
  x, y = points.T
  return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _distances(points, size):
  """How far the middle of each pixel is inside a convex polygon's nearest edge, [h w]; negative outside."""
  y, x = np.mgrid[: size[1], : size[0]] + 0.5
  distances = [
    ((end[0] - start[0]) * (y - start[1]) - (end[1] - start[1]) * (x - start[0])) / np.hypot(*(end - start))
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True)
  ]
  return np.min(distances, axis=0)


shifts = st.tuples(*[st.floats(-0.2, 0.2)] * 2)
cameras = st.builds(
  Camera,
  size=st.tuples(st.integers(60, 140), st.integers(60, 140)),
  fill=st.floats(0.3, 1.8),
  angle=st.floats(-45, 45),
  tilt=st.floats(0, 0.5),
  side=st.integers(0, 3),
  shift=shifts,
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(cameras)
def test_a_camera_is_the_homography_of_its_corners(camera):
  box = (130.0, 140.0, 190.0, 185.0)
  corners, quad = _corners(*camera.size), _expected_quad(camera, box)
  found = camera._homography(box)
  # Both are solved in float64; an estimate by SVD on a few hundred pixels keeps nine digits or so.
  np.testing.assert_allclose(ProjectiveTransform(found)(corners), quad, rtol=0, atol=1e-6)
  expected = np.asarray(_estimate(corners, quad).params)
  np.testing.assert_allclose(found / found[2, 2], expected / expected[2, 2], rtol=1e-6, atol=1e-6)


@hypothesis.settings(max_examples=60)
@hypothesis.given(cameras, st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_the_adjugate_is_the_inverse_but_for_a_factor(camera, across, down):
  matrix = camera._homography((130.0, 140.0, 190.0, 185.0))
  found, factor = _adjugate(matrix), np.linalg.det(matrix)
  assert factor > 0
  # Cofactors are differences of products: they lose digits to their largest terms.
  size = np.abs(matrix).max() ** 2
  np.testing.assert_allclose(found, factor * np.linalg.inv(matrix), rtol=1e-9, atol=1e-11 * size)
  place = across * camera.size[0], down * camera.size[1]
  hypothesis.assume(abs(matrix[2] @ (*place, 1.0)) > 0.1)  # near the horizon there is nothing to compare
  np.testing.assert_allclose(_project(found, *_project(matrix, *place)), place, rtol=1e-9, atol=1e-7)


def test_an_adjugate_by_hand():
  matrix = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 4.0], [5.0, 6.0, 0.0]])
  np.testing.assert_array_equal(_adjugate(matrix), [[-24, 18, 5], [20, -15, -4], [-5, 4, 1]])


@hypothesis.settings(max_examples=40)
@hypothesis.given(cameras)
def test_the_mask_is_the_projected_box(camera):
  subject = Subject.of("tower", _photograph(), (20, 25, 100, 75))
  to_picture = _estimate(_expected_quad(camera, subject.box), _corners(*camera.size))
  corners = to_picture(_box_corners(subject.box))
  seen = camera.take(subject).seen["tower"]
  perimeter = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1).sum()
  mask = np.asarray(seen.mask) > 127
  assert mask.shape == camera.size[::-1]
  assert math.isclose(seen.area, _shoelace(corners), rel_tol=1e-6)
  # Half gray is the box's edge; what is resampled on 8 bits may fall to the other side in a pixel on the edge. An edge may
  # run along the middles of a whole row.
  distances = _distances(corners, camera.size)
  wrong = mask ^ (distances > 0)
  assert np.count_nonzero(wrong & (np.abs(distances) > 0.02)) <= 2 + 0.05 * perimeter


@hypothesis.settings(max_examples=40)
@hypothesis.given(
  st.floats(0.4, 0.6), st.floats(-20, 20), st.floats(0, 0.4), st.integers(0, 3), st.tuples(*[st.floats(-0.04, 0.04)] * 2)
)
def test_all_of_an_object_inside_the_frame_is_seen(fill, angle, tilt, side, shift):
  camera = Camera((160, 120), fill, angle, tilt, side, shift)
  subject = Subject.of("tower", _photograph(), (20, 15, 100, 75))
  seen = camera.take(subject).seen["tower"]
  corners = _estimate(_expected_quad(camera, subject.box), _corners(160, 120))(_box_corners(subject.box))
  assert corners.min() > 0 and (corners < camera.size).all()
  pixels = np.count_nonzero(np.asarray(seen.mask) > 127)
  # The pixels of a convex figure differ from its area by at most half its circumference and one.
  half = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1).sum() / 2
  assert abs(pixels - seen.area) <= half + 1
  assert seen.visible >= 1 - (half + 1) / seen.area
  left, top, right, bottom = seen.box
  expected = (*corners.min(axis=0), *corners.max(axis=0))
  # A corner fills less than a pixel where it is pointed.
  np.testing.assert_allclose((left, top, right, bottom), expected, rtol=0, atol=2.0)


@pytest.mark.parametrize("box", [(0, 0, 64, 48), (10, 7, 90, 67), (50, 30, 54, 33)])
def test_a_camera_straight_ahead_crops(box):
  photograph = _photograph()
  size = (box[2] - box[0], box[3] - box[1])
  picture = Camera(size, fill=1.0).take(Subject.of("tower", photograph, box))
  assert picture.image.mode == "RGB" and picture.image.size == size
  np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(photograph.crop(box)))
  seen = picture.seen["tower"]
  assert (seen.visible, seen.box) == (1.0, (0, 0, *size)) and math.isclose(seen.area, size[0] * size[1])


@pytest.mark.parametrize(
  ("camera", "visible", "box"),
  [
    (Camera((80, 60), 0.5), 1.0, (20, 15, 60, 45)),
    (Camera((80, 60), 1.0), 1.0, (0, 0, 80, 60)),
    (Camera((80, 60), 2.0), 1 / 4, (0, 0, 80, 60)),
    (Camera((80, 60), 1.0, shift=(0.5, 0.0)), 1 / 2, (40, 0, 80, 60)),
    (Camera((80, 60), 1.0, shift=(-0.25, 0.5)), 3 / 8, (0, 30, 60, 60)),
    (Camera((80, 60), 0.5, shift=(0.0, -0.5)), 1 / 2, (20, 0, 60, 15)),
    (Camera((80, 60), 0.5, shift=(0.8, 0.0)), 0.0, None),
    (Camera((80, 60), 0.5, angle=180.0), 1.0, (20, 15, 60, 45)),
    (Camera((60, 80), 0.6, angle=90.0), 1.0, (16, 22, 43, 58)),
    (Camera((80, 120), 1.0), 1.0, (0, 30, 80, 90)),
    (Camera((160, 60), 1.0), 1.0, (40, 0, 120, 60)),
  ],
)
def test_what_the_frame_leaves_is_a_known_part(camera, visible, box):
  subject = Subject.of("tower", _photograph(), (20, 15, 100, 75))
  seen = camera.take(subject).seen["tower"]
  # All edges here fall between pixels or in the middle of one: not more than a row of pixels is in doubt.
  assert seen.visible == pytest.approx(visible, abs=1 / 30)
  if box is None:
    assert seen.box is None and seen.visible == 0
  else:
    np.testing.assert_allclose(seen.box, box, rtol=0, atol=1.0)


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("tilt", [0.0, 0.25, 0.5])
def test_the_far_side_looks_as_much_shorter_as_was_asked(side, tilt):
  camera = Camera((120, 120), fill=1.0, tilt=tilt, side=side)
  seen = camera.take(Subject.of("tower", _photograph(), (25, 10, 95, 80))).seen["tower"]
  assert math.isclose(seen.area, 120 * 120 * (1 - tilt / 2), rel_tol=1e-9)
  mask = np.rot90(np.asarray(seen.mask) > 127, (0, 1, 2, 3)[side])  # the far side comes to the left
  lengths = mask.sum(axis=0)
  middles = (np.arange(120) + 0.5) / 120
  # Two edges cut each column, and each may take or leave a pixel.
  np.testing.assert_allclose(lengths, 120 * (1 - tilt * (1 - middles)), rtol=0, atol=2.0)


def test_a_turn_of_the_camera_turns_the_object_the_other_way():
  pixels = np.zeros((60, 60, 3), np.uint8)
  pixels[:, 40:] = 255  # the right third is white
  subject = Subject.of("tower", Image.fromarray(pixels), (0, 0, 60, 60))
  turned = np.asarray(Camera((60, 60), 1.0, angle=90.0).take(subject).image, np.float64)
  assert turned[:18].mean() > 250 and turned[22:].mean() < 5


def test_a_subject_goes_on_beyond_its_photograph():
  pixels = np.zeros((30, 80, 3), np.uint8)
  pixels[:, :40, 0] = pixels[:, 40:, 2] = 255  # red, then blue
  photograph = Image.fromarray(pixels)
  subject = Subject.of("tower", photograph, (10.5, 0, 60, 30))
  assert subject.name == "tower" and subject.box == (90.5, 80, 140, 110) and subject.image.size == (240, 190)
  np.testing.assert_array_equal(np.asarray(subject.image.crop((80, 80, 160, 110))), pixels)
  whole = np.asarray(subject.image, np.int64)
  # Mirrored at each edge, and mirrored again: red up to 40 pixels to the left, blue up to 40 to the right.
  for columns, color in ((slice(55, 110), 0), (slice(130, 185), 2)):
    for rows in (slice(0, 80), slice(110, 190)):
      assert whole[rows, columns, color].min() > 240 and whole[rows, columns, 2 - color].max() < 15


def test_half_hidden_is_half_seen():
  whole, size = _mask((40, 20), (0, 0, 40, 20)), (40, 20)
  assert Seen(whole, 800.0).visible == 1.0
  half = Seen(_mask(size, (0, 0, 20, 20)), 800.0)
  assert (half.visible, half.box) == (0.5, (0, 0, 20, 20))
  third = Seen(_mask(size, (4, 2, 14, 8), (20, 10, 30, 14)), 300.0)
  assert (third.visible, third.box) == (pytest.approx(1 / 3), (4, 2, 30, 14))
  assert Seen(whole, 799.0).visible == 1.0  # never more than all
  nothing = Seen(_mask(size), 800.0)
  assert (nothing.visible, nothing.box) == (0.0, None)
  assert Seen(whole, 0.0).visible == 0.0


def test_a_pixel_is_seen_from_half_gray_on():
  pixels = np.asarray([[0, 127, 128, 255]], np.uint8)
  seen = Seen(Image.fromarray(pixels), 4.0)
  assert (seen.visible, seen.box) == (0.5, (2, 0, 4, 1))


@hypothesis.given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 10), st.integers(1, 10), st.integers(100, 999))
def test_a_rectangle_that_is_seen(left, top, width, height, area):
  box = (left, top, left + width, top + height)
  seen = Seen(_mask((40, 30), box), float(area))
  assert (seen.visible, seen.box) == (pytest.approx(width * height / area), box)


rectangles = st.lists(
  st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=3
)


@hypothesis.given(rectangles, rectangles, rectangles)
def test_what_is_covered_is_not_seen_any_more(first, second, hidden):
  size = (40, 30)
  masks = {"tower": _mask(size, *first), "gate": _mask(size, *second)}
  before = Picture(_noise(size, 0), {name: Seen(mask, 500.0) for name, mask in masks.items()})
  image, kept = np.asarray(before.image).copy(), {name: np.asarray(mask).copy() for name, mask in masks.items()}
  after = cover(before, _noise(size, 1), _mask(size, *hidden))
  is_hidden = np.asarray(_mask(size, *hidden)) == 255
  np.testing.assert_array_equal(np.asarray(after.image), np.where(is_hidden[..., None], _noise(size, 1), image))
  for name, mask in kept.items():
    np.testing.assert_array_equal(np.asarray(after.seen[name].mask), np.where(is_hidden, 0, mask))
    assert after.seen[name].area == 500.0
    np.testing.assert_array_equal(np.asarray(before.seen[name].mask), mask)
  np.testing.assert_array_equal(np.asarray(before.image), image)


def test_half_of_a_hidden_object_is_half_seen():
  subject = Subject.of("tower", _photograph(), (20, 15, 100, 75))
  picture = Camera((80, 60), 1.0).take(subject)
  covered = cover(picture, _noise((80, 60)), _mask((80, 60), (40, 0, 80, 60)))
  assert covered.seen["tower"].visible == pytest.approx(0.5) and covered.seen["tower"].box == (0, 0, 40, 60)
  again = cover(covered, _noise((80, 60)), _mask((80, 60), (0, 0, 80, 15)))
  assert again.seen["tower"].visible == pytest.approx(0.375) and again.seen["tower"].box == (0, 15, 40, 60)


def test_what_is_pasted_stands_in_front():
  size = (80, 60)
  tower = Picture(_noise(size, 0), {"tower": Seen(_mask(size, (10, 10, 40, 40)), 1800.0)})
  host = Picture(_noise(size, 1), {"gate": Seen(_mask(size, (0, 0, 80, 60)), 4800.0)})
  pasted = paste(tower, host, "tower")
  assert set(pasted.seen) == {"gate", "tower"} and set(host.seen) == {"gate"}
  assert pasted.seen["tower"] == tower.seen["tower"]  # half of it was outside the frame, and still is
  assert pasted.seen["tower"].visible == 0.5 and pasted.seen["tower"].box == (10, 10, 40, 40)
  hidden = ~(np.asarray(pasted.seen["gate"].mask) > 127)
  soft = np.asarray(tower.seen["tower"].mask.filter(ImageFilter.GaussianBlur(1.0)), np.float64)
  np.testing.assert_array_equal(hidden, soft > 127)
  # The soft edge takes the corners only: a pixel or two each.
  assert np.count_nonzero(hidden) == pytest.approx(900, abs=8)
  assert pasted.seen["gate"].visible == pytest.approx(1 - 900 / 4800, abs=8 / 4800)
  assert pasted.seen["gate"].box == (0, 0, 80, 60) and pasted.seen["gate"].area == 4800.0
  image, inner, outer = np.asarray(pasted.image), (slice(15, 35), slice(15, 35)), (slice(46, 60), slice(0, 80))
  np.testing.assert_array_equal(image[inner], np.asarray(tower.image)[inner])
  np.testing.assert_array_equal(image[outer], np.asarray(host.image)[outer])
  blended = (soft[..., None] * np.asarray(tower.image) + (255 - soft[..., None]) * np.asarray(host.image)) / 255
  np.testing.assert_allclose(image, blended, rtol=0, atol=1.0)  # rounded to whole levels


def test_plain_light_leaves_pixels_alone():
  image = _noise((40, 30))
  shone = Light().shine(image, np.random.default_rng(0))
  assert shone.mode == "RGB"
  np.testing.assert_array_equal(np.asarray(shone), np.asarray(image))


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.tuples(*[st.floats(0.2, 1.5)] * 3), st.floats(0.4, 2.5), st.floats(0, 1), st.integers(0, 3))
def test_gain_gamma_and_ramp(gain, gamma, ramp, side):
  image = _noise((40, 30))
  shone = np.asarray(Light(gain, gamma, ramp, side).shine(image, np.random.default_rng(0)), np.float64)
  lit = np.clip(255 * np.asarray(gain) * (np.asarray(image) / 255.0) ** gamma, 0, 255)
  y, x = np.mgrid[:30, :40]
  dark = ramp * (1 - x / 39, 1 - y / 29, x / 39, y / 29)[side]  # 1 where the picture is darkest
  # Rounded once after the gain and once after the ramp: half a level each.
  np.testing.assert_allclose(shone, lit * (1 - dark[..., None]), rtol=0, atol=1.0 + 1e-9)


@pytest.mark.parametrize("side", range(4))
def test_the_dark_side(side):
  image = Image.new("RGB", (40, 30), (200, 100, 50))
  shone = np.asarray(Light(ramp=0.5, ramp_side=side).shine(image, np.random.default_rng(0)))
  turned = np.rot90(shone, side)  # the dark side comes to the left
  assert (turned[:, 0] == (100, 50, 25)).all() and (turned[:, -1] == (200, 100, 50)).all()


def test_noise_is_the_generators():
  image, light = Image.new("RGB", (200, 150), (128, 128, 128)), Light(noise=8.0)
  one, same, other = (np.asarray(light.shine(image, np.random.default_rng(seed)), np.float64) for seed in (3, 3, 4))
  np.testing.assert_array_equal(one, same)
  assert (one != other).mean() > 0.9
  expected = np.rint(128 + 8 * np.random.default_rng(3).normal(0.0, 1.0, (150, 200, 3)))
  np.testing.assert_array_equal(one, expected)
  # 90,000 draws: the standard errors are 8 / 300 of the mean and 8 / 424 of the deviation; five of them.
  assert abs(one.mean() - 128) < 5 * 8 / 300 and abs(one.std() - 8) < 5 * 8 / 424


def test_noise_draws_as_much_whatever_it_is():
  after = []
  for noise in (0.0, 9.0):
    generator = np.random.default_rng(0)
    Light(noise=noise).shine(_noise((40, 30)), generator)
    after.append(generator.random())
  assert after[0] == after[1]


def test_levels_stay_in_range():
  image = _noise((40, 30))
  bright = np.asarray(Light(gain=(5.0, 5.0, 5.0), noise=50.0).shine(image, np.random.default_rng(0)))
  assert bright.max() == 255 and (bright == 255).mean() > 0.3
  dark = np.asarray(Light(gain=(0.0, 0.0, 0.0)).shine(image, np.random.default_rng(0)))
  assert (dark == 0).all()


def test_blur_and_lost_detail_keep_the_mean_and_take_the_contrast():
  image = _noise((120, 90))
  sharp = np.asarray(image, np.float64)

  def contrast(light):
    shone = np.asarray(light.shine(image, np.random.default_rng(0)), np.float64)
    assert shone.shape == sharp.shape and shone.mean() == pytest.approx(sharp.mean(), abs=2)
    return np.abs(np.diff(shone, axis=1)).mean()

  plain = contrast(Light())
  assert plain > contrast(Light(blur=0.5)) > contrast(Light(blur=1.5)) > contrast(Light(blur=3.0))
  assert plain > contrast(Light(detail=0.5)) > contrast(Light(detail=0.2)) > contrast(Light(detail=0.1))
  expected = image.filter(ImageFilter.GaussianBlur(1.5))
  np.testing.assert_array_equal(np.asarray(Light(blur=1.5).shine(image, np.random.default_rng(0))), np.asarray(expected))


def test_the_least_detail_is_one_pixel():
  image = _noise((40, 30))
  shone = np.asarray(Light(detail=0.001).shine(image, np.random.default_rng(0)))
  assert shone.shape == (30, 40, 3) and (shone == shone[0, 0]).all()
