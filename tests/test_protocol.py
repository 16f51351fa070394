import dataclasses
import json
import math
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import pytest

from cwf_jax.errors import InputError
from cwf_jax.protocol import CELL, BoxError, Protocol, check_box, fingerprint

PRESETS = [Protocol.paper(), Protocol.reference(), Protocol.paper(320), Protocol.reference(320), Protocol.paper(333)]
SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
  ("image_size", "original", "expected"),
  [
    (720, (1536, 2048), (720, 960)),
    (720, (2048, 1536), (960, 720)),
    (720, (1000, 4000), (360, 1440)),  # a panorama of 4:1: the longer side stops at twice 720
    (720, (4000, 1000), (1440, 360)),
    (720, (500, 1000), (720, 1440)),
    (720, (500, 500), (720, 720)),
    (720, (1, 5000), (16, 1440)),  # never under one cell
    (320, (1536, 2048), (320, 427)),  # 426.67
    (320, (360, 480), (320, 427)),
    (333, (1000, 1333), (333, 444)),  # 443.889
    (64, (100, 300), (43, 128)),  # 42.67
  ],
)
def test_paper_sizes(image_size, original, expected):
  assert Protocol.paper(image_size).resized(*original) == expected


@pytest.mark.parametrize(
  ("image_size", "original", "expected"),
  [
    (720, (768, 1024), (720, 1024)),
    (720, (1024, 768), (1024, 720)),
    (720, (300, 300), (720, 1024)),  # a square is a landscape
    (720, (1000, 4000), (720, 1024)),
    (720, (301, 300), (1024, 720)),
    (320, (768, 1024), (320, 455)),  # 455.1
    (360, (1024, 768), (512, 360)),
  ],
)
def test_reference_sizes(image_size, original, expected):
  assert Protocol.reference(image_size).resized(*original) == expected


def test_canvases_by_hand():
  assert Protocol.paper().canvases == (
    (720, 720), (720, 960), (960, 720), (720, 1088), (1088, 720), (720, 1440), (1440, 720)
  )  # fmt: skip
  assert Protocol.paper().crop_canvases == Protocol.paper().canvases
  assert Protocol.reference().canvases == ((720, 1024), (1024, 720))
  assert Protocol.reference().crop_canvases == ((1024, 1024),)
  assert Protocol.paper().canvas(720, 960) == (720, 960)
  assert Protocol.paper().canvas(700, 961) == (720, 1088)
  assert Protocol.paper().canvas(16, 16) == (720, 720)
  with pytest.raises(InputError, match="no canvas holds 1441x720"):
    Protocol.paper().canvas(720, 1441)


@pytest.mark.parametrize("protocol", PRESETS, ids=lambda p: f"{p.name}-{p.image_size}")
@hypothesis.settings(max_examples=100)
@hypothesis.given(height=SIDES, width=SIDES)
def test_canvases_hold_every_size(protocol, height, width):
  resized = protocol.resized(height, width)
  canvas = protocol.canvas(*resized)
  assert canvas in protocol.canvases
  assert all(CELL <= side <= room for side, room in zip(resized, canvas, strict=True))


@pytest.mark.parametrize("protocol", PRESETS, ids=lambda p: f"{p.name}-{p.image_size}")
@hypothesis.settings(max_examples=100)
@hypothesis.given(height=SIDES, width=SIDES)
def test_canvases_hold_every_crop(protocol, height, width):
  resized = protocol.resized_crop(height, width)
  canvas = protocol.crop_canvas(*resized)
  assert canvas in protocol.crop_canvases
  for side, before, room in zip(resized, (height, width), canvas, strict=True):
    assert side % CELL == 0 and CELL <= side <= max(CELL, before) and side <= room


@hypothesis.given(height=SIDES, width=SIDES)
def test_the_aspect_is_kept_and_the_shorter_side_is_right(height, width):
  resized = Protocol.paper().resized(height, width)
  scale = min(Fraction(720, min(height, width)), Fraction(1440, max(height, width)))
  for side, before in zip(resized, (height, width), strict=True):
    assert abs(side - max(CELL, before * scale)) <= Fraction(1, 2) + Fraction(1, 10**6)  # rounded to a pixel


