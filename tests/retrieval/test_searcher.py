"""Rankings against the oracle for every aggregation; the reasons add up; nothing is compiled twice; refusals."""

import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.images.decoding import decode_image
from cwf_jax.index.schema import IndexSettings, to_array
from cwf_jax.index.store import Index, open_index
from cwf_jax.indexing.build import build_index
from cwf_jax.indexing.settings import choose_settings
from cwf_jax.load import load_encoder
from cwf_jax.ops.whitening import Whitening
from cwf_jax.queries import encode_query
from cwf_jax.retrieval import searcher as searcher_module
from cwf_jax.retrieval.searcher import Searcher, search
from tests.oracle import encoding as oracle
from tests.oracle import ranking as ranking_oracle
from tests.oracle import whitening as whitening_oracle
from tests.oracle.deviation import assert_close

IDS = [f"{'a' if number < 6 else 'b/c'}/picture_{number:02d}.png" for number in range(12)]

STORED = ("all", "10")
"""Where all of the network's ten classes are stored, in columns of their own or together."""

# Stored vectors are int8, which keeps 7 bits of a vector's largest value; float16, in older indexes, keeps 11 bits of each.
INT8, FLOAT16 = 2e-2, 2e-3


def _picture(height, width, seed=1):
  small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
  return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _whiten(searcher, vectors):
  arrays = searcher.index.whitening
  return oracle.normalize(vectors) if arrays is None else whitening_oracle.apply(arrays["mean"], arrays["projection"], vectors)


def _describe_query(searcher, query):
  vectors = _whiten(searcher, query.class_vectors)
  return vectors, oracle.aggregate(vectors[None])[0]


def _database(searcher, pictures, wanted=None):
  """The oracle's descriptor of each image by its own classes, or by those wanted, from its vectors of all ten classes."""
  rows = []
  for name in IDS:
    every = encode_query(searcher.encoder, pictures / name, classes=tuple(range(10)))
    own = encode_query(searcher.encoder, pictures / name).class_ids
    vectors = _whiten(searcher, every.class_vectors)
    rows.append(oracle.aggregate(vectors[None, own if wanted is None else list(wanted)])[0])
  return np.stack(rows)


def _stored(searcher, wanted):
  """The oracle's descriptor of each image by the classes wanted, from the vectors that the index stores."""
  table = searcher.index.take(searcher.index.order(), ["class_ids", "class_vectors", "class_scales"])
  class_ids, vectors, scales = (to_array(table[name]) for name in table.column_names)
  return oracle.aggregate_wanted(vectors.reshape(*class_ids.shape, -1) * scales[..., None], class_ids, [wanted])[0][0]


def _check_ranking(name, results, scores, tolerance):
  """The answers are in the order of their scores, and each image has the oracle's."""
  assert [result.rank for result in results] == list(range(1, len(results) + 1))
  found = [result.score for result in results]
  assert found == sorted(found, reverse=True)
  assert_close(name, found, [scores[IDS.index(result.id)] for result in results], tolerance)
  assert len({result.id for result in results}) == len(results)


def _check_sums(results):
  for result in results:
    assert sum(part.share for part in result.classes or result.expanded_from) == pytest.approx(result.score, abs=1e-6)


@pytest.mark.parametrize("protocol", ["paper", "reference"])
@pytest.mark.parametrize("box", [None, (8, 8, 72, 60)])
def test_an_offline_search_ranks_as_the_oracle(make_searcher, pictures, protocol, box):
  searcher = make_searcher(protocol)
  query = searcher.encode(_picture(80, 104), box)
  results = searcher.search([query], top=12)[0]
  _, descriptor = _describe_query(searcher, query)
  scores = ranking_oracle.score(descriptor[None], searcher.index.snapshot.descriptors)[0]
  _check_ranking("offline: scores", results, scores, 1e-4)
  assert [IDS.index(result.id) for result in results] == ranking_oracle.order(scores[None], 12)[0].tolist()
  # The stored descriptors are the oracle's, too. Whitening on 48 vectors stretches rounding: 1e-4.
  assert_close("offline: descriptors", searcher.index.snapshot.descriptors, _database(searcher, pictures), 1e-4)


