"""Finding weights in files of both layouts: by name, by order, and everything that is wrong at once."""

import json

import h5py
import numpy as np
import pytest

from cwf_jax.conversion import reading
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.tables import KERAS_H5
from tests.conversion.foreign import (
  EPSILON,
  KERNELS,
  NAMES,
  NORM,
  WRITERS,
  draw_weights,
  pack_archive,
  small_tables,
  write_keras3,
  write_keras_h5,
)

TABLES = small_tables()
LAYOUTS = tuple(TABLES)


def _read(path, layout="auto"):
  return reading.read(path, TABLES, layout, KERNELS)


def _by_target(found):
  """The parameters of each of our layers, so that layouts can be compared."""
  (table,) = TABLES[found.layout]
  return {path: array for rule in table.rules for path, array in rule.apply(found.matched.arrays).items()}


def _assert_same(found, weights, tmp_path):
  """Whether what was found in a file is what a plain file of `weights` holds."""
  assert found.matched.problems.list_all() == []
  expected = _by_target(_read(write_keras_h5(tmp_path / "plain.h5", weights)))
  ours = _by_target(found)
  assert set(ours) == set(expected) == {f"{target}/{kind}" for target in KERNELS for kind in ("kernel", "bias")}
  for path, array in expected.items():
    np.testing.assert_array_equal(ours[path], array)


def _renamed(weights, names):
  return dict(zip(names, weights.values(), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}, {"dtype": "f8"}, {"dtype": ">f4"}])
def test_both_layouts_give_the_same_arrays(tmp_path, layout, options):
  weights = draw_weights()
  found = _read(WRITERS[layout](tmp_path / "x.h5", weights, **options))
  assert (found.layout, found.matched.notes) == (layout, [])
  _assert_same(found, weights, tmp_path)
  for layer, arrays in weights.items():
    for kind, array in arrays.items():
      if layout == KERAS_H5:
        np.testing.assert_array_equal(found.matched.arrays[f"{layer}/{kind}"], array)


def test_the_file_of_a_whole_model_is_read_too(tmp_path):
  """Keras 3's `model.save("x.h5")`: the layers below model_weights, no ":0", every kernel called kernel."""
  weights = draw_weights()
  path = write_keras_h5(tmp_path / "x.h5", weights, root="model_weights", suffix="", depthwise="kernel")
  with h5py.File(path, "a") as file:
    file["optimizer_weights/adam/momentum"] = np.ones(7)
    file.create_group("model_weights/top_level_model_weights").attrs["weight_names"] = np.asarray([])
  _assert_same(_read(path), weights, tmp_path)


@pytest.mark.parametrize("name", ["{}_1/{}:0", "{}/{}_1:0", "scope/{}/{}_12:0", "{}/{}", "{}_{}:0", "{}"])
def test_a_kind_is_known_by_the_end_of_its_name(tmp_path, name):
  weights = draw_weights()
  path = write_keras_h5(tmp_path / "x.h5", weights)
  with h5py.File(path, "a") as file:
    group = file["Stem_bn"]
    new = {kind: name.format(kind) if name == "{}" else name.format("Stem_bn", kind) for kind in NORM}
    group.attrs["weight_names"] = [one.encode() for one in new.values()]
    for kind in NORM:
      group.move(f"Stem_bn/{kind}:0", new[kind])
  _assert_same(_read(path), weights, tmp_path)


def test_a_long_list_of_names_lies_in_parts(tmp_path):
  weights = draw_weights()
  path = write_keras_h5(tmp_path / "x.h5", weights)
  with h5py.File(path, "a") as file:
    names = file.attrs["layer_names"]
    del file.attrs["layer_names"]
    file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:3], names[3:]
  _assert_same(_read(path), weights, tmp_path)


def test_names_decide_over_the_order(tmp_path):
  weights = draw_weights()
  turned = dict(reversed(weights.items()))
  found = _read(write_keras_h5(tmp_path / "x.h5", turned))
  assert found.matched.notes == []
  _assert_same(found, weights, tmp_path)


