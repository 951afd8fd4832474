"""The operators of the decoder, one file each: the arithmetic, and an operator around it.

The arithmetic alone is traced into ONNX, and into programs for a compiler that fuses it. As an
operator alpaca2::NAME it stays one node of a program: eager torch runs the same arithmetic, and a
kernel of a chip can take its place.
"""
