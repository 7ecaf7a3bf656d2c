"""ONNX files: each operator beside onnx's own reference, whole networks beside torch, surgery, and what is refused."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from fullconv.base.errors import NetError, UsageError
from fullconv.nets.onnx_network import read_onnx
from fullconv.nets.onnx_operators import OPERATORS
from fullconv.nets.surgery import convolutionalize
from small_nets import BACKBONES

onnx = pytest.importorskip("onnx")
helper: Any = onnx.helper

SIZE = (9, 12)
RNG = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


Case = tuple[str, list[Any], dict[str, Any]]

CASES: list[Case] = [
    # operator, inputs after the photo ("x" is the photo again), attributes
    ("Abs", [], {}),
    ("Add", [floats(3, 1, 1)], {}),
    ("Add", ["x"], {}),
    ("AveragePool", [], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    ("BatchNormalization", [floats(3), floats(3), floats(3), np.abs(floats(3))], {"epsilon": 1e-3}),
    ("Cast", [], {"to": 1}),
    ("CastLike", [number(1)], {}),
    ("Clip", [number(0), number(6)], {}),
    ("Clip", [number(-0.5), number(0.25)], {}),
    ("Clip", ["", number(0.25)], {}),
    ("Concat", ["x"], {"axis": 1}),
    ("Conv", [floats(6, 1, 3, 3), floats(6)], {"group": 3, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("Conv", [floats(4, 3, 3, 2)], {"dilations": [2, 1], "pads": [0, 1, 2, 1]}),
    ("Conv", [floats(4, 3, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [floats(4, 3, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    ("Div", [number(3)], {}),
    ("Dropout", [], {}),
    ("Elu", [], {"alpha": 0.7}),
    ("Erf", [], {}),
    ("Exp", [], {}),
    ("Flatten", [], {}),
    ("Gather", [np.array(1, dtype=np.int64)], {"axis": 1}),
    ("Gather", [ints(2, 0)], {"axis": 1}),
    ("Gelu", [], {}),
    ("Gelu", [], {"approximate": "tanh"}),
    ("GlobalAveragePool", [], {}),
    ("GlobalMaxPool", [], {}),
    ("HardSigmoid", [], {}),
    ("HardSigmoid", [], {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSwish", [], {}),
    ("Identity", [], {}),
    ("LayerNormalization", [floats(12), floats(12)], {"epsilon": 1e-3}),
    ("LeakyRelu", [], {"alpha": 0.2}),
    ("LogSoftmax", [], {"axis": 1}),
    ("MatMul", [floats(12, 5)], {}),
    ("Max", ["x"], {}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [], {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("Min", ["x"], {}),
    ("Mish", [], {}),
    ("Mul", [floats(1, 3, 1, 1)], {}),
    ("Neg", [], {}),
    ("PRelu", [floats(3, 1, 1)], {}),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 0, 3), number(0.5)], {}),
    ("Pad", [ints(1, 2, 3, 0), "", ints(2, 3)], {"mode": "edge"}),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 0, 3)], {"mode": "reflect"}),
    ("Pow", [number(2)], {}),
    ("ReduceMax", [ints(2, 3)], {"keepdims": 0}),
    ("ReduceMean", [ints(-1, -2)], {}),
    ("ReduceSum", [ints(1)], {"keepdims": 0}),
    ("Relu", [], {}),
    ("Reshape", [ints(0, 3, 3, -1, 12)], {}),
    ("Reshape", [ints(1, 27, 12)], {}),
    ("Sigmoid", [], {}),
    ("Slice", [ints(1, 0), ints(2**62, 10), ints(2, 3), ints(2, 1)], {}),
    ("Slice", [ints(-2), ints(-1), ints(1)], {}),
    ("Softmax", [], {}),
    ("Softplus", [], {}),
    ("Split", [ints(1, 2)], {"axis": 1}),
    ("Split", [], {"axis": 2, "num_outputs": 2}),
    ("Squeeze", [ints(0)], {}),
    ("Sub", ["x"], {}),
    ("Sum", ["x", "x"], {}),
    ("Tanh", [], {}),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ("Unsqueeze", [ints(1, -1)], {}),
]
ELSEWHERE = {"Gemm", "LRN", "Sqrt"}  # tested below: a matrix, positive numbers; onnx's reference of LRN is wrong


def model_of(nodes: list[Any], weights: dict[str, np.ndarray], *, shape: Any = (1, 3, *SIZE), version: int = 20) -> Any:
    """A model from 'x' to the first output of its last node."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def saved(model: Any, folder: Path) -> Path:
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def model_of_one(case: Case) -> Any:
    name, inputs, settings = case
    names = [i if isinstance(i, str) else f"w{n}" for n, i in enumerate(inputs)]
    weights = {f"w{n}": i for n, i in enumerate(inputs) if not isinstance(i, str)}
    outputs = ["y", "z"] if name == "Split" else ["y"]
    return model_of([helper.make_node(name, ["x", *names], outputs, "one", **settings)], weights)


