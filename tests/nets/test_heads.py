"""The heads, all of them on backbones of every kind: any size, aligned, trainable, stage from stage."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fractions import Fraction

import pytest
import timm
import torch
from torch import Tensor, nn

from fullconv.base.errors import GeometryError, UsageError, WeightsError
from fullconv.nets.heads import ALIGNMENTS, DECONVOLUTIONS, fcn4s, fcn8s, fcn16s, fcn32s
from fullconv.nets.segmentation import HEADS, SegmentationNet
from fullconv.nets.surgery import Converted, convolutionalize
from small_nets import BACKBONES, PREPARATION, SPACE, WIDTH, converted, vgg

Builder = Callable[..., SegmentationNet]
FCN: dict[str, Builder] = {"fcn32s": fcn32s, "fcn16s": fcn16s, "fcn8s": fcn8s, "fcn4s": fcn4s}
SIZES = [(1, 1), (1, 50), (31, 33), (32, 32), (97, 40)]


def builder(head: str) -> Builder:
    found: Builder = getattr(importlib.import_module(HEADS[head]), head)
    return found


def built(head: str, kind: str, **words: object) -> SegmentationNet:
    torch.manual_seed(3)
    return builder(head)(converted(kind), label_space=SPACE, preparation=PREPARATION, **words)


def has_head(head: str, kind: str) -> bool:
    return not (kind == "alexnet" and head in ("fcn4s", "sharp")) and not (kind == "patches" and head == "sharp")


def moved_from_start(net: SegmentationNet) -> SegmentationNet:
    """Every weight that learns moved a little, so that nothing is zero for being at the start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return net


# ---------------------------------------------------------------- the contract, over all heads and backbones

PAIRS = [(head, kind) for head in HEADS for kind in BACKBONES if has_head(head, kind)]


@pytest.mark.parametrize(("head", "kind"), PAIRS)
def test_scores_have_the_photos_size_for_every_size(head: str, kind: str) -> None:
    net = built(head, kind).eval()
    for size in SIZES:
        with torch.no_grad():
            scores = net(torch.zeros(1, 3, *size))
        assert scores.shape == (1, SPACE.size, *size)
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("head", ["fcn32s", "fcn8s"])
def test_alignment_paper_covers_every_size(head: str, kind: str) -> None:
    net = built(head, kind, alignment="paper").eval()
    for size in [*SIZES, (33, 47), (64, 95)]:
        with torch.no_grad():
            assert net(torch.zeros(1, 3, *size)).shape[2:] == size