def test_shares_are_what_each_class_gave(make_searcher):
  searcher = make_searcher()
  query = searcher.encode(_picture(80, 104))
  vectors, _ = _describe_query(searcher, query)
  for result in searcher.search([query], top=12, shares=4)[0]:
    answer = searcher.index.snapshot.descriptors[IDS.index(result.id)]
    expected = ranking_oracle.share_classes(vectors[None], answer[None, None])[0, 0]
    names = {f"class {class_id}": share for class_id, share in zip(query.class_ids, expected, strict=True)}
    assert {part.name for part in result.classes} == set(names)
    for part in result.classes:
      assert part.share == pytest.approx(names[part.name], abs=1e-5)
    assert [part.share for part in result.classes] == sorted((part.share for part in result.classes), reverse=True)


@pytest.mark.parametrize("shares", [0, 1, 3, 4, 100])
@pytest.mark.parametrize("aggregation", ["offline", "online"])
@pytest.mark.parametrize("expand", [0, 3])
def test_the_parts_of_a_score_add_up_to_it(make_searcher, shares, aggregation, expand):
  searcher = make_searcher(store_classes="all")
  query = searcher.encode(_picture(80, 104))
  results = searcher.search([query], aggregation, top=12, expand=expand, shares=shares)[0]
  _check_sums(results)
  for result in results:
    parts = result.expanded_from if expand else result.classes
    assert (result.classes, result.expanded_from)[0 if expand else 1] == ()
    told = [part for part in parts if not part.name.startswith("(other")]
    assert len(told) == min(shares, expand or 4)
    assert (parts[-1].name == ("(other answers)" if expand else "(other classes)")) == (len(told) < (expand or 4))


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("box", [None, (8, 8, 72, 60)])
def test_an_online_search_describes_every_image_by_the_classes_of_the_query(make_searcher, pictures, stored, box):
  searcher = make_searcher(store_classes=stored)
  queries = [searcher.encode(_picture(80, 104, seed), box) for seed in (1, 2)]
  for query, results in zip(queries, searcher.search(queries, "online", top=12), strict=True):
    _, descriptor = _describe_query(searcher, query)
    scores = _database(searcher, pictures, query.class_ids) @ descriptor
    _check_ranking(f"online, stored {stored[:3]}: scores", results, scores, INT8)
    _check_sums(results)


@pytest.mark.parametrize("stored", [*STORED, "1,7,5"])
def test_a_fixed_search_describes_every_image_by_the_list(make_searcher, pictures, stored):
  searcher = make_searcher(store_classes=stored)
  queries = [searcher.encode(_picture(80, 104, seed), classes="class 7, 1") for seed in (1, 2)]
  database = _database(searcher, pictures, (7, 1))
  for query, results in zip(queries, searcher.search(queries, "fixed", top=12), strict=True):
    scores = database @ _describe_query(searcher, query)[1]
    _check_ranking("fixed: scores", results, scores, INT8)
    assert {part.name for part in results[0].classes} == {"class 1", "class 7"}
    _check_sums(results)


@pytest.mark.parametrize("stored", STORED)
def test_int8_moves_a_score_by_no_more_than_its_steps(make_searcher, pictures, stored):
  """Each of the vectors v that are summed moves by at most sqrt(k) / 2 of its steps, and the direction of a sum s by at most
  2 |s' - s| / |s|; a cosine with a unit vector moves no more than the direction does."""
  searcher = make_searcher(store_classes=stored)
  query = searcher.encode(_picture(80, 104))
  _, descriptor = _describe_query(searcher, query)
  scores = {result.id: result.score for result in searcher.search([query], "online", top=12)[0]}
  for name in IDS:
    every = encode_query(searcher.encoder, pictures / name, classes=tuple(query.class_ids.tolist()))
    vectors = _whiten(searcher, every.class_vectors)
    steps = np.abs(vectors).max(1) / 127
    summed = vectors.sum(0)
    most = 2 * np.sqrt(vectors.shape[1]) / 2 * steps.sum() / np.linalg.norm(summed)
    exact = descriptor @ summed / np.linalg.norm(summed)
    assert abs(scores[name] - exact) <= most + 1e-4  # 1e-4: rounding that the whitening stretches
    assert most < 0.2


