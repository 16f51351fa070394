"""The mathematics of METHOD 2 to 4b (docs/method.md): pure functions on arrays, for `jit`, `vmap` and `grad`.

`cams` and `weighting` say where to look, `pooling` makes vectors of it, `whitening` and `aggregation` make descriptors of
those, `quantization` makes vectors small, `ranking` orders descriptors, and `matching` checks whether two photographs show
the same thing. An optional mask names the cells that count, where an image is padded or cut.

Where a function has the decorator `cwf_jax.ops.axes.check_axes`, it raises a ValueError when it is called or traced with
arrays whose axes do not agree with its signature, or are empty where they must not be. The letters: b images, i rows and j
columns of a map (p and q of a second one), k channels, d dimensions, c classes, n rows of a database, q queries.

The examples are in each module's own names, and print arrays after `np.set_printoptions(precision=3, suppress=True)`.
"""
