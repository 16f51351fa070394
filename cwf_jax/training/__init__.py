"""Training of a CAM network by optax: from scratch, from a checkpoint, or by distillation from another network.

`train` is the loop and keeps a run on disk, `step` is what one step computes, `losses` what it minimizes, `augmentation` what
becomes of the images first, `normalization` the batch norm that a network has while it is trained and loses at the end, and
`finish` turns the result into a checkpoint with a whitening.
"""
