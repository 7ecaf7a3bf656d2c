"""The FCN authors' script on today's Python: a Caffe net labels every pixel of a photo.

python examples/caffe_script.py deploy.prototxt fcn8s-heavy-pascal.caffemodel photo.jpg labels.png
"""

import sys

import numpy as np
from PIL import Image

import fullconv.caffe as caffe
from fullconv.labels.builtin import VOC_PALETTE

model, weights, photo, out = sys.argv[1:]

# load the photo, RGB to BGR, take off the mean, channels first
im = Image.open(photo).convert("RGB")
in_ = np.array(im, dtype=np.float32)
in_ = in_[:, :, ::-1]
in_ -= np.array((104.00698793, 116.66876762, 122.67891434))
in_ = in_.transpose((2, 0, 1))

# load the net
net = caffe.Net(model, weights, caffe.TEST)

# give the input blob the photo's size, fill it, run, take the class with the highest score
net.blobs["data"].reshape(1, *in_.shape)
net.blobs["data"].data[...] = in_
net.forward()
labels = net.blobs["score"].data[0].argmax(axis=0)

picture = Image.fromarray(labels.astype(np.uint8))
picture.putpalette([value for colour in VOC_PALETTE for value in colour])
picture.save(out)
print(f"{labels.shape[0]}x{labels.shape[1]} labels, {len(np.unique(labels))} classes: {out}")
