"""Small indexes of one folder of pictures, one for each way to store class vectors."""

import pytest
from PIL import Image

from cwf_jax.indexing.build import build_index
from cwf_jax.load import load_encoder
from cwf_jax.retrieval.searcher import Searcher


@pytest.fixture(scope="session")
def encoders(tiny_checkpoint):
  """The tiny network under both protocols, of four classes an image."""
  return {name: load_encoder(str(tiny_checkpoint), name, num_classes=4) for name in ("paper", "reference")}


@pytest.fixture(scope="session")
def pictures(photographs, tmp_path_factory):
  """The photographs in two shapes, so that little is compiled."""
  folder = tmp_path_factory.mktemp("pictures")
  for number, path in enumerate(sorted(photographs.rglob("*.png"))):
    target = folder / path.relative_to(photographs)
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
      image.resize([(64, 64), (90, 68)][number % 2]).save(target)
  return folder


@pytest.fixture(scope="session")
def make_searcher(encoders, pictures, tmp_path_factory):
  """Indexes the pictures, once for each set of arguments, and opens them."""
  made = {}

  def make(protocol="paper", **settings):
    key = (protocol, *sorted(settings.items()))
    if key not in made:
      folder = tmp_path_factory.mktemp("indexes") / "index"
      build_index(pictures, folder, encoders[protocol], **{"whitening": "self", "n_pca": 4, **settings})
      made[key] = Searcher(folder)
    return made[key]

  return make