def reference(model: Any, x: Tensor) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    result: np.ndarray = ReferenceEvaluator(model).run(None, {"x": x.numpy()})[0]
    return result


def photo(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_an_operator_gives_what_its_reference_gives(case: Case, tmp_path: Path) -> None:
    model = model_of_one(case)
    network, size = read_onnx(saved(model, tmp_path), size=(5, 5))
    assert size == SIZE
    x = photo(1, 3, *SIZE)
    np.testing.assert_allclose(network(x).detach().numpy(), reference(model, x), rtol=1e-5, atol=1e-5)


def test_every_operator_has_a_case() -> None:
    assert {name for name, _, _ in CASES} | ELSEWHERE == set(OPERATORS)


def test_a_chain_of_a_matrix_a_root_and_a_bias_of_its_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Sqrt", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "m", "v"], ["d"], alpha=0.5, beta=2.0, transB=1),
        helper.make_node("Gemm", ["d", "n"], ["e"]),
        helper.make_node("MatMul", ["e", "o"], ["f"]),
        helper.make_node("Add", ["w", "f"], ["g"]),
    ]
    weights = {"m": floats(7, 324), "v": floats(1, 7), "n": floats(7, 6), "o": floats(6, 4), "w": floats(4)}
    model = model_of(nodes, weights)
    network, _ = read_onnx(saved(model, tmp_path), size=SIZE)
    x = photo(1, 3, *SIZE)
    np.testing.assert_allclose(network(x).detach().numpy(), reference(model, x), rtol=1e-4, atol=1e-4)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [layer.bias is not None for layer in layers] == [True, False, True]


def test_a_vector_is_no_bias_where_the_product_is_read_elsewhere_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "m"], ["a"]),
        helper.make_node("Add", ["a", "v"], ["b"]),
        helper.make_node("Mul", ["a", "b"], ["c"]),
    ]
    model = model_of(nodes, {"m": floats(12, 4), "v": floats(4)})
    network, _ = read_onnx(saved(model, tmp_path), size=SIZE)
    x = photo(1, 3, *SIZE)
    np.testing.assert_allclose(network(x).detach().numpy(), reference(model, x), rtol=1e-4, atol=1e-4)


def test_response_normalization_sums_the_squares_of_neighbouring_channels(tmp_path: Path) -> None:
    node = helper.make_node("LRN", ["x"], ["y"], size=3, alpha=0.3, beta=0.6, bias=2.0)
    network, _ = read_onnx(saved(model_of([node], {}), tmp_path), size=SIZE)
    x = photo(2, 3, *SIZE)
    sums = torch.stack([(x[:, max(0, c - 1) : c + 2] ** 2).sum(1) for c in range(3)], 1)
    torch.testing.assert_close(network(x), x / (2.0 + 0.1 * sums) ** 0.6)


def test_older_versions_hold_settings_as_attributes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Clip", ["x"], ["a"], min=-0.5, max=0.5),
        helper.make_node("Pad", ["a"], ["b"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.25),
        helper.make_node("Slice", ["b"], ["c"], starts=[1], ends=[3], axes=[1]),
        helper.make_node("Unsqueeze", ["c"], ["d"], axes=[4]),
        helper.make_node("Squeeze", ["d"], ["e"], axes=[4]),
        helper.make_node("ReduceMean", ["e"], ["f"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["f"], ["g"]),
    ]
    model = model_of(nodes, {}, version=9)
    network, _ = read_onnx(saved(model, tmp_path), size=SIZE)
    x = photo(1, 3, *SIZE)
    cut = nn.functional.pad(x.clamp(-0.5, 0.5), (1, 1, 1, 1), value=0.25)[:, 1:3].mean((2, 3)).softmax(1)
    torch.testing.assert_close(network(x), cut)


# ---------------------------------------------------------------------- whole networks


def export(network: nn.Module, path: Path, size: int, **settings: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's exporters say of themselves
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, size, size),), str(path), **settings)
    return path


