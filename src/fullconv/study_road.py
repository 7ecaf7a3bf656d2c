"""The road of a study: samples -> case -> findings -> answers of networks -> page. Read it first.

In: what is asked. Out: study.html, study.json and fixes.json. Loads torch only where networks are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fullconv.report.study_page import write_study
from fullconv.study.case import Case, read_case
from fullconv.study.document import Answers
from fullconv.study.findings import Finding
from fullconv.study.questions import Questions
from fullconv.study.rules import findings_of


@dataclass(frozen=True)
class Studied:
    """What a study found; `document` is study.json."""

    case: Case
    findings: tuple[Finding, ...]
    document: dict[str, Any]


def study_samples(asked: Questions, *, say: Callable[[str], None] = lambda _: None) -> Studied:
    """Study samples: findings, and what else is asked; the same call goes on where a stopped one was.

    Args:
        say: takes the sentences that tell a person what is done.
    Returns: what study.json, study.html and fixes.json in `asked.out` show.
    Raises: as `read_case` and `read_samples`; UsageError for samples that are too few to train on; TrainingError,
        DiskFull.
    """
    answers: Answers | None = None
    if asked.trains:
        from fullconv.study_answers import answers_to

        case, answers = answers_to(asked, say=say)
    else:
        case = read_case(
            asked.data, classes=asked.classes or None, others=asked.others, void=asked.void, splits=asked.splits
        )
    findings = findings_of(case)
    return Studied(case, tuple(findings), write_study(asked.out, case, findings, answers))
