"""Stride, offset, receptive field, size and crop, exactly. Road: between labels and data. Knows no torch."""
