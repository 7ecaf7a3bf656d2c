"""Report: one self-contained page on a run. Road: last. Reads what the stations wrote; knows no torch."""