@pytest.mark.parametrize("whitening", ["none", "self"])
def test_an_index_of_float16_vectors_works_as_before(encoders, pictures, tmp_path, monkeypatch, whitening):
  """Indexes were made so before `vector_type` was recorded."""
  images, folder, encoder = shutil.copytree(pictures, tmp_path / "images"), tmp_path / "index", encoders["paper"]
  late = (images / "b").rename(tmp_path / "late")
  settings, arrays = choose_settings(encoder, whitening, 4 if whitening == "self" else None, store_classes=10)
  values = dataclasses.asdict(dataclasses.replace(settings, vector_type="float16"))
  with monkeypatch.context() as patched:
    metadata = {b"cwf_jax": json.dumps({"format": 1} | {k: v for k, v in values.items() if k != "vector_type"}).encode()}
    patched.setattr(IndexSettings, "to_metadata", lambda _: metadata)
    Index.create(folder, dataclasses.replace(settings, vector_type="float16"), arrays)
  build_index(images, folder, encoder)
  late.rename(images / "b")
  assert build_index(images, folder, encoder).indexed == 6
  searcher = Searcher(folder)
  assert searcher.index.settings.vector_type == "float16"
  vectors = searcher.index.take(np.arange(12), ["class_vectors"])["class_vectors"]
  assert to_array(vectors).dtype == np.float16
  query = searcher.encode(_picture(80, 104))
  scores = _database(searcher, pictures, query.class_ids) @ _describe_query(searcher, query)[1]
  _check_ranking("online, float16: scores", searcher.search([query], "online", top=12)[0], scores, FLOAT16)


def test_lists_of_different_lengths_are_searched_together(make_searcher):
  searcher = make_searcher(store_classes="all")
  queries = [searcher.encode(_picture(80, 104), classes=classes) for classes in ([3], [1, 2, 3], range(10))]
  together = searcher.search(queries, "fixed", top=12)
  for query, results in zip(queries, together, strict=True):
    alone = searcher.search([query], "fixed", top=12)[0]
    assert [result.id for result in results] == [result.id for result in alone]
    np.testing.assert_allclose([result.score for result in results], [result.score for result in alone], atol=1e-6)


def test_many_queries_get_the_answers_of_each_alone(make_searcher, monkeypatch):
  searcher = make_searcher(store_classes="all")
  queries = [searcher.encode(_picture(64, 64, seed)) for seed in range(11)]
  monkeypatch.setattr(searcher_module, "QUERIES_AT_ONCE", 10)
  for aggregation in ("offline", "online"):
    together = searcher.search(queries, aggregation, top=3, expand=3)  # of two, both score the same against their sum
    for query, results in zip(queries, together, strict=True):
      alone = searcher.search([query], aggregation, top=3, expand=3)[0]
      assert [result.id for result in results] == [result.id for result in alone]
      np.testing.assert_allclose([result.score for result in results], [result.score for result in alone], atol=1e-6)


def test_online_equals_offline_where_the_lists_agree(make_searcher, pictures):
  """All ten classes summed: every list is the same set."""
  searcher = make_searcher(store_classes="10")
  everything = dataclasses.replace(searcher.encoder.settings.protocol, num_classes=10)
  encoder = load_encoder(searcher.index.settings.weights_folder, everything)
  folder = searcher.index.folder.parent / "everything"
  build_index(pictures, folder, encoder, whitening="none", store_classes=10)
  searcher = Searcher(folder)
  query = searcher.encode(_picture(80, 104))
  offline, online = (searcher.search([query], aggregation, top=12)[0] for aggregation in ("offline", "online"))
  assert [result.id for result in offline] == [result.id for result in online]
  np.testing.assert_allclose([r.score for r in offline], [r.score for r in online], atol=INT8)


