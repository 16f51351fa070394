"""Foreign weight files into checkpoints of ours.

`files` opens a file that may hold anything, `layouts` finds the weights in it, `tables` says which is which parameter of ours
and `rules` how it becomes one; `convert` writes the checkpoint, `fetch` downloads and verifies a published file first.
"""