NETWORKS = {
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
    "shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5),
    "googlenet": lambda: torchvision.models.googlenet(num_classes=5, aux_logits=False, init_weights=False),
    "vgg": BACKBONES["vgg"],
    "patches": BACKBONES["patches"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_gives_the_same_scores_and_becomes_convolutional(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = NETWORKS[name]().eval()
    path = export(network, tmp_path / "net.onnx", 224, dynamo=False)
    read, size = read_onnx(path, size=(64, 64))
    assert size == (224, 224)
    x = photo(3, 3, 224, 224)  # three photos, where the file was written for one
    with torch.no_grad():
        torch.testing.assert_close(read(x), network(x), rtol=1e-4, atol=1e-4)
    converted = convolutionalize(read, 224)
    assert converted.proof.holds
    dense = converted.network(photo(1, 3, 288, 256))[0]
    assert dense.shape[-2] > 1


def test_the_exporter_of_today_keeps_the_names_of_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    network = BACKBONES["vgg"]().eval()
    path = export(network, tmp_path / "net.onnx", 224, dynamo=True, verbose=False)
    assert (tmp_path / "net.onnx").is_file()
    read, _ = read_onnx(path, size=(224, 224))
    x = photo(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(read(x), network(x), rtol=1e-4, atol=1e-4)
    assert set(network.state_dict()) == set(read.state_dict())


class ChannelsLast(nn.Module):
    """ConvNeXt's way: a LayerNorm and a Linear layer over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6, 1e-3), nn.Linear(6, 6)
        self.last, self.out = nn.LayerNorm(6), nn.Linear(6, 5)
        for layer in (self.norm, self.last):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(self.norm(self.conv(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.out(self.last(y.mean((2, 3))))


@pytest.mark.parametrize("version", [13, 17])
def test_a_normalization_written_out_step_by_step_is_a_layer_again(version: int, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = ChannelsLast().eval()
    path = export(network, tmp_path / "net.onnx", 64, dynamo=False, opset_version=version)
    read, _ = read_onnx(path, size=(64, 64))
    x = photo(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(read(x), network(x), rtol=1e-4, atol=1e-4)
    assert [len(list(m.parameters())) for m in read.modules() if isinstance(m, nn.LayerNorm)] == [2, 2]
    assert convolutionalize(read, 64).proof.holds


def test_a_file_that_leaves_the_size_open_is_read_at_the_size_given(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("GlobalAveragePool", ["x"], ["a"]), helper.make_node("Flatten", ["a"], ["b"])],
        {},
        shape=("n", 3, "h", "w"),
    )
    network, size = read_onnx(saved(model, tmp_path), size=(40, 50))
    assert size == (40, 50)
    x = photo(2, 3, 17, 23)
    torch.testing.assert_close(network(x), x.mean((2, 3)))


def test_weights_of_16_bits_become_float32_and_can_be_trained(tmp_path: Path) -> None:
    half = floats(4, 3, 1, 1).astype(np.float16)
    nodes = [helper.make_node("Conv", ["x", "conv.weight"], ["a"]), helper.make_node("Mul", ["a", "scale"], ["b"])]
    model = model_of(nodes, {"conv.weight": half, "scale": half[:, :1]})
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    network, _ = read_onnx(saved(model, tmp_path), size=SIZE)
    weights = dict(network.named_parameters())
    assert set(weights) == {"conv.weight", "scale"}
    assert all(weight.dtype == torch.float32 and weight.requires_grad for weight in weights.values())
    torch.testing.assert_close(weights["conv.weight"].detach(), torch.from_numpy(half.astype(np.float32)))


# ---------------------------------------------------------------------- what is refused


def test_operators_that_are_not_read_are_counted_by_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Hardmax", ["x"], ["a"]),
        helper.make_node("Hardmax", ["a"], ["b"]),
        helper.make_node("TopK", ["b", "k"], ["c", "d"]),
    ]
    with pytest.raises(NetError, match=r"net\.onnx has 2 Hardmax, 1 TopK"):
        read_onnx(saved(model_of(nodes, {"k": ints(1)}), tmp_path), size=SIZE)


def test_a_step_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "x"], ["a"], "first")
    with pytest.raises(NetError, match="Conv 'first' reads 'x', which depends on the photo"):
        read_onnx(saved(model_of([node], {}), tmp_path), size=SIZE)


def test_a_second_output_that_is_read_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a", "where"], "first", kernel_shape=[2, 2]),
        helper.make_node("Cast", ["where"], ["b"], to=1),
    ]
    with pytest.raises(NetError, match="MaxPool 'first' gives 'where', which is read"):
        read_onnx(saved(model_of(nodes, {}), tmp_path), size=SIZE)


@pytest.mark.parametrize("shape", [(1, 9, 12, 3), (1, 3), (1, 1, 9, 12)])
def test_a_file_that_reads_no_photo_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(NetError, match=r"one float tensor \(N, 3, H, W\)"):
        read_onnx(saved(model_of([helper.make_node("Relu", ["x"], ["y"])], {}, shape=shape), tmp_path), size=SIZE)


def test_a_damaged_and_an_absent_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07no model")
    with pytest.raises(NetError, match="is whole"):
        read_onnx(tmp_path / "bad.onnx", size=SIZE)
    with pytest.raises(UsageError, match="does not exist"):
        read_onnx(tmp_path / "none.onnx", size=SIZE)


def test_the_package_that_reads_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'fullconv\[onnx\]'"):
        read_onnx(tmp_path / "none.onnx", size=SIZE)
