"""Indexes a folder of photographs, searches it for a box in one of them, and shows the answers and the reason.

    python examples/search_a_folder.py FOLDER [OUTPUT]

Without a folder it takes the photographs that scikit-image and scikit-learn carry (the extra `demo`). The cells, from one
`# %%` to the next, are a notebook's: editors that know them show the figures below each.
"""

# %% What is searched
import sys
import tempfile
from pathlib import Path

from cwf_jax import Searcher, build_index, compare, draw_answers, explain, save_figure

output = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="cwf_jax-example-"))
output.mkdir(parents=True, exist_ok=True)
if len(sys.argv) > 1:
  folder = Path(sys.argv[1])
else:
  from cwf_jax.datasets.photographs import write_photographs

  folder = output / "photographs"
  write_photographs(folder)

# %% Index: run it again to bring the index up to date, interrupt it whenever you like
summary = build_index(folder, output / "photographs.index", whitening="self")
print(f"{summary.rows} photographs, {summary.indexed} of them new, {len(summary.skipped)} skipped")

# %% Search: by the middle of the first photograph
searcher = Searcher(output / "photographs.index")
query = searcher.index.take([0], ["path", "width", "height"]).to_pylist()[0]
width, height = query["width"], query["height"]
box = (width // 8, height // 8, width - width // 8, height - height // 8)
encoded = searcher.encode(query["path"], box)
results = searcher.match(encoded, searcher.search([encoded], top=5)[0])
for result in results:
  classes = ", ".join(map(str, result.common_classes))
  print(f"{result.rank}  {result.score:.4f}  {result.id:<24}  {result.match.places} places match  {classes}")

# %% Show: the answers, each with a box around the places that match
sheet = draw_answers(searcher.encoder, query["path"], results, box=box, title="What looks like this box?")
save_figure(sheet, output / "answers.png")

# %% Why: the classes of the query, and why the second answer is similar to it
for reason in explain(searcher.encoder, query["path"], box, top=3).classes:
  print(f"{reason.name}: probability {reason.probability:.4f}, in the box {reason.box}")
if len(results) > 1:
  print(f"{results[1].id}: {compare(searcher.encoder, query['path'], results[1].path, box)}")
print(f"the figure is {output / 'answers.png'}")