@pytest.mark.parametrize(
  ("size", "expected"),
  [
    ((200, 300), (192, 288)),  # its own size, floored to whole cells
    ((16, 16), (16, 16)),
    ((10, 20), (16, 16)),
    ((720, 960), (720, 960)),
    ((1440, 1440), (720, 720)),  # larger than every canvas: scaled down
    ((2000, 1000), (1440, 720)),
    ((900, 300), (896, 288)),
  ],
)
def test_paper_crops(size, expected):
  assert Protocol.paper().resized_crop(*size) == expected


@pytest.mark.parametrize(
  ("size", "expected"), [((1000, 700), (992, 688)), ((2048, 1024), (1024, 512)), ((1024, 1024), (1024, 1024))]
)
def test_reference_crops(size, expected):
  assert Protocol.reference().resized_crop(*size) == expected


@pytest.mark.parametrize(
  ("box", "original", "expected"),
  [
    ((0, 0, 2048, 1536), (1536, 2048), (0, 0, 60, 45)),
    ((512, 512, 1024, 1024), (1536, 2048), (15, 15, 30, 30)),  # 240 and 480 pixels of the resized image
    ((500, 500, 1030, 1030), (1536, 2048), (14, 14, 31, 31)),  # 14.6 down, 30.2 up
    ((0.5, 0.5, 30.0, 30.0), (1536, 2048), (0, 0, 1, 1)),  # tiny: within a cell
    ((34.0, 0.0, 35.0, 30.0), (1536, 2048), (0, 0, 2, 1)),  # 0.996 and 1.03
    ((2040, 1530, 2048, 1536), (1536, 2048), (59, 44, 60, 45)),
    ((0, 0, 4000, 4000), (1536, 2048), (0, 0, 60, 45)),  # clipped
    ((5000, 5000, 6000, 6000), (1536, 2048), (59, 44, 60, 45)),  # outside: the nearest cell
  ],
)
def test_scaled_boxes(box, original, expected):
  protocol = Protocol.paper()
  assert protocol.box_to_cells(box, original, protocol.resized(*original)) == expected


def test_a_scaled_box_over_the_part_without_a_cell():
  # 725 pixels are 45 cells and 5 pixels that are in none
  assert Protocol.paper().box_to_cells((0, 0, 725, 700), (720, 725), (720, 725)) == (0, 0, 45, 44)
  assert Protocol.paper().box_to_cells((722, 0, 725, 16), (720, 725), (720, 725)) == (44, 0, 45, 1)


