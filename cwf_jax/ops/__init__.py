"""The mathematics of METHOD.md: pure functions on arrays, for `jit`, `vmap` and `grad`.

`cams` and `weighting` say where to look, `pooling` makes vectors of it, `whitening` and `aggregation` make descriptors of
those, `ranking` orders them. An optional mask names the cells that count, where an image is padded or cut.
"""
