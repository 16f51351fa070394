"""From a folder of images to an index: a plan of what is to be done, a mapper that encodes, a committer that stores.

`plan` compares the files with the index, `packing` turns encoded images into rows, `committer` writes them in small
commits, `whitening` fits one on the index itself; `build` runs them and can be taken up wherever it was stopped.
"""
