"""Converts weight files of other libraries into checkpoints.

`files` finds a file's kind; `keras_files`, `caffe_files` and `array_files` list the layers in it as a `Source`; `sources`
matches them with a network's table of `tables`; `rules` says how a weight becomes a parameter; `reading` does all of it in a
process of its own. `convert` tries the network by `self_check` and writes the checkpoint; `fetch` finds a
published file by the `manifest`, lets `download` bring it, and verifies it first.
"""
