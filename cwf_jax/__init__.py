"""Class-weighted convolutional features for image retrieval, in JAX.

    from cwf_jax import build_index, search

    build_index("photographs", "photographs.index")
    for result in search("photographs.index", "query.jpg"):
      print(result.rank, result.id, result.score)

The names below are imported when they are first used, so that `import cwf_jax` is quick.
"""

import importlib

from cwf_jax.version import __version__

_HOMES = {
  "Activations": "cwf_jax.encoder",
  "Encoder": "cwf_jax.encoder",
  "Encoding": "cwf_jax.encoder",
  "Index": "cwf_jax.index.store",
  "InputError": "cwf_jax.errors",
  "Protocol": "cwf_jax.protocol",
  "Result": "cwf_jax.retrieval.answers",
  "Searcher": "cwf_jax.retrieval.searcher",
  "Summary": "cwf_jax.indexing.build",
  "build_index": "cwf_jax.indexing.build",
  "convert": "cwf_jax.conversion.convert",
  "compare": "cwf_jax.retrieval.explanation",
  "draw_answers": "cwf_jax.figures.contact_sheet",
  "draw_comparison": "cwf_jax.figures.reasons",
  "explain": "cwf_jax.retrieval.explanation",
  "export_encoder": "cwf_jax.export",
  "load_encoder": "cwf_jax.load",
  "match_photographs": "cwf_jax.retrieval.reasons",
  "open_index": "cwf_jax.index.store",
  "save_figure": "cwf_jax.figures.files",
  "search": "cwf_jax.retrieval.searcher",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
  if name not in _HOMES:
    raise AttributeError(f"module 'cwf_jax' has no attribute {name!r}")
  return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
  return sorted(__all__)