def test_images_are_described_by_those_of_the_classes_that_are_stored(make_searcher, pictures):
  searcher = make_searcher(store_classes="2")
  owns = [encode_query(searcher.encoder, pictures / name) for name in IDS]
  held = [set(own.class_ids[:2].tolist()) for own in owns]
  assert len(set(map(frozenset, held))) > 1
  query = searcher.encode(_picture(80, 104), classes=sorted(held[0]))
  results = searcher.search([query], "fixed", top=12)[0]
  descriptor = _describe_query(searcher, query)[1]
  for result in results:
    own = owns[IDS.index(result.id)]
    vectors = _whiten(searcher, own.class_vectors)[None, :2]
    described, lacking = oracle.aggregate_wanted(vectors, own.class_ids[None, :2], [query.class_ids])
    assert result.score == pytest.approx(float(described[0, 0] @ descriptor), abs=INT8)
    assert result.lacked == lacking[0, 0]
  lacked = [result.lacked for result in results]
  assert len(set(lacked)) > 1
  _check_sums(results)
  assert searcher.count_lacking([query]) == (sum(number > 0 for number in lacked), max(lacked))
  online = searcher.encode(_picture(80, 104))
  lacked = [result.lacked for result in searcher.search([online], "online", top=12)[0]]
  assert searcher.count_lacking([online]) == (sum(number > 0 for number in lacked), max(lacked))


def test_what_a_list_lacks_is_counted_and_an_index_without_vectors_is_refused(make_searcher):
  searcher = make_searcher(store_classes="1,7,5")
  query = searcher.encode(_picture(80, 104), classes="7, 2, 3")
  assert [result.lacked for result in searcher.search([query], "fixed", top=12)[0]] == [2] * 12
  assert searcher.count_lacking([query]) == (12, 2)
  everything = make_searcher(store_classes="all")
  assert [result.lacked for result in everything.search([query], "fixed", top=12)[0]] == [0] * 12
  assert everything.count_lacking([query]) == (0, 0)
  assert {result.lacked for result in everything.search([query])[0]} == {None}
  with pytest.raises(InputError, match="was made with --store_classes=0: it stores no class vectors"):
    make_searcher(store_classes="0").search([query], "fixed")


@pytest.mark.parametrize("aggregation", ["offline", "online", "fixed"])
@pytest.mark.parametrize("expand", [1, 3, 12, 40])
def test_expansion_searches_again_with_the_sum_of_the_first_answers(make_searcher, pictures, aggregation, expand):
  searcher = make_searcher(store_classes="10")
  query = searcher.encode(_picture(80, 104), classes="1,2,3" if aggregation == "fixed" else None)
  first = searcher.search([query], aggregation, top=expand)[0]
  assert len(first) == min(expand, 12)
  results = searcher.search([query], aggregation, top=12, expand=expand, shares=12)[0]
  database = _database(searcher, pictures) if aggregation == "offline" else _stored(searcher, query.class_ids)
  rows = np.array([[IDS.index(result.id) for result in first]])
  expanded = ranking_oracle.expand_query(database, rows, len(first))[0]
  _check_ranking("expanded: scores", results, database @ expanded, 1e-4)
  assert {part.name for part in results[0].expanded_from} == {result.id for result in first}
  _check_sums(results)


def test_expansion_may_count_the_query_too(make_searcher, encoders):
  plain = make_searcher()
  searcher = Searcher(plain.index, plain.encoder)
  settings = searcher.encoder.settings
  protocol = dataclasses.replace(settings.protocol, expand_with_query=True)
  searcher.encoder = searcher.encoder.replace(settings=dataclasses.replace(settings, protocol=protocol))
  query = searcher.encode(_picture(80, 104))
  first = searcher.search([query], top=2)[0]
  rows = np.array([[IDS.index(result.id) for result in first]])
  database, descriptor = searcher.index.snapshot.descriptors, _describe_query(searcher, query)[1]
  expanded = ranking_oracle.expand_query(database, rows, 2, descriptor[None])[0]
  results = searcher.search([query], top=12, expand=2)[0]
  _check_ranking("expanded with the query: scores", results, database @ expanded, 1e-4)
  assert {part.name for part in results[0].expanded_from} == {first[0].id, first[1].id, "(the query)"}
  _check_sums(results)


