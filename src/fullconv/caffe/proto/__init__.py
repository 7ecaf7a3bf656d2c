"""pycaffe's `caffe.proto`, which has `caffe_pb2`. Road: caffe, beside io. Knows no torch."""

from fullconv.caffe.proto import caffe_pb2
