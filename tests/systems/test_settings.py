"""Both presets, value by value; what is set by text; what is refused; which parts a setting acts on."""

import math
import pickle

import pytest

from cwf_jax.errors import InputError
from cwf_jax.protocol import Protocol
from cwf_jax.systems.settings import Settings, list_settings

VALUES = {
  "size_rule": ("shorter_side", "fixed_frame"),
  "reversed_means": (False, True),
  "query_images": ("as_any", "stretched"),
  "empty_maps": ("no_vector", "divided"),
  "crow_weights": ("cells_and_channels", "channels"),
  "crow_epsilon": (0.0, 0.0),
  "box_rule": ("scaled", "unscaled"),
  "floor_boxes": (True, True),
  "crow_box": ("corners", "size"),
  "spoc_query": ("box", "box"),
  "num_classes": (64, 64),
  "fixed_classes": (16, 16),
  "n_pca": (1, 1),
  "dimensions": (0, 0),
  "eigenvalue_floor": (1e-8, 0.0),
  "query_row": ("kept", "replaced"),
  "ties": ("shuffled", "reversed"),
  "seed": (0, 0),
}
"""The settings of METHOD 2 and 7: (the paper's, the published code's)."""

ROWS = {
  "size_rule": "2, 8", "reversed_means": "1", "query_images": "17", "empty_maps": "11", "crow_weights": "0", "crow_box": "0",
  "box_rule": "3", "floor_boxes": "16", "eigenvalue_floor": "14", "query_row": "15", "ties": "12",
}  # fmt: skip


@pytest.mark.parametrize(("place", "name"), list(enumerate(["paper", "reference"])))
def test_the_presets(place, name):
  settings = Settings.preset(name)
  assert settings.preset_name == name and settings.changes() == {}
  assert settings.to_json() == {setting: pair[place] for setting, pair in VALUES.items()}
  assert hash(settings) == hash(Settings.preset(name, {}))


def test_what_is_told_of_each_setting():
  fields = list_settings()
  assert [field.name for field in fields] == list(VALUES)
  parts = {"sizes", "pixels", "vectors", "queries", "descriptors", "ranking"}
  for field in fields:
    told = field.metadata
    assert (field.default, told["reference"]) == VALUES[field.name]
    assert told["meaning"] and told["acts"] in parts
    assert told["row"] == ROWS.get(field.name, told["row"]) and (field.name in ROWS or told["row"] in ("", "2b"))
    assert "|" not in told["meaning"]  # it is a cell of a table
    if told["choices"]:
      assert {field.default, told["reference"]} <= set(told["choices"])
      assert all(choice in told["meaning"] or choice in ("cells_and_channels", "channels", "corners", "scaled", "kept")
                 for choice in told["choices"])  # fmt: skip


@pytest.mark.parametrize(
  ("setting", "text", "value"),
  [
    ("ties", "by_row", "by_row"),
    ("reversed_means", "True", True),
    ("floor_boxes", "false", False),
    ("num_classes", "3", 3),
    ("crow_epsilon", "1e-3", 0.001),
    ("eigenvalue_floor", "0", 0.0),
    ("seed", "0", 0),
    ("dimensions", "0", 0),
    ("n_pca", 16, 16),
    ("reversed_means", True, True),
  ],
)
def test_values_and_texts_of_them(setting, text, value):
  settings = Settings.preset("paper", {setting: text})
  found = getattr(settings, setting)
  assert found == value and type(found) is type(value)
  expected = {} if value == VALUES[setting][0] else {setting: value}
  assert settings.changes() == expected and settings.preset_name == "paper"


def test_changes_are_those_from_the_preset():
  settings = Settings.preset("reference", {"ties": "shuffled", "query_row": "replaced", "num_classes": 8})
  assert settings.changes() == {"num_classes": 8, "ties": "shuffled"}


@pytest.mark.parametrize(
  ("setting", "value", "wanted"),
  [
    ("ties", "any", "one of shuffled, by_row, reversed"),
    ("size_rule", "square", "one of shorter_side, fixed_frame"),
    ("ties", True, "one of shuffled"),
    ("reversed_means", "yes", "true or false"),
    ("reversed_means", 1, "true or false"),
    ("num_classes", "0", "a whole number of at least 1"),
    ("num_classes", "-3", "a whole number of at least 1"),
    ("num_classes", "2.5", "a whole number of at least 1"),
    ("num_classes", 2.5, "a whole number of at least 1"),
    ("num_classes", "many", "a whole number of at least 1"),
    ("num_classes", str(2**31), "a whole number of at least 1"),
    ("seed", "-1", "a whole number of at least 0"),
    ("dimensions", "-1", "a whole number of at least 0"),
    ("crow_epsilon", "-0.1", "a number of at least 0"),
    ("crow_epsilon", "nan", "a number of at least 0"),
    ("crow_epsilon", math.inf, "a number of at least 0"),
    ("eigenvalue_floor", "", "a number of at least 0"),
    ("n_pca", None, "a whole number of at least 1"),
  ],
)
def test_what_is_refused(setting, value, wanted):
  with pytest.raises(InputError) as caught:
    Settings.preset("paper", {setting: value})
  assert str(caught.value).startswith(f"{setting} is {wanted}") and str(caught.value).endswith(f"found {value!r}")


def test_everything_wrong_is_in_one_message():
  with pytest.raises(InputError) as caught:
    Settings.preset("paper", {"ties": "x", "nonsense": 1, "seed": -1, "num_classes": 2})
  told = str(caught.value).split("; ")
  assert "there is no setting 'nonsense' (there are size_rule, reversed_means" in str(caught.value)
  assert told[0].startswith("ties is one of") and "seed is a whole number of at least 0" in str(caught.value)
  assert "num_classes is" not in str(caught.value)


def test_a_preset_that_is_none():
  with pytest.raises(InputError, match=r"^no preset named 'papers'; there are paper, reference$"):
    Settings.preset("papers")


def test_what_acts_on_what():
  settings = Settings.preset("paper")
  assert settings.acting_on("pixels") == {"query_images": "as_any"}
  assert set(settings.acting_on("queries")) == {"box_rule", "floor_boxes", "crow_box", "spoc_query"}
  assert set(settings.acting_on("sizes", "vectors")) == {
    "size_rule", "reversed_means", "empty_maps", "crow_weights", "crow_epsilon"
  }  # fmt: skip
  assert set(settings.acting_on("ranking")) == {"query_row", "ties", "seed"}


def test_some_settings_alone_are_the_same_in_more_presets():
  paper, reference = (Settings.preset(name, {"crow_epsilon": 0.5}) for name in ("paper", "reference"))
  assert paper.only(["crow_epsilon"]) == reference.only(["crow_epsilon"]) and paper.only(["ties"]) != reference.only(["ties"])
  some = reference.only(["ties", "seed"])
  assert some.ties == some.only(["ties"]).ties == "reversed" and hash(some) == hash(reference.only(["seed", "ties"]))
  with pytest.raises(AttributeError, match=r"^the setting 'size_rule' is not among those .* in `vary` \(seed, ties\)$"):
    _ = some.size_rule
  assert pickle.loads(pickle.dumps(some)) == some


def test_the_protocol_is_that_of_the_preset():
  assert Settings.preset("paper").protocol(720) == Protocol.paper()
  assert Settings.preset("reference").protocol(320) == Protocol.reference(320)
  assert Settings.preset("reference", {"box_rule": "scaled", "num_classes": 3}).protocol(64) == Protocol(
    "reference", "fixed_frame", 64, 3, "scaled", reversed_means=True
  )
