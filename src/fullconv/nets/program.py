"""A user's own backbone written down, so that a bundle loads without its code. Road: nets, below the bundle.

Only the body is written: it is what holds the user's steps, and a head pads every photo to a length that leaves the
same
remainder when divided by the coarsest stride, so that each of its maps has a size that is a plain multiple of one
number. No pickle is written, none is read. In: the body's graph. Out: the bytes of a torch.export archive, and back.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fullconv.base.errors import BundleError
from fullconv.geometry.geometry import same_padding
from fullconv.nets.graph import pads_as_needed
from fullconv.nets.trace import trace

MOST_STRIDES = 4096  # photos of up to 131,072 pixels a side at stride 32


class Program(nn.Module):
    """The steps of a user's own network, as torch.export wrote them: they predict, they cannot be trained further."""

    def __init__(self, steps: nn.Module) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, photos: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the maps of the taps, finest first."""
        return list(self.steps(photos))

    def train(self, mode: bool = True) -> Program:
        """Stays in evaluation mode, in which it was written."""
        self.training = False
        return self


def write_program(
    network: fx.GraphModule, *, stride: int, remainders: tuple[int, int], least: tuple[int, int] = (1, 1)
) -> bytes:
    """The steps of a body for photos of height stride * n + remainders[0] and width stride * m + remainders[1].

    Args:
        network: (N, 3, H, W) -> several maps.
        least: the smallest n and m.
    Raises: BundleError if torch.export cannot write them, or what it wrote gives other maps.
    """
    free = {
        which + 2: stride * torch.export.Dim(name, min=least[which], max=MOST_STRIDES) + remainder
        if remainder
        else stride * torch.export.Dim(name, min=least[which], max=MOST_STRIDES)
        for which, (name, remainder) in enumerate(zip(("rows", "columns"), remainders, strict=True))
    }
    sizes = [(least[i] + 2 + i) * stride + remainders[i] for i in (0, 1)]
    example = torch.randn(2, 3, *sizes)
    buffer = io.BytesIO()
    try:
        fixed = with_fixed_padding(network, (example.shape[2], example.shape[3])).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dynamic = ({0: torch.export.Dim.DYNAMIC, **free},)
            program = torch.export.export(fixed, (example,), dynamic_shapes=dynamic)
            program._example_inputs = None  # the only thing that would be pickled
            torch.export.save(program, buffer)
            check(network, program.module(), stride, remainders, least)
    except BundleError:
        raise
    except Exception as error:  # torch.export raises of many kinds; whatever stopped it is answered here
        raise cannot_write(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300]}") from error
    return buffer.getvalue()


def cannot_write(found: str) -> BundleError:
    return BundleError(
        "a bundle of your own network needs steps that torch.export can write for any height and width",
        found,
        "give the head backbone={'name': ..., 'classes': ...} if the classifier has a name, "
        "or keep net.state_dict() yourself",
    )


def check(
    network: nn.Module, program: nn.Module, stride: int, remainders: tuple[int, int], least: tuple[int, int]
) -> None:
    """Raises: BundleError unless the program gives the network's maps at sizes it was not written at."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        for rows, columns in (least, (least[0] + 1, least[1] + 4)):
            photo = torch.randn(1, 3, rows * stride + remainders[0], columns * stride + remainders[1])
            for one, other in zip(network(photo), program(photo), strict=True):
                if one.shape != other.shape or not torch.allclose(one, other, atol=1e-4, rtol=1e-4):
                    raise cannot_write(
                        f"at {photo.shape[2]}x{photo.shape[3]} the program gives other maps than the network"
                    )
    finally:
        for module, training in modes:
            module.training = training


def with_fixed_padding(network: fx.GraphModule, size: tuple[int, int]) -> fx.GraphModule:
    """A copy in which layers that pad as the size asks for (TF-SAME) pad as they do at `size`, and so at every size
    here.
    """
    traced = trace(copy.deepcopy(network), size)
    for node in list(traced.graph.nodes):
        layer = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, nn.Conv2d) or not pads_as_needed(layer):
            continue
        source = node.args[0]
        around = [
            same_padding(cells, layer.kernel_size[i], layer.stride[i], layer.dilation[i])
            for i, cells in enumerate(source.meta["concrete"].shape[2:])
        ]
        with traced.graph.inserting_before(node):
            node.args = (traced.graph.call_function(F.pad, (source, (*around[1], *around[0]))), *node.args[1:])
        traced.set_submodule(str(node.target), without_padding(layer))
    for node in traced.graph.nodes:
        node.meta.pop("concrete", None)
    traced.recompile()
    return traced


def without_padding(layer: nn.Conv2d) -> nn.Conv2d:
    """The convolution with the same weights and no padding of its own."""
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (layer.kernel_size[0], layer.kernel_size[1]),
        (layer.stride[0], layer.stride[1]),
        dilation=(layer.dilation[0], layer.dilation[1]),
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    plain.load_state_dict(layer.state_dict())
    return plain


def read_program(path: Path) -> Program:
    """Read the steps of a user's own backbone. Raises: BundleError if they are missing, cut off, or hold pickles."""
    if not path.is_file():
        raise BundleError(
            f"a bundle of a user's own network holds {path.name}", f"{path} is not there", "copy the whole folder"
        )
    logger = logging.getLogger("torch.export")
    level = logger.level
    try:
        refuse_pickles(path)
        logger.setLevel(logging.CRITICAL)  # it logs a traceback of what is answered below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Program(torch.export.load(io.BytesIO(path.read_bytes())).module())
    except (zipfile.BadZipFile, RuntimeError, KeyError, ValueError) as error:
        raise BundleError(
            f"{path.name} is a whole file of torch.export",
            f"{path} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0][:300]}",
            "copy the file again, or save the bundle anew",
        ) from error
    finally:
        logger.setLevel(level)


def refuse_pickles(path: Path) -> None:
    """Raises: BundleError if a program holds anything that would be unpickled."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                parts = json.loads(archive.read(name))["config"]
                pickled = [part for part, how in parts.items() if how.get("use_pickle")]
                if pickled:
                    raise BundleError(
                        f"{path.name} holds no pickles, since these can run any code",
                        f"{path}: {', '.join(pickled[:10])}",
                        "get the bundle from where it was made, or save it anew",
                    )
