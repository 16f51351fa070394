"""Indexes a folder of photographs, searches it for a box in one of them, and shows the answers and the reasons.

    python examples/search_a_folder.py FOLDER [OUTPUT]

Without a folder it takes the photographs that scikit-image and scikit-learn carry (the extra `demo`). The cells, from one
`# %%` to the next, are a notebook's: editors that know them show the figures below each.
"""

# %% What is searched
import sys
import tempfile
from pathlib import Path

from cwf_jax import Searcher, build_index, compare, draw_answers, draw_comparison, explain, save_figure
from cwf_jax.retrieval.reasons import describe_common_classes, describe_places

if sys.argv[1:2] in (["-h"], ["--help"]):
  sys.exit(__doc__)
output = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="cwf_jax-example-"))
output.mkdir(parents=True, exist_ok=True)
if len(sys.argv) > 1:
  folder = Path(sys.argv[1])
else:
  from cwf_jax.toy.photographs import write_photographs

  folder = output / "photographs"
  write_photographs(folder)

# %% Index: run it again to bring the index up to date, interrupt it whenever you like
summary = build_index(folder, output / "photographs.index")
print(f"{summary.rows} photographs, {summary.indexed} of them new, {len(summary.skipped)} skipped")

# %% Search: by the middle of the first photograph
searcher = Searcher(output / "photographs.index")
first = searcher.index.take([0], ["path", "width", "height"]).to_pylist()[0]
width, height = first["width"], first["height"]
box = (width // 8, height // 8, width - width // 8, height - height // 8)
query = searcher.encode(first["path"], box)
results = searcher.match(query, searcher.search([query], top=5)[0])
for result in results:
  reasons = f"{describe_places(result.match)}; {describe_common_classes(result.common_classes)}"
  print(f"{result.rank}  {result.score:.4f}  {result.id:<24}  {reasons}")

# %% Show: the answers, with a box around the places that match
sheet = draw_answers(searcher.encoder, first["path"], results, box=box, title="What looks like this box?")
save_figure(sheet, output / "answers.png")

# %% Why: what the network recognizes in the query, and why the second answer is similar
for reason in explain(searcher.encoder, first["path"], box, top=3).classes:
  print(f"{reason.name}: {100 * reason.probability:.0f} %")
if len(results) > 1:
  comparison = compare(searcher.encoder, first["path"], results[1].path, box)
  save_figure(draw_comparison(comparison, ("the query", results[1].id)), output / "pair.png")
print(f"the figures are {output / 'answers.png'} and {output / 'pair.png'}")
