"""Which layers a net has in a phase, and the layers that share a blob out. Road: caffe, between a message and a graph.

Source: docs/explanation/caffe.md, "Phases" and "Splits". Knows no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fullconv.base.errors import CaffeError
from fullconv.caffe.message import Message


@dataclass(frozen=True)
class State:
    """What include and exclude rules ask for.

    Args:
        phase: "TRAIN" or "TEST".
    """

    phase: str = "TEST"
    level: int = 0
    stages: frozenset[str] = frozenset()

    def meets(self, rule: Message) -> bool:
        """Whether all conditions of a NetStateRule hold."""
        return (
            (not rule.has("phase") or rule.phase == self.phase)
            and (not rule.has("min_level") or self.level >= rule.min_level)
            and (not rule.has("max_level") or self.level <= rule.max_level)
            and self.stages >= set(rule.stage)
            and self.stages.isdisjoint(rule.not_stage)
        )


def kept(layers: Sequence[Message], state: State, *, of: str) -> list[Message]:
    """The layers that a state has. Raises: CaffeError for a layer with include and exclude rules."""
    found = []
    for layer in layers:
        if layer.include and layer.exclude:
            raise CaffeError("a layer has include or exclude rules", f"{of}: '{layer.name}' has both", "leave one out")
        stays = any(map(state.meets, layer.include)) if layer.include else not any(map(state.meets, layer.exclude))
        if stays:
            found.append(layer)
    return found


def with_splits(layers: Sequence[Message], *, of: str) -> list[Message]:
    """Layers with a Split behind each blob that is used more than once, named as Caffe names them.

    Raises: CaffeError for a bottom that no layer before makes.
    """
    made: dict[str, tuple[int, int]] = {}  # blob -> layer and top that made it last
    uses: Counter[tuple[int, int]] = Counter()
    source: dict[tuple[int, int], tuple[int, int]] = {}  # layer and bottom -> layer and top
    for number, layer in enumerate(layers):
        for place, blob in enumerate(layer.bottom):
            if blob not in made:
                raise CaffeError(
                    "a bottom is a top of a layer before",
                    f"{of}: '{layer.name}' takes '{blob}', which no layer before it makes",
                    "check the name, the order of layers, and what include and exclude leave out",
                )
            source[number, place] = made[blob]
            uses[made[blob]] += 1
        for place, blob in enumerate(layer.top):
            made[blob] = number, place
        for place, weight in enumerate(layer.loss_weight):
            if weight and place < len(layer.top):
                uses[number, place] += 1  # its loss
    found: list[Message] = []
    given: Counter[tuple[int, int]] = Counter()
    for number, layer in enumerate(layers):
        one = layer.copied()
        for place, blob in enumerate(layer.bottom):
            at = source[number, place]
            if uses[at] > 1:
                one.bottom[place] = _split_name(layers[at[0]], blob, at[1], given[at])
                given[at] += 1
        found.append(one)
        for place, blob in enumerate(layer.top):
            if uses[number, place] > 1:
                split = Message(
                    "LayerParameter", name=f"{blob}_{layer.name}_{place}_split", type="Split", bottom=[blob]
                )
                split.top = [_split_name(layer, blob, place, k) for k in range(uses[number, place])]
                if place < len(layer.loss_weight) and layer.loss_weight[place]:
                    split.loss_weight = [layer.loss_weight[place], *[0.0] * (len(split.top) - 1)]
                    one.loss_weight = [0.0 if at == place else w for at, w in enumerate(one.loss_weight)]
                    given[number, place] += 1
                found.append(split)
    return found


def _split_name(layer: Message, blob: str, top: int, number: int) -> str:
    return f"{blob}_{layer.name}_{top}_split_{number}"
