import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from cwf_jax.errors import InputError
from cwf_jax.training.settings import MULTIPLE, Schedule, TrainingSettings

PHASES = st.lists(st.tuples(st.integers(1, 16).map(lambda n: n * MULTIPLE), st.integers(1, 30)), min_size=1, max_size=4)


@pytest.mark.parametrize(
  ("text", "phases"),
  [
    ("96:3000,128:2400", ((96, 3000), (128, 2400))),
    ("32:1", ((32, 1),)),
    (" 64 : 5 , 32:7 ", ((64, 5), (32, 7))),  # a later phase may be smaller
    ("96:1,96:2", ((96, 1), (96, 2))),
  ],
)
def test_a_schedule_is_read(text, phases):
  assert Schedule.parse(text) == Schedule(phases)


@pytest.mark.parametrize(
  "text", ["", "96", "96:", ":10", "96:10,", "96:1:2", "96x10", "ninety:10", "96:1e3", "96.0:10", "96:10;128:5"]
)
def test_what_is_no_schedule_is_refused_with_the_form(text):
  with pytest.raises(InputError, match="SIZE:STEPS,SIZE:STEPS") as caught:
    Schedule.parse(text)
  assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "found"), [("100:5", 100), ("0:5", 0), ("-32:5", -32), ("96:5,48:5", 48), ("31:1", 31)])
def test_sizes_that_are_no_multiples_are_refused(text, found):
  with pytest.raises(InputError, match=f"multiples of 32 pixels; found {found} in the schedule '{text}'"):
    Schedule.parse(text)


@pytest.mark.parametrize(("text", "found"), [("96:0", 0), ("96:5,128:-1", -1)])
def test_phases_without_steps_are_refused(text, found):
  with pytest.raises(InputError, match=f"at least one step; found {found} in the schedule"):
    Schedule.parse(text)


@hypothesis.given(phases=PHASES)
def test_steps_have_the_sizes_of_their_phases(phases):
  schedule = Schedule(tuple(phases))
  unrolled = [size for size, steps in phases for _ in range(steps)]
  assert schedule.steps == len(unrolled)
  assert [schedule.size(step) for step in range(schedule.steps)] == unrolled
  assert schedule.last_steps == tuple(sum(steps for _, steps in phases[: place + 1]) for place in range(len(phases)))
  with pytest.raises(IndexError, match=f"has {len(unrolled)} steps"):
    schedule.size(schedule.steps)
  assert Schedule.parse(",".join(f"{size}:{steps}" for size, steps in phases)) == schedule


SCHEDULE = Schedule(((32, 4),))


@pytest.mark.parametrize(
  ("changes", "told"),
  [
    ({"batch_size": 1}, "batch_size is at least 2, since batch norm compares crops, not 1"),
    ({"learning_rate": 0.0}, "learning_rate is more than 0"),
    ({"learning_rate": float("nan")}, "learning_rate is more than 0, not nan"),
    ({"warmup": -1}, "warmup is at least 0"),
    ({"weight_decay": -0.1}, "weight_decay is at least 0"),
    ({"area": (0.0, 1.0)}, "area is two shares in order"),
    ({"area": (0.5, 0.4)}, "area is two shares in order"),
    ({"area": (0.5, 1.1)}, "area is two shares in order"),
    ({"aspect": (0.0, 1.0)}, "aspect is two ratios in order"),
    ({"aspect": (2.0, 1.0)}, "aspect is two ratios in order"),
    ({"jitter": 1.0}, "jitter is at least 0 and less than 1"),
    ({"jitter": -0.1}, "jitter is at least 0"),
    ({"mosaic": 1.5}, "mosaic is from 0 to 1, not 1.5"),
    ({"teacher_scale": 0}, "teacher_scale is at least 1"),
    ({"dtype": "float16"}, "dtype is float32 or bfloat16, not 'float16'"),
  ],
)
def test_settings_are_checked(changes, told):
  with pytest.raises(InputError) as caught:
    TrainingSettings(SCHEDULE, **changes)
  assert told in str(caught.value)
  assert ";" not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once():
  with pytest.raises(InputError) as caught:
    TrainingSettings(SCHEDULE, batch_size=0, learning_rate=-1.0, mosaic=2.0, dtype="int8")
  told = str(caught.value).split("; ")
  assert [line.split()[0] for line in told] == ["batch_size", "learning_rate", "mosaic", "dtype"]


def test_the_limits_themselves_are_allowed():
  square = {"area": (1.0, 1.0), "aspect": (1.0, 1.0)}
  TrainingSettings(SCHEDULE, batch_size=2, warmup=0, weight_decay=0.0, **square, jitter=0.0, mosaic=1.0)


def test_settings_are_frozen_hashable_and_plain():
  """They are part of a compiled program's key, and are recorded with the run."""
  first, same, other = TrainingSettings(SCHEDULE), TrainingSettings(Schedule(((32, 4),))), TrainingSettings(SCHEDULE, seed=1)
  assert len({first, same, other}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    first.seed = 3
  plain = json.loads(json.dumps(first.to_json()))
  assert plain["schedule"] == {"phases": [[32, 4]]}
  assert set(plain) == {field.name for field in dataclasses.fields(TrainingSettings)}