@pytest.mark.parametrize("aggregation", ["offline", "online"])
def test_equal_images_come_in_the_order_of_their_ids_whatever_the_history(encoders, tmp_path, aggregation):
  images, folder = tmp_path / "images", tmp_path / "index"
  images.mkdir()
  for number in range(40):
    Image.fromarray(_picture(64, 64, 5)).save(images / f"{number:02d}.png")
  Image.fromarray(_picture(64, 64, 6)).save(images / "other.png")
  # Batches of one: the same program and the same place in it for every image.
  build_index(images, folder, encoders["paper"], store_classes="all", batch_size=1)
  for name in ("03", "00", "21"):
    (images / f"{name}.png").rename(tmp_path / f"{name}.png")
  build_index(images, folder, batch_size=1)
  for name in ("21", "03", "00"):
    (tmp_path / f"{name}.png").rename(images / f"{name}.png")
    build_index(images, folder, batch_size=1)
  searcher = Searcher(folder)
  query = searcher.encode(_picture(64, 64, 7))
  results = [result for result in searcher.search([query], aggregation, top=41)[0] if result.id != "other.png"]
  assert len({result.score for result in results}) == 1
  assert [result.id for result in results] == [f"{number:02d}.png" for number in range(40)]


def test_answers_name_files_that_are_gone(encoders, pictures, tmp_path):
  images = shutil.copytree(pictures, tmp_path / "images")
  build_index(images, tmp_path / "index", encoders["paper"])
  shutil.rmtree(images)
  results = search(tmp_path / "index", pictures / IDS[4], top=1)
  assert (results[0].id, results[0].path) == (IDS[4], str(images / IDS[4]))


@pytest.mark.parametrize("top", [1, 12, 100])
def test_there_are_as_many_answers_as_asked_for_or_as_there_are(make_searcher, top):
  searcher = make_searcher(store_classes="all")
  query = searcher.encode(_picture(80, 104))
  for aggregation in ("offline", "online"):
    assert len(searcher.search([query], aggregation, top=top)[0]) == min(top, 12)


def test_no_queries_have_no_answers(make_searcher):
  assert make_searcher().search([]) == []


def test_only_encoded_queries_are_searched_for(make_searcher):
  searcher = make_searcher()
  for queries in ([_picture(64, 64)], searcher.encode(_picture(64, 64))):
    with pytest.raises(InputError, match=r"search\(\[searcher.encode\(image\)\]\)"):
      searcher.search(queries)


@pytest.mark.parametrize("protocol", ["paper", "reference"])
def test_nothing_is_compiled_once_each_kind_of_search_was_run(make_searcher, compilations, protocol):
  """Queries of two canvases, of every kind, and a box of every canvas; then others inside those."""
  searcher = make_searcher(protocol, store_classes="all")

  def search_all(queries, classes):
    searcher.search(queries, expand=2)
    searcher.search(queries[:1])
    searcher.search(queries, "online")
    searcher.search([searcher.encode(_picture(64, 64), classes=classes)], "fixed", expand=3)

  queries = []
  for height, width in ((64, 64), (64, 86)):
    pixels = _picture(height, width)
    queries += [searcher.encode(pixels), searcher.encode(pixels, (0, 0, width, height)), searcher.encode(pixels, classes=[1])]
  for height, width in searcher.encoder.settings.protocol.crop_canvases:
    searcher.encode(_picture(height, width), (0, 0, width, height))
  search_all(queries, [1, 2])
  compilations.clear()
  generator = np.random.default_rng(0)
  queries = []
  for seed in range(6):
    height = int(generator.integers(40, 300))
    width = int(generator.uniform(1.05, 1.3) * height)
    pixels = _picture(height, width, seed)
    left, top = generator.integers(0, (width - 20, height - 20))
    queries.append(searcher.encode(pixels))
    queries.append(searcher.encode(pixels, (left, 0, left + 20, 40)))
    queries.append(searcher.encode(pixels, (left, top, width, height), [seed, 8, 9]))
  search_all(queries, [4, 2, 8, 6])
  search_all(queries[:3], list(range(10)))
  assert compilations == []