@pytest.mark.parametrize(("head", "kind"), PAIRS)
def test_a_gradient_reaches_every_weight_that_learns(head: str, kind: str) -> None:
    net = moved_from_start(built(head, kind).train())
    photos = torch.randn(2, 3, 97, 70, generator=torch.Generator().manual_seed(9))
    net(photos).square().mean().backward()
    without = [name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without


@pytest.mark.parametrize("head", HEADS)
def test_the_same_seed_gives_the_same_scores(head: str) -> None:
    photo = torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, other = (moved_from_start(built(head, "residual")).eval()(photo) for _ in range(2))
    assert torch.equal(one, other)
    assert one.std() > 0


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_is_pretrained_or_fresh(head: str) -> None:
    net = built(head, "residual")
    groups = net.parameter_groups()
    assert sorted(groups["pretrained"] + groups["fresh"]) == sorted(name for name, _ in net.named_parameters())
    assert groups["pretrained"]
    assert groups["fresh"]
    given = {f"network.body.network.{name}" for name in dict(converted("residual").network.named_parameters())}
    assert set(groups["pretrained"]) <= given


@pytest.mark.parametrize("head", FCN)
def test_a_head_copies_its_backbone(head: str) -> None:
    before = {name: tensor.clone() for name, tensor in converted("vgg").network.state_dict().items()}
    moved_from_start(built(head, "vgg", alignment="paper"))
    assert all(torch.equal(before[name], tensor) for name, tensor in converted("vgg").network.state_dict().items())
    assert not any(getattr(module, "ceil_mode", False) for module in converted("vgg").network.modules())


# ---------------------------------------------------------------- aligned: scores land where the features are


# Pixels in which the padding is felt: cells beside the photo, enlarged in several steps, and pooled by mean.
MARGIN = 80


def sampling(network: nn.Module) -> None:
    """Make every convolution pick the middle of its window (where it is even, the mean of the middle two), channel by
    channel: then a map holds, at each cell, what the photo has at the cell's centre."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            middle = torch.zeros(module.kernel_size)
            rows, columns = (slice((k - 1) // 2, k // 2 + 1) for k in module.kernel_size)
            middle[rows, columns] = 1 / middle[rows, columns].numel()
            with torch.no_grad():
                module.weight.zero_()
                for i in range(module.out_channels):
                    module.weight[i, 0 if module.groups > 1 else min(i, module.weight.shape[1] - 1)] = middle
                if module.bias is not None:
                    module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()


def coordinates(height: int, width: int, scale: float) -> Tensor:
    """(1, 3, H, W) float64: the row, the column and the number 1 at every pixel, times `scale`."""
    rows = torch.arange(height, dtype=torch.float64)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.float64)[None].expand(height, width)
    return torch.stack([rows, columns, torch.ones_like(rows)])[None] * scale


def located(net: SegmentationNet, height: int, width: int) -> Tensor:
    """(2, H, W): where the scores at each pixel come from, after every tap was given an equal share in them."""
    scale = 1e-13  # small: no ReLU6 clips, and GELU is straight
    net = net.double().eval()
    sampling(net.network.body)
    photo = coordinates(height, width, scale)
    maps: list[Tensor] = []
    hook = net.network.body.register_forward_hook(lambda _, __, given: maps.extend(given))
    with torch.no_grad():
        net(photo)
        hook.remove()
        for layer, features in zip(net.network.scores.values(), maps, strict=True):
            gain = features[0, 2].max() / scale  # what the tap makes of the number 1
            layer.weight.zero_()
            for k in range(3):
                layer.weight[k, k] = 1 / (gain * len(maps) * scale)
        scores: Tensor = net(photo)[0]
    return scores[:2]


def without_maximum(kind: str) -> Converted:
    """The backbone with pooling by mean: a maximum over a slope lies at its window's edge, not in its middle."""

    def by_mean(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(
                    module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, count_include_pad=False)
                )
            by_mean(child)

    model = BACKBONES[kind]().eval()
    by_mean(model)
    return convolutionalize(model, 224)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("head", ["fcn32s", "fcn16s", "fcn8s"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_scores_lie_where_their_features_lie(kind: str, head: str, alignment: str) -> None:
    net = FCN[head](without_maximum(kind), label_space=SPACE, preparation=PREPARATION, alignment=alignment)
    for height, width in [(224, 256), (235, 271)]:
        found = located(net, height, width)
        inner = (slice(None), slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
        expected = coordinates(height, width, 1.0)[0, :2]
        torch.testing.assert_close(found[inner], expected[inner], atol=1e-6, rtol=0)


@pytest.mark.parametrize("head", ["fcn32s", "fcn8s"])
def test_scores_of_efficientnet_lite_lie_where_their_features_lie(head: str) -> None:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=2).eval()
    net = FCN[head](convolutionalize(model, 224), label_space=SPACE, preparation=PREPARATION)
    for height, width in [(224, 256), (235, 271)]:
        found = located(net, height, width)
        inner = (slice(None), slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
        torch.testing.assert_close(found[inner], coordinates(height, width, 1.0)[0, :2][inner], atol=1e-6, rtol=0)


# ---------------------------------------------------------------- the paper's nets


def test_the_papers_crops_and_kernels_on_vgg16_are_derived_from_its_own_layers() -> None:
    sixteen = convolutionalize(vgg((2, 2, 3, 3, 3)).eval(), 224)
    crops = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}  # Long et al.'s voc-fcn32s, voc-fcn16s, voc-fcn8s
    kernels = {32: ((64, 64),), 16: ((32, 32), (4, 4)), 8: ((16, 16), (4, 4), (4, 4))}
    for stride, head in ((32, fcn32s), (16, fcn16s), (8, fcn8s)):
        network = head(sixteen, label_space=SPACE, preparation=PREPARATION, alignment="paper").network
        assert [axis.crops() for axis in network.axes] == [crops[stride]] * 2
        assert network.kernels == kernels[stride]
        assert network.axes[0].pad == 99  # and 1 of the first convolution's own
        pooled = [network.body.network.get_submodule(tap.name) for tap in network.body.taps[:-1]]
        assert all(isinstance(layer, nn.MaxPool2d) for layer in pooled)  # pool4 and pool3 themselves
        assert network.body.taps[-1].offset == (Fraction(223, 2),) * 2  # fc7: fc6 and fc7 are in


def test_the_papers_crop_on_alexnet_whose_fc6_stands_behind_a_dropout() -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(4, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Flatten(), nn.Dropout(), nn.Linear(4 * 6 * 6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5)]
    converted = convolutionalize(nn.Sequential(*layers).eval(), 227)
    network = fcn32s(converted, label_space=SPACE, preparation=PREPARATION, alignment="paper").network
    assert [axis.crops() for axis in network.axes] == [(18,)] * 2  # voc-fcn-alexnet
    assert network.body.taps[-1].channels == 8  # fc6 is in


def test_alignment_paper_pools_as_caffe_so_that_every_size_is_covered() -> None:
    net = built("fcn32s", "vgg", alignment="paper").eval()
    assert all(m.ceil_mode for m in net.network.body.modules() if isinstance(m, nn.MaxPool2d))
    for length in range(1, 80):  # rounded down, 375, 500 and 575 other sizes below 1500 are not covered
        with torch.no_grad():
            assert net(torch.zeros(1, 3, length, 10)).shape[2:] == (length, 10)


def test_scores_that_do_not_cover_the_photo_are_an_error() -> None:
    net = built("fcn32s", "vgg", alignment="paper").eval()
    for module in net.network.body.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    with pytest.raises(GeometryError, match="375x500"), torch.no_grad():
        net(torch.zeros(1, 3, 375, 500))


def test_at_once_scales_the_skips_as_the_authors_did() -> None:
    once, staged = built("fcn8s", "vgg", at_once=True), built("fcn8s", "vgg")
    assert once.network.scales == pytest.approx((0.0001, 0.01, 1.0))  # pool3, pool4, coarsest
    assert staged.network.scales == (1.0, 1.0, 1.0)
    photo = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    moved_from_start(once)
    staged.load_state_dict(once.state_dict())
    with torch.no_grad():
        for layer, scale in zip(staged.network.scores.values(), once.network.scales, strict=True):
            layer.weight *= scale
        torch.testing.assert_close(once.eval()(photo), staged.eval()(photo), atol=1e-5, rtol=1e-4)


def test_before_training_every_class_scores_alike() -> None:
    with torch.no_grad():
        assert not built("fcn8s", "residual").eval()(torch.randn(1, 3, 50, 40)).any()


@pytest.mark.parametrize("deconvolution", DECONVOLUTIONS)
def test_deconvolutions_learn_or_stay(deconvolution: str) -> None:
    net = built("fcn8s", "residual", deconvolution=deconvolution)
    learns = {name: p.requires_grad for name, p in net.network.enlargements.named_parameters()}
    assert learns == dict.fromkeys(
        ["from8to1.weight", "from16to8.weight", "from32to16.weight"], deconvolution == "learned"
    )


def test_learned_and_frozen_deconvolutions_start_alike() -> None:
    photo = torch.randn(1, 3, 70, 45, generator=torch.Generator().manual_seed(4))
    learned, frozen = (built("fcn8s", "tf_same", deconvolution=word).eval() for word in DECONVOLUTIONS)
    for net in (learned, frozen):
        with torch.no_grad():
            for i, layer in enumerate(net.network.scores.values()):
                layer.weight.copy_(torch.linspace(-1, 1, SPACE.size * WIDTH).reshape(layer.weight.shape) / (i + 1))
    with torch.no_grad():
        torch.testing.assert_close(learned(photo), frozen(photo), atol=1e-5, rtol=0)


# ---------------------------------------------------------------- stages


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("kind", ["vgg", "tf_same"])
def test_a_stage_starts_with_the_scores_of_the_last(kind: str, alignment: str) -> None:
    photo = torch.randn(1, 3, 90, 70, generator=torch.Generator().manual_seed(6))
    last = built("fcn32s", kind, alignment=alignment, deconvolution="frozen")
    moved_from_start(last.network.body)
    with torch.no_grad():
        last.network.scores["stride32"].weight.normal_(generator=torch.Generator().manual_seed(8))
    for head in ("fcn16s", "fcn8s"):
        stage = built(head, kind, alignment=alignment, deconvolution="frozen", start=last).eval()
        last.eval()
        own, given = stage.network, last.network
        padding = [axis.layout(length) for axis, length in zip(own.axes, photo.shape[2:], strict=True)]
        assert [(p.before, p.after) for p in padding] == [
            (p.before, p.after) for p in (a.layout(n) for a, n in zip(given.axes, photo.shape[2:], strict=True))
        ]
        with torch.no_grad():
            before, after = last(photo), stage(photo)
        # the path of enlargement is another (32 times in several steps), the scores are the same but for its ripple
        assert after.std() > 0
        assert (before - after).abs().mean() < 0.05 * before.abs().mean()
        assert not stage.network.scores["stride16"].weight.any()
        assert torch.equal(stage.network.scores["stride32"].weight, last.network.scores["stride32"].weight)
        last = stage


def test_taps_between_cells_are_exactly_those_of_the_last_stage() -> None:
    """At stride 32 itself nothing is enlarged: the coarsest scores of both stages are the same numbers."""
    last = moved_from_start(built("fcn16s", "residual", deconvolution="frozen"))
    stage = built("fcn8s", "residual", deconvolution="frozen", start=last)
    photo = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = (net.eval().network.body(photo) for net in (last, stage))
    assert torch.equal(one[-1], other[-1])
    assert torch.equal(one[-2], other[-2])


def test_what_the_last_stage_learned_of_enlarging_is_taken_over() -> None:
    last = moved_from_start(built("fcn16s", "residual"))
    stage = built("fcn8s", "residual", start=last)
    assert torch.equal(stage.network.enlargements["from32to16"].weight, last.network.enlargements["from32to16"].weight)


def test_a_stage_of_another_backbone_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"weights do not fit, the first: network\.body"):
        built("fcn16s", "residual", start=built("fcn32s", "tf_same"))
    with pytest.raises(WeightsError, match=r"stride32|from32to16|same kind of deconvolution"):
        built("fcn8s", "residual", start=built("fcn16s", "residual", deconvolution="frozen"))


# ---------------------------------------------------------------- what is asked wrongly


def test_unknown_words_are_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="alignment is one of same, paper"):
        built("fcn8s", "residual", alignment="valid")
    with pytest.raises(UsageError, match="deconvolution is one of learned, frozen"):
        built("fcn8s", "residual", deconvolution="fixed")


def test_a_stride_that_the_backbone_has_not_is_an_error() -> None:
    shallow = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    given = convolutionalize(shallow.eval(), 64)
    with pytest.raises(GeometryError, match=r"stride 32"):
        fcn32s(given, label_space=SPACE, preparation=PREPARATION)
