"""Programs for a chip's kernels -> Ascend IR (.air), by Huawei's converters.

`python -m export.air` does it, in a process of its own: it alone imports torchair, out of an
unzipped wheel, which takes half a minute and changes how the process takes signals.
"""