def test_no_first_query_compiles_after_a_warm_up(make_searcher, pictures, compilations):
  searcher, calls = make_searcher("paper"), []
  searcher.warm_up(progress=lambda *state: calls.append(state))
  canvases = len(set(searcher.encoder.settings.protocol.canvases))
  assert calls == [(done, canvases) for done in range(canvases + 1)]
  compilations.clear()
  for height, width in ((64, 64), (200, 100), (70, 100), (64, 200)):
    for box in (None, (8, 8, width - 8, height - 8)):
      query = searcher.encode(_picture(height, width), box)
      searcher.match(query, searcher.search([query])[0])
  assert compilations == []


def test_a_searcher_moves_to_the_newest_version_when_it_is_told_to(encoders, pictures, tmp_path):
  images, folder = shutil.copytree(pictures, tmp_path / "images"), tmp_path / "index"
  build_index(images, folder, encoders["paper"])
  searcher = Searcher(folder)
  query = searcher.encode(images / IDS[4])
  assert not searcher.is_stale() and not searcher.reload()
  (images / IDS[4]).rename(images / "moved.png")
  build_index(images, folder)
  assert searcher.is_stale() and searcher.search([query])[0][0].id == IDS[4]
  assert searcher.reload() and not searcher.is_stale()
  assert searcher.search([query])[0][0].id == "moved.png"
  shutil.rmtree(folder)
  build_index(images, folder, encoders["reference"])  # made anew by another encoder
  assert searcher.is_stale() and searcher.reload()
  assert searcher.encoder.settings.protocol.name == "reference"
  assert searcher.search([searcher.encode(images / "moved.png")])[0][0].id == "moved.png"


def test_an_index_without_images_or_of_other_weights_is_refused(encoders, make_searcher, tmp_path, tiny_checkpoint):
  images = tmp_path / "images"
  images.mkdir()
  (images / "broken.jpg").write_bytes(b"nothing")
  build_index(images, tmp_path / "empty", encoders["paper"])
  with pytest.raises(InputError, match="holds no images yet"):
    Searcher(tmp_path / "empty")
  index = make_searcher().index
  with pytest.raises(InputError, match="another encoder") as raised:
    Searcher(index, encoders["reference"])
  assert "\n" not in str(raised.value)


def test_weights_that_changed_or_went_are_named_with_the_index(tiny_checkpoint, tiny_network, pictures, tmp_path):
  from cwf_jax.models.checkpoint import save_checkpoint
  from cwf_jax.models.class_names import ClassList
  from cwf_jax.models.parameters import list_parameters, with_parameters

  weights = shutil.copytree(tiny_checkpoint, tmp_path / "weights")
  encoder = load_encoder(str(weights), num_classes=4)
  build_index(pictures, tmp_path / "index", encoder)
  before = encoder.settings.fingerprint[:12]
  shutil.rmtree(weights)
  with pytest.raises(InputError, match="cannot be loaded") as raised:
    Searcher(tmp_path / "index")
  assert str(weights) in str(raised.value) and str(tmp_path / "index") in str(raised.value)
  arrays = {path: np.asarray(array) + 0.5 for path, array in list_parameters(tiny_network).items()}
  changed = with_parameters(tiny_network, arrays)
  save_checkpoint(weights, changed, network_name="vgg16_cam_quarter", classes=ClassList.numbered(10))
  after = load_encoder(str(weights), num_classes=4).settings.fingerprint[:12]
  with pytest.raises(InputError) as raised:
    Searcher(tmp_path / "index")
  assert before in str(raised.value) and after in str(raised.value) and before != after
  assert len(Searcher(tmp_path / "index", load_encoder(str(tiny_checkpoint), num_classes=4)).index) == 12


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ({"aggregation": "nearest"}, "offline, online, fixed; found 'nearest'"),
    ({"top": 0}, "--top is at least 1; found 0"),
    ({"top": 2.0}, "--top is a whole number; found 2.0"),
    ({"expand": -1}, "--expand is at least 0"),
    ({"shares": -1}, "--shares is at least 0"),
  ],
)
def test_wrong_arguments_are_refused(make_searcher, arguments, said):
  searcher = make_searcher()
  with pytest.raises(InputError, match=said):
    searcher.search([searcher.encode(_picture(64, 64))], **arguments)


