"""How many images a network classifies rightly while its layers are measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eigencode import _processes
from eigencode.activations import possible_scores
from eigencode.datasets.images import UNLABELLED

_MATRIX = 2
"""Dimensions of scores (n, classes)."""


class Accuracy:
    """Counts the images whose largest score is that of their class."""

    def __init__(self) -> None:
        self.right = self.labelled = self.without = 0
        self.note = ""

    def update(self, output: Any, labels: Tensor | None) -> None:
        """Adds a batch: what the network gave, and the classes, -1 where unknown."""
        if labels is None:
            return
        possible = possible_scores(output)
        scores = next(iter(possible), None)
        known = labels != UNLABELLED
        if sum(each.ndim == _MATRIX and len(each) == len(labels) for each in possible) > 1:
            self.without += int(known.sum())
            self.note = (
                "the network returns several tensors, and does not say which are the scores of classes by calling it logits"
            )
            return
        is_matrix = scores is not None and scores.ndim == _MATRIX and len(scores) == len(labels)
        if scores is None or not is_matrix or int(labels.max()) >= scores.shape[1]:
            self.without += int(known.sum())
            self.note = "the network does not give one score for each class"
            if scores is not None and is_matrix:
                self.note = f"labels go up to {int(labels.max())}, and the {scores.shape[1]} outputs are numbered from 0"
            return
        self.right += int((scores.argmax(dim=1).cpu() == labels)[known].sum())
        self.labelled += int(known.sum())

    def result(self, *, together: bool) -> tuple[float | None, int]:
        """Accuracy, None if some labelled images had no score for their class, and labelled images.

        Args:
            together: Add up what all processes have counted; collective.
        """
        counts = torch.tensor([self.right, self.labelled, self.without])
        right, labelled, without = (_processes.total(counts) if together else counts).tolist()
        return (right / labelled if labelled and not without else None), labelled + without
