"""The label space and label maps: names, ids, colours, void, files in and out. Knows no torch."""
