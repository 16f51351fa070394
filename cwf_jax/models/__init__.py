"""Flax networks that end in convolution, ReLU, global average pooling and one linear layer, and what surrounds them.

`network` says what all of them share, `vgg16_cam` is one of them, `layers` what they are built of. `registry` knows them
by name, `checkpoint` writes and reads their weights, `class_names` names what they predict.
"""