def test_the_border_of_a_cell_is_exact():
  protocol = Protocol.paper()
  for original in ((3611, 2226), (943, 3711), (1536, 2048), (3000, 4000)):
    resized = protocol.resized(*original)
    for cell in range(1, resized[1] // CELL):
      edge = Fraction(cell * CELL * original[1], resized[1])
      if edge.denominator == 1:
        assert protocol.box_to_cells((0, 0, int(edge), original[0]), original, resized)[2] == cell
        assert protocol.box_to_cells((int(edge), 0, original[1], original[0]), original, resized)[0] == cell


@pytest.mark.parametrize(
  ("box", "expected"),
  [
    ((0, 0, 1024, 768), (0, 0, 64, 45)),  # 768 / 16 is 48: clipped to the map
    ((100, 100, 200, 200), (6, 6, 12, 12)),  # 6.25 and 12.5, both down
    ((100.9, 111.9, 200, 200), (6, 6, 12, 12)),
    ((100, 100, 105, 105), (6, 6, 7, 7)),  # at least one cell
    ((3000, 3000, 4000, 4000), (63, 44, 64, 45)),
  ],
)
def test_unscaled_boxes(box, expected):
  protocol = Protocol.reference()
  assert protocol.box_to_cells(box, (768, 1024), protocol.resized(768, 1024)) == expected


@pytest.mark.parametrize("protocol", PRESETS, ids=lambda p: f"{p.name}-{p.image_size}")
@hypothesis.given(data=st.data(), height=st.integers(16, 5000), width=st.integers(16, 5000))
def test_boxes_lie_on_the_map_and_hold_a_cell(protocol, data, height, width):
  left, top = data.draw(st.floats(0, width - 16)), data.draw(st.floats(0, height - 16))
  right, bottom = data.draw(st.floats(left + 16, width)), data.draw(st.floats(top + 16, height))
  resized = protocol.resized(height, width)
  cells = protocol.box_to_cells((left, top, right, bottom), (height, width), resized)
  assert all(type(side) is int for side in cells)
  assert 0 <= cells[0] < cells[2] <= resized[1] // CELL
  assert 0 <= cells[1] < cells[3] <= resized[0] // CELL


def test_check_box():
  assert check_box((0, 0, 16, 16), (16, 16)) == (0.0, 0.0, 16.0, 16.0)
  assert check_box([1.5, 2, 30, 40], (40, 30)) == (1.5, 2.0, 30.0, 40.0)
  assert check_box((-5, 10, 70, 41.5), (40, 60)) == (0.0, 10.0, 60.0, 40.0)  # past every edge: clipped


@pytest.mark.parametrize(
  ("box", "message"),
  [
    ((0, 0, 10), "four numbers"),
    ((0, 0, 20, math.nan), "four numbers"),
    ((0, 0, math.inf, 20), "four numbers"),
    ((60, 0, 80, 20), "lies outside the image, which has 60x40"),
    ((0, -20, 20, 0), "lies outside the image"),
    ((0, 30, 20, 50), "is 20x10 pixels inside the image"),
    ((20, 0, 20, 20), "is 0x20 pixels"),
    ((30, 0, 10, 20), "is -20x20 pixels"),
    ((0, 0, 15.9, 20), "least is 16x16"),
    ((0, 30, 20, 40), "is 20x10 pixels"),
  ],
)
def test_check_box_says_what_is_wrong(box, message):
  with pytest.raises(BoxError, match=message):
    check_box(box, (40, 60))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"size_rule": "round"}, "size_rule is one of shorter_side, fixed_frame, longer_side, square; found 'round'"),
    ({"box_rule": "none"}, "box_rule is one of"),
    ({"image_size": 31}, "image_size is a number of pixels from 32"),
    ({"image_size": 5000}, "image_size is a number of pixels"),
    ({"num_classes": 0}, "num_classes is at least 1"),
    ({"size_multiple": 0}, "size_multiple is at least 1"),
    ({"size_multiple": 32.0}, "size_multiple is a whole number; found 32.0"),
  ],
)
def test_settings_are_checked(changes, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(Protocol.paper(), **changes)


def test_presets():
  assert Protocol.preset("paper", 320, 5) == Protocol.paper(320, 5)
  assert Protocol.preset("reference", 320, 5) == Protocol.reference(320, 5)
  with pytest.raises(InputError, match="no protocol named 'papre'; there are paper, reference"):
    Protocol.preset("papre")
  assert not Protocol.paper().reversed_means and Protocol.reference().reversed_means
  assert len({Protocol.paper(), Protocol.paper(), Protocol.reference()}) == 2  # hashable


def _multiples(rule):
  """A protocol of any size for a network of any multiple."""
  return st.builds(
    lambda image_size, multiple: Protocol.preset(rule, image_size).for_network(multiple),
    st.integers(32, 1024),
    st.sampled_from([1, 2, 8, 16, 32, 64]),
  )


ANY_MULTIPLE = st.one_of(_multiples("paper"), _multiples("reference"))


def test_sizes_for_a_network_that_takes_multiples_by_hand():
  protocol = Protocol.paper(224).for_network(32)
  assert protocol.resized(1536, 2048) == (224, 288)  # 298.7
  assert protocol.resized(2048, 1536) == (288, 224)
  assert protocol.resized(500, 500) == (224, 224)
  assert protocol.resized(1000, 4000) == (128, 448)  # 112 is halfway between 96 and 128
  assert protocol.resized(1, 5000) == (32, 448)  # never under one multiple
  assert protocol.canvases == (
    (224, 224), (224, 320), (320, 224), (224, 352), (352, 224), (224, 448), (448, 224)
  )  # fmt: skip
  assert protocol.resized_crop(200, 300) == (192, 288)
  assert protocol.resized_crop(31, 100) == (32, 96)
  assert Protocol.paper(720).for_network(32).resized(1536, 2048) == (704, 960)  # 22.5 multiples, rounded to even
  reference = Protocol.reference(720).for_network(32)
  assert reference.canvases == ((704, 1024), (1024, 704)) and reference.resized(3, 2) == (1024, 704)


def test_a_box_is_laid_on_the_cells_of_the_map():
  protocol = dataclasses.replace(Protocol.paper(256), feature_map="last").for_network(32, stride=16, cam_stride=32)
  assert (protocol.cell, Protocol.paper(256).for_network(32, stride=16, cam_stride=32).cell) == (32, 16)
  assert protocol.box_to_cells((100, 50, 400, 300), (512, 640), (256, 320)) == (1, 0, 7, 5)  # 50, 25, 200, 150 over 32
  assert Protocol.from_json(protocol.to_json()) == protocol
  older = {name: value for name, value in Protocol.paper(256).to_json().items() if name not in ("feature_map", "cell")}
  assert Protocol.from_json(older) == Protocol.paper(256)


def test_for_a_network_changes_the_multiple_alone():
  for protocol in PRESETS:
    assert protocol.for_network(1) == protocol and protocol.size_multiple == 1
    other = protocol.for_network(32)
    assert other != protocol and dataclasses.replace(other, size_multiple=1) == protocol


@hypothesis.settings(max_examples=200)
@hypothesis.given(protocol=ANY_MULTIPLE, height=SIDES, width=SIDES)
def test_whatever_the_multiple_each_size_is_one_and_fits_its_canvas(protocol, height, width):
  multiple = protocol.size_multiple
  for canvas in (*protocol.canvases, *protocol.crop_canvases):
    assert not canvas[0] % multiple and not canvas[1] % multiple
  resized, crop = protocol.resized(height, width), protocol.resized_crop(height, width)
  for size, canvas in ((resized, protocol.canvas(*resized)), (crop, protocol.crop_canvas(*crop))):
    for side, room in zip(size, canvas, strict=True):
      assert side % multiple == 0 and max(CELL, multiple) <= side <= room
  assert not crop[0] % CELL and not crop[1] % CELL


@hypothesis.settings(max_examples=100)
@hypothesis.given(image_size=st.integers(32, 1024), height=SIDES, width=SIDES)
def test_a_multiple_moves_a_size_by_half_of_it_at_most(image_size, height, width):
  plain = Protocol.paper(image_size).resized(height, width)
  for side, near in zip(plain, Protocol.paper(image_size).for_network(32).resized(height, width), strict=True):
    assert abs(side - near) <= 16.5 or near == 32  # half of 32, and the rounding to a pixel


@hypothesis.given(data=st.data(), height=st.integers(16, 5000), width=st.integers(16, 5000))
def test_boxes_lie_on_the_map_of_a_network_that_takes_multiples(data, height, width):
  protocol = Protocol.paper(224).for_network(32)
  left, top = data.draw(st.floats(0, width - 16)), data.draw(st.floats(0, height - 16))
  resized = protocol.resized(height, width)
  cells = protocol.box_to_cells((left, top, width, height), (height, width), resized)
  assert cells[2:] == (resized[1] // CELL, resized[0] // CELL)
  assert 0 <= cells[0] < cells[2] and 0 <= cells[1] < cells[3]


@pytest.mark.parametrize("protocol", PRESETS, ids=lambda p: f"{p.name}-{p.image_size}")
def test_json_round_trip(protocol):
  assert Protocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol


def test_json_with_other_names():
  values = Protocol.paper().to_json()
  with pytest.raises(InputError, match="extra"):
    Protocol.from_json(values | {"extra": 1})
  del values["box_rule"]
  with pytest.raises(InputError, match="settings should be"):
    Protocol.from_json(values)


def test_an_index_of_before_multiples_is_read():
  values = Protocol.paper(320, 5).to_json()
  assert values.pop("size_multiple") == 1
  assert Protocol.from_json(values) == Protocol.paper(320, 5)
  mobile = Protocol.paper(224).for_network(32)
  assert Protocol.from_json(json.loads(json.dumps(mobile.to_json()))) == mobile


def test_fingerprint_changes_with_each_part_and_with_no_other():
  preprocessing = {"channel_order": "bgr", "mean": (1.0, 2.0, 3.0), "scale": (1.0, 1.0, 1.0)}
  protocol = Protocol.paper()
  first = fingerprint("abc", preprocessing, "conv5_1", protocol)
  assert first == fingerprint("abc", dict(reversed(preprocessing.items())), "conv5_1", Protocol.paper())
  changed = [
    fingerprint("abd", preprocessing, "conv5_1", protocol),
    fingerprint("abc", preprocessing | {"mean": (3.0, 2.0, 1.0)}, "conv5_1", protocol),
    fingerprint("abc", preprocessing | {"channel_order": "rgb"}, "conv5_1", protocol),
    fingerprint("abc", preprocessing | {"scale": (1.0, 1.0, 2.0)}, "conv5_1", protocol),
    fingerprint("abc", preprocessing, "conv5_3", protocol),
    fingerprint("abc", preprocessing, "conv5_1", Protocol.paper(320)),
    fingerprint("abc", preprocessing, "conv5_1", Protocol.paper(720, 32)),
    fingerprint("abc", preprocessing, "conv5_1", dataclasses.replace(protocol, size_rule="fixed_frame")),
  ]
  assert len({first, *changed}) == 1 + len(changed)
  for other in ({"name": "mine"}, {"box_rule": "unscaled"}, {"expand_with_query": True}):
    assert fingerprint("abc", preprocessing, "conv5_1", dataclasses.replace(protocol, **other)) == first


def test_fingerprint_takes_what_json_gives_back():
  preprocessing = {"mean": (1.0, 2.0, 3.0)}
  stored = json.loads(json.dumps(preprocessing))
  assert fingerprint("a", stored, "x", Protocol.paper()) == fingerprint("a", preprocessing, "x", Protocol.paper())


NATIVE, SQUARE = Protocol("native", "longer_side", 1024), Protocol("square", "square", 586)


@pytest.mark.parametrize(
  ("original", "expected"),
  [
    ((768, 1024), (768, 1024)),  # as it is
    ((300, 400), (300, 400)),  # not enlarged
    ((1536, 2048), (768, 1024)),
    ((100, 4000), (32, 1024)),  # 25.6: never under 32 pixels
    ((20, 60), (32, 60)),
  ],
)
def test_sizes_by_the_longer_side(original, expected):
  assert NATIVE.resized(*original) == expected


def test_sizes_of_multiples_by_the_longer_side():
  multiple = NATIVE.for_network(32)
  assert multiple.resized(300, 400) == (288, 384)  # 9.4 and 12.5 times 32, which rounds to the even one
  assert all(side % 32 == 0 for canvas in multiple.canvases for side in canvas)


def test_squares_are_stretched():
  assert SQUARE.resized(768, 1024) == SQUARE.resized(10, 5000) == (586, 586)
  assert SQUARE.canvases == SQUARE.crop_canvases == ((592, 592),)  # whole cells
  assert SQUARE.for_network(32).resized(768, 1024) == (576, 576)  # 18.3


def test_canvases_by_the_longer_side_by_hand():
  assert NATIVE.canvases == (
    *((256, 512), (512, 256), (384, 512), (512, 384), (512, 512)),
    *((512, 1024), (1024, 512), (768, 1024), (1024, 768), (1024, 1024)),
  )
  assert NATIVE.crop_canvases == ((512, 512), (1024, 1024))


@pytest.mark.parametrize("protocol", [NATIVE, SQUARE, NATIVE.for_network(32)])
@hypothesis.settings(max_examples=100)
@hypothesis.given(height=SIDES, width=SIDES)
def test_canvases_hold_every_size_of_other_systems(protocol, height, width):
  resized = protocol.resized(height, width)
  for canvas in (protocol.canvas(*resized), protocol.crop_canvas(*resized)):
    assert all(2 * CELL <= side <= room for side, room in zip(resized, canvas, strict=True))


def test_a_crop_shrinks_as_its_image_does():
  assert NATIVE.shrunk(500, 1000, whole=(1536, 2048)) == (250, 500)
  assert NATIVE.shrunk(500, 1000) == (500, 1000) and NATIVE.shrunk(500, 2048) == (250, 1024)
