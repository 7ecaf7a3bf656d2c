"""One file a format: each says whether a folder is of its layout, and lists the pairs of photo and label map."""