def test_a_searcher_says_what_it_is_in_a_few_lines(make_searcher):
  searcher = make_searcher()
  index = searcher.index
  first, second, third, last = repr(searcher).splitlines()
  assert (first, third, last) == ("Searcher(", f"  {searcher.encoder!r},", ")")
  settings = index.settings
  assert second == (
    f"  Index({str(index.folder)!r}, version={index.version}, images={len(index)}, weights={settings.weights!r}, "
    f"dimensions={settings.dimensions}, whitening={settings.whitening.source!r}),"
  )


def test_the_function_takes_a_folder_a_file_and_a_list(make_searcher, pictures):
  index = make_searcher(store_classes="all").index
  image = pictures / IDS[2]
  assert search(index.folder, image, top=1)[0].id == IDS[2]
  for form in (decode_image(image), image.read_bytes(), Image.open(image)):
    assert search(index, form, top=1)[0].id == IDS[2]
  assert search(str(index.folder), str(image), (0, 0, 64, 64), "fixed", "class 1, 2", top=1)[0].classes
  with pytest.raises(InputError, match="needs the list"):
    search(index, image, aggregation="fixed")
  with pytest.raises(InputError, match="aggregation=fixed"):
    search(index, image, classes="1")
  with pytest.raises(InputError, match="no class is named 'dome'"):
    search(index, image, aggregation="fixed", classes="dome")


def test_answers_down_to_a_score_are_those_that_have_it(make_searcher, pictures):
  index, image = make_searcher().index, pictures / IDS[0]
  results = search(index, image)
  assert search(index, image, min_score=results[2].score) == results[:3]


def test_a_whitening_of_the_index_wins_over_the_encoder_s_own(make_searcher, pictures):
  searcher = make_searcher()
  channels = searcher.index.settings.feature_channels
  other = Whitening(jnp.ones(channels), jnp.eye(channels))
  again = Searcher(searcher.index, searcher.encoder.replace(whitening=other))
  query = again.encode(pictures / IDS[0])
  assert again.search([query], top=1)[0][0].score == pytest.approx(1.0, abs=1e-6)
  assert open_index(searcher.index.folder).settings.whitening.source == "self"


def test_an_index_of_the_last_map_is_searched_by_it(tmp_path):
  """Cells of 32 pixels: descriptors, boxes and matching places follow the map that the index was made from."""
  (tmp_path / "images").mkdir()
  for seed in (1, 2, 3):
    Image.fromarray(_picture(192, 128, seed)).save(tmp_path / "images" / f"{seed}.png")
  encoder = load_encoder("random:mobilenet_v2", image_size=128, num_classes=4, feature_map="last")
  build_index(tmp_path / "images", tmp_path / "index", encoder)
  searcher = Searcher(open_index(tmp_path / "index"))
  assert searcher.encoder.settings == encoder.settings and searcher.index.settings.feature_channels == 1280
  query = searcher.encode(tmp_path / "images" / "2.png", box=(0, 0, 90, 128))
  assert query.photograph.cells == (0, 0, 3, 4)  # 90 / 32 rounded up, 4 rows
  answer = searcher.match(query, searcher.search([query], top=1)[0])[0]
  assert answer.id == "2.png" and answer.score > 0.5
  assert answer.match is not None and answer.match.places >= 4
  assert answer.match.query_box == answer.match.answer_box == (0, 0, 96, 128)  # the same cells of the same photograph