@pytest.mark.parametrize("every", [1, 2])
def test_published_names_are_names(tmp_path, every):
  """All of them, or some; the order does not matter."""
  weights = draw_weights()
  names = [f"old{name}" if place % every == 0 else name for place, name in enumerate(NAMES)]
  found = _read(write_keras_h5(tmp_path / "x.h5", dict(reversed(_renamed(weights, names).items()))))
  assert found.matched.notes == []
  _assert_same(found, weights, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strange_names_leave_the_order_which_is_reported(tmp_path, layout):
  weights = draw_weights()
  found = _read(WRITERS[layout](tmp_path / "x.h5", _renamed(weights, [f"layer_{n}" for n in range(9)])))
  assert found.matched.notes == [
    "layers are matched by their order, since some have other names: layer_0 for Stem, layer_1 for Stem_bn, layer_2 for Deep "
    "and 6 more"
  ]
  _assert_same(found, weights, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_known_name_out_of_its_place_is_refused(tmp_path, layout):
  """Layers of the same shapes that changed places would give a wrong network, and no shape would tell."""
  names = ["Stem", "Stem_bn", "Deep", "Deep_bn", "Two", "Two_bn", "One", "One_bn", "renamed"]
  found = _read(WRITERS[layout](tmp_path / "x.h5", _renamed(draw_weights(), names)))
  assert found.matched.problems.list_all() == [
    "the layer Two is where One is expected",
    "the layer Two_bn is where One_bn is expected",
    "the layer One is where Two is expected",
    "the layer One_bn is where Two_bn is expected",
  ]


def test_keras3_needs_no_names(tmp_path):
  weights = draw_weights()
  found = _read(write_keras3(tmp_path / "x.h5", weights, names=False))
  assert found.matched.notes == []
  _assert_same(found, weights, tmp_path)


def test_the_state_of_an_optimizer_is_left_out_and_reported(tmp_path):
  weights = draw_weights()
  path = write_keras3(tmp_path / "x.h5", weights)
  with h5py.File(path, "a") as file:
    file["optimizer/vars/0"] = np.ones(3)
  found = _read(path)
  assert found.matched.notes == ["the state of the optimizer is left out"]
  _assert_same(found, weights, tmp_path)


def _damage(weights):
  """One of each kind of problem."""
  del weights["Stem_bn"]["beta"]
  weights["Deep"]["kernel"] = np.ones((5, 5, 4, 1), np.float32)
  weights["One"]["bias"] = np.ones(4, np.float32)
  weights["One_bn"]["gamma"][2] = np.nan
  weights["Two_bn"]["moving_variance"][1] = -0.5
  weights["Top"]["bias"] = np.ones(5, np.int32)
  return weights


def _write_model(path, weights, config, **attributes):
  """As Keras 2 saves a whole model: the layers below model_weights, the configuration at the top."""
  write_keras_h5(path, weights, root="model_weights")
  with h5py.File(path, "a") as file:
    file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
    file.attrs["training_config"] = json.dumps({"optimizer_config": {"config": {"name": "Top", "epsilon": 1e-7}}})
    for name, value in attributes.items():
      file.attrs[name] = value
  return path


def _describe_norms(epsilons, names=NAMES):
  """A model's configuration with these epsilons of its layers; they are in a model inside a model."""
  layers = [{"class_name": "BatchNormalization", "config": {"name": name, "epsilon": epsilon}}
            for name, epsilon in zip(names, epsilons, strict=False) if epsilon is not None]  # fmt: skip
  inner = {"class_name": "Model", "config": {"name": "inner", "layers": layers}}
  optimizer = {"class_name": "Adam", "config": {"name": "adam", "epsilon": 1e-7}}
  return {"class_name": "Model", "config": {"layers": [inner]}, "compile_config": {"optimizer": optimizer}, "backend": "jax"}


@pytest.mark.parametrize("place", ["file", "group", "model_config"])
@pytest.mark.parametrize("backend", ["theano", b"Theano"])
def test_kernels_of_theano_are_turned(tmp_path, place, backend):
  weights = draw_weights()
  turned = {
    layer: {kind: array[::-1, ::-1] if array.ndim == 4 else array for kind, array in arrays.items()}
    for layer, arrays in weights.items()
  }
  config = {"backend": str(backend, "ascii") if isinstance(backend, bytes) else backend} if place == "model_config" else {}
  path = _write_model(tmp_path / "x.h5", turned, config, **({"backend": backend} if place == "file" else {}))
  if place == "group":
    with h5py.File(path, "a") as file:
      file["model_weights"].attrs["backend"] = backend
  found = _read(path)
  assert found.matched.notes == [
    "kernels lie as [rows columns in out] and are turned by 180 degrees: the file says theano"
  ]
  assert found.is_turn_known
  _assert_same(found, weights, tmp_path)


def test_another_backend_and_the_same_epsilon_change_nothing(tmp_path):
  weights = draw_weights()
  config = _describe_norms([EPSILON, float(np.float32(EPSILON))] * 4)
  found = _read(_write_model(tmp_path / "x.h5", weights, config, backend="tensorflow"))
  assert (found.matched.epsilons, found.matched.notes) == ({}, [])
  _assert_same(found, weights, tmp_path)


@pytest.mark.parametrize("names", [NAMES, [f"old{name}" for name in NAMES], [f"layer_{n}" for n in range(9)]])
def test_the_epsilon_of_a_file_is_its_own(tmp_path, names):
  """Whether layers are matched by their names, by published ones or by their order."""
  config = _describe_norms([None, EPSILON, None, 1e-5, None, EPSILON, None, 2e-5], names)
  found = _read(_write_model(tmp_path / "x.h5", _renamed(draw_weights(), names), config))
  assert found.matched.epsilons == {"Deep_bn": 1e-5, "Two_bn": 2e-5}
  assert found.matched.notes[-1] == "the file's own epsilon (1e-05, 2e-05) is used in 2 batch norms"


@pytest.mark.parametrize("epsilon", ["large", -1e-3, True, float("inf")])
def test_an_epsilon_that_is_none_is_refused_with_its_layer(tmp_path, epsilon):
  path = _write_model(tmp_path / "x.h5", draw_weights(), _describe_norms([None, epsilon]))
  (problem,) = _read(path).matched.problems.list_all()
  assert problem == f"its configuration states an epsilon that is no number from 0 to 1: Stem_bn ({epsilon!r})"


def _archive(path, weights, config, names):
  return pack_archive(path, write_keras3(path.with_suffix(".h5"), weights, names), config)


@pytest.mark.parametrize("names", [True, False])
def test_an_archive_of_keras_is_read_with_its_epsilons(tmp_path, names):
  weights = draw_weights()
  config = _describe_norms([None, EPSILON, None, 1e-5, None, EPSILON, None, EPSILON])
  found = _read(_archive(tmp_path / "x.keras", weights, config, names))
  assert found.matched.epsilons == {"layers/batch_normalization_1/vars": 1e-5}
  _assert_same(found, weights, tmp_path)


def test_an_archive_whose_norms_cannot_be_counted_is_refused(tmp_path):
  path = _archive(tmp_path / "x.keras", draw_weights(), _describe_norms([None, EPSILON] * 2), names=False)
  (problem,) = _read(path).matched.problems.list_all()
  assert problem == "its configuration has 2 batch norms, its weights have 4"


@pytest.mark.parametrize("prefix", ["_layer_checkpoint_dependencies", "layers/functional/layers"])
def test_other_places_of_numbered_layers_are_known(tmp_path, prefix):
  weights = draw_weights()
  path = write_keras3(tmp_path / "x.h5", weights)
  with h5py.File(path, "a") as file:
    file.move("layers", "old")
    file.move("old", prefix)
    if "functional" in prefix:  # the classifier lies outside
      file.move(f"{prefix}/dense", "layers/dense")
  found = _read(path)
  assert found.matched.notes == (["the network lies inside the layer functional"] if "functional" in prefix else [])
  _assert_same(found, weights, tmp_path)


def test_a_network_inside_a_layer_is_found(tmp_path):
  """Transfer learning with Keras 2: all of it but the classifier is one layer of another model, moving averages at the end."""
  weights = draw_weights()
  path = tmp_path / "x.h5"
  with h5py.File(path, "w") as file:
    group = file.create_group("model_weights")
    group.attrs["layer_names"] = np.asarray([b"input_2", b"inner", b"dense"])
    group.create_group("input_2").attrs["weight_names"] = np.asarray([])
    ordered = [(layer, kind) for layer in weights for kind in weights[layer] if layer != "Top"]
    ordered.sort(key=lambda pair: pair[1].startswith("moving"))
    for layer, kind in ordered:
      group[f"inner/{layer}/{kind}:0"] = weights[layer][kind]
    group["inner"].attrs["weight_names"] = np.asarray([f"{layer}/{kind}:0".encode() for layer, kind in ordered])
    for kind, array in weights["Top"].items():
      group[f"dense/dense/{kind}:0"] = array
    group["dense"].attrs["weight_names"] = np.asarray([b"dense/kernel:0", b"dense/bias:0"])
  found = _read(path)
  assert found.matched.notes == [
    "the network lies inside the layer inner", "layers are matched by their order, since some have other names: dense for Top",
  ]  # fmt: skip
  _assert_same(found, weights, tmp_path)


@pytest.mark.parametrize("config", ["", "{", "[]", "[" * 100_000])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path, config):
  (problem,) = _read(_write_model(tmp_path / "x.h5", draw_weights(), config)).matched.problems.list_all()
  assert problem == "its configuration cannot be read, so the epsilon of its batch norms is not known"


def test_everything_that_is_wrong_is_reported_at_once(tmp_path):
  found = _read(write_keras_h5(tmp_path / "x.h5", _damage(draw_weights())))
  assert found.matched.problems.list_all() == [
    "missing: Stem_bn/beta (4,)",
    "extra: One/One/bias:0 (4,)",
    "Deep/Deep/depthwise_kernel:0 is (5, 5, 4, 1), expected (3, 3, 4, 1)",
    "One_bn/One_bn/gamma:0 holds values that are not finite",
    "Two_bn/Two_bn/moving_variance:0 holds a variance of -0.5, expected none below 0",
    "Top/Top/bias:0 holds int32, expected floating-point numbers of 16, 32 or 64 bits",
  ]
  assert not {"Deep/kernel", "One_bn/gamma", "Top/bias"} & set(found.matched.arrays)


def test_everything_that_is_wrong_is_reported_at_once_in_keras3(tmp_path):
  weights = _damage(draw_weights())
  weights["Stem_bn"] = {kind: np.ones(4, np.float32) for kind in NORM[:3]}
  found = _read(write_keras3(tmp_path / "x.h5", weights))
  assert found.matched.problems.list_all() == [
    "missing: layers/batch_normalization/vars/3 (4,)",
    "extra: layers/conv2d_1/vars/1 (4,)",
    "layers/depthwise_conv2d/vars/0 is (5, 5, 4, 1), expected (3, 3, 4, 1)",
    "layers/batch_normalization_2/vars/0 holds values that are not finite",
    "layers/batch_normalization_3/vars/3 holds a variance of -0.5, expected none below 0",
    "layers/dense/vars/1 holds int32, expected floating-point numbers of 16, 32 or 64 bits",
  ]


def test_a_missing_and_an_extra_layer_are_reported_with_a_few_of_their_weights(tmp_path):
  weights = draw_weights()
  del weights["Two_bn"], weights["Two"]
  weights["Three"] = {"kernel": np.ones((2, 2), np.float32)}
  found = _read(write_keras_h5(tmp_path / "x.h5", weights))
  missing = "Two/kernel (1, 1, 4, 4), Two_bn/gamma (4,), Two_bn/beta (4,) and 2 more"
  lines, is_whole = found.matched.problems.list_briefly()
  assert lines == [f"missing: {missing}", "extra: Three/Three/kernel:0 (2, 2)"] and not is_whole


def test_a_data_set_that_no_list_names_is_extra(tmp_path):
  path = write_keras_h5(tmp_path / "x.h5", draw_weights())
  with h5py.File(path, "a") as file:
    file["Stem/Stem/hidden"] = np.ones(3, np.float32)
  assert _read(path).matched.problems.list_all() == ["extra: Stem/Stem/hidden (3,)"]


def test_a_name_that_lists_nothing_is_a_missing_weight(tmp_path):
  path = write_keras_h5(tmp_path / "x.h5", draw_weights())
  with h5py.File(path, "a") as file:
    del file["Stem/Stem/kernel:0"]
  assert _read(path).matched.problems.list_all() == ["missing: Stem/kernel (3, 3, 3, 4)"]


def test_two_layers_of_one_name_are_not_both_taken(tmp_path):
  weights = draw_weights()
  weights["oldTop"] = weights["Top"]
  problems = _read(write_keras_h5(tmp_path / "x.h5", weights)).matched.problems.list_all()
  assert problems == ["extra: oldTop/oldTop/kernel:0 (4, 5)", "extra: oldTop/oldTop/bias:0 (5,)"]


@pytest.mark.parametrize("agreeing", [0, 2])
def test_another_network_is_reported_in_one_sentence(tmp_path, agreeing):
  """Though some names agree, or all of them do and the shapes do not."""
  weights = {f"res{number}": {"kernel": np.ones((2, 2), np.float32)} for number in range(300)}
  weights |= dict(list(draw_weights().items())[:agreeing])
  with pytest.raises(ConversionError) as caught:
    _read(write_keras_h5(tmp_path / "x.h5", weights))
  assert str(caught.value) == (
    f"{tmp_path / 'x.h5'} is of another network: it has {300 + agreeing} layers with weights (res0, res1, res2 and "
    f"{297 + agreeing} more), expected 9 (Stem, Stem_bn, Deep and 6 more), and {agreeing or 'none'} of these agree in name "
    "and shape"
  )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_width_is_another_network(tmp_path, layout):
  weights = {name: {kind: np.ones([2 * side for side in array.shape], np.float32) for kind, array in arrays.items()}
             for name, arrays in draw_weights().items()}  # fmt: skip
  said = r"it has 9 layers .* none of these agree in name and shape; .* is \(6, 6, 6, 8\), expected \(3, 3, 3, 4\)"
  with pytest.raises(ConversionError, match=said):
    _read(WRITERS[layout](tmp_path / "x.h5", weights))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_it_is_not_is_refused(tmp_path, layout):
  (other,) = set(LAYOUTS) - {layout}
  path = WRITERS[layout](tmp_path / "x.h5", draw_weights())
  assert _read(path, layout).layout == layout
  with pytest.raises(ConversionError, match=f"is of the layout {layout}, not {other}"):
    _read(path, other)


def test_an_hdf5_that_is_no_network_is_refused(tmp_path):
  with h5py.File(tmp_path / "x.h5", "w") as file:
    file["measured/values"] = np.ones(3)
    file.create_group("layers/empty")
  with pytest.raises(ConversionError, match=r"is HDF5 and holds no network of Keras: .* is called layers, measured"):
    _read(tmp_path / "x.h5")


def test_links_in_the_place_of_layers_are_refused(tmp_path):
  path = write_keras3(tmp_path / "x.h5", draw_weights())
  with h5py.File(path, "a") as file:
    file.move("layers/dense", "other")
    file["layers/dense"] = h5py.SoftLink("/other")
  with pytest.raises(ConversionError, match=r"/layers/dense in .* is a link"):
    _read(path)
