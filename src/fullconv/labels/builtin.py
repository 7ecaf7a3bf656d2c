"""Label spaces that need no class file: the 21 classes of PASCAL VOC, the 11 of CamVid. Knows no files."""

from __future__ import annotations

from fullconv.labels.space import Colour, LabelSpace


def voc_palette(size: int = 256) -> tuple[Colour, ...]:
    """The VOC colours by their rule: the bits of an id, three at a time, fill red, green and blue from the top.

    Source: VOClabelcolormap.m of the VOC development kit.

    >>> voc_palette(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    return tuple(_voc_colour(index) for index in range(size))


def _voc_colour(index: int) -> Colour:
    channels = [0, 0, 0]
    for level in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * level + channel) & 1) << (7 - level)
    return channels[0], channels[1], channels[2]


VOC_PALETTE = voc_palette()
VOID_COLOUR = VOC_PALETTE[255]

_VOC_NAMES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]

VOC_21 = LabelSpace(
    names=tuple(_VOC_NAMES),
    colours=VOC_PALETTE[:21],
    file_values=tuple((index,) for index in range(21)),
    void_values=(255,),
    background=0,
)

VOC_21_COLOURS = LabelSpace(
    names=VOC_21.names,
    colours=VOC_21.colours,
    file_values=tuple((colour,) for colour in VOC_21.colours),
    void_values=(VOID_COLOUR,),
    background=0,
)

# The 11 classes and the order are those of the SegNet tutorial; 11 is what has no label.
CAMVID_11 = LabelSpace(
    names=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    colours=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    file_values=tuple((index,) for index in range(11)),
    void_values=(11,),
)
