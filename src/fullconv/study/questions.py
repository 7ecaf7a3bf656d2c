"""What a study is asked. Road: study, first. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullconv.base.errors import UsageError


@dataclass(frozen=True)
class Questions:
    """What a study is asked; the flags of `fullconv study`.

    Args:
        data, classes, others, void, splits: as `read_samples` has them.
        out: gets study.html, study.json, fixes.json and what is trained.
        run: a finished run of the data: wrong labels by networks like its own. Classes and splits are those of the run.
        value: what each sample of train is worth; without `run`, wrong labels by small networks too.
        curve: what more samples would bring.
        unlabelled: a folder of photos without label maps, which of them to label next.
        batch: how many of these, at least 1.
    Raises: UsageError for a batch of none, or classes or splits beside a run.
    """

    data: Path
    out: Path
    run: Path | None = None
    value: bool = False
    curve: bool = False
    unlabelled: Path | None = None
    batch: int = 24
    classes: tuple[str, ...] = ()
    others: str = "void"
    void: str | None = None
    splits: Path | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError("a batch has at least one photo", f"{self.batch}", "--batch 24")
        if self.run is not None and (self.classes or self.others != "void" or self.void or self.splits):
            raise UsageError(
                "with --run the classes and splits are those of the run",
                "--run beside --classes, --others, --void or --splits",
                "leave them out",
            )

    @property
    def of_small_networks(self) -> bool:
        """Whether it takes small networks to answer."""
        return self.value or self.curve or self.unlabelled is not None

    @property
    def trains(self) -> bool:
        """Whether it takes more than a look at the samples."""
        return self.run is not None or self.of_small_networks
