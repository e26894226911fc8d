"""What the networks of a group are made of and shown: images, initial weights, components, images that other networks make."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from eigencode import datasets, models
from eigencode._digests import digest_of, short_digest
from eigencode._files import alone
from eigencode._running import usable_device
from eigencode.attacks import ConstructedSet, Construction, by_name, construct
from eigencode.datasets import ImageSet
from eigencode.errors import CheckpointError, ReliabilityWarning, TrainingError
from eigencode.perturbations import PrincipalComponents
from eigencode.perturbations.specification import PerturbationSpec
from eigencode.studies.cell import RESULT_VERSION, CellConfig, ImagesSpec, Readout
from eigencode.training import JacobianSettings, MemberSettings, SpectralSettings
from eigencode.training.grouping import Trained, train_group

Report = Callable[[str, int, int, str], None]
"""Called with what is being done, how much is done, how much there is, and what was seen of it."""

SOURCE_SEED = 1000
"""Seed of networks with whose features images are made; no shipped study reads a network of this seed."""

MADE_FROM = 3000
"""Images that are made where a plan does not say how many."""

_KEPT: ContextVar[dict[tuple[Any, ...], ImageSet] | None] = ContextVar("images that groups share", default=None)
_MOST_KEPT = 4


@contextmanager
def images_kept() -> Iterator[None]:
    """Inside, groups that name the same images share them; they are loaded once, and what is changed meanwhile is not seen."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def images_of(spec: ImagesSpec, *, held_out: bool, data_root: str | None, download: bool = True) -> ImageSet:
    """The images that networks are trained on, or the others.

    Args:
        spec: Data set and sizes.
        held_out: Those that no network is trained on.
        data_root: Folder of data sets.
        download: Fetch images that are not there.

    Raises:
        DataError: no such data set.
        NotDownloadedError: images are not there, and ``download`` is false.
    """
    split = spec.split if not held_out else "train" if spec.split == "test" else "test"
    count = spec.test_count if held_out else spec.train_count
    key = (spec.data, split, count, spec.seed, spec.size, data_root)
    kept = _KEPT.get()
    if kept is not None and key in kept:
        return kept[key]
    found = datasets.load(
        spec.data,
        split=split,
        count=count,
        seed=spec.seed,
        root=data_root,
        image_size=spec.size,
        download=download,
    )
    if kept is not None:
        if len(kept) >= _MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = found
    return found


class GroupResources:
    """Loads, trains and makes what a plan names, each thing once.

    Args:
        plan: A plan; of its ``member`` the learning rate alone plays a part, for networks that make images.
        data_root: Folder of data sets.
        device: Where to run. Default: CUDA where there is one.
        states: Folder for the state of unfinished training, and for images that were made.
        report: Called while something is trained or made.
        download: Fetch images that are not there.
    """

    def __init__(
        self,
        plan: CellConfig,
        *,
        data_root: str | None,
        device: str | None,
        states: Path | None = None,
        report: Report | None = None,
        download: bool = True,
    ) -> None:
        self.plan, self.data_root, self._states, self._report = plan, data_root, states, report
        self._download = download
        self.device = usable_device(device, written="`device`")
        self._sources: dict[str, nn.Module] = {}

    @cached_property
    def training(self) -> ImageSet:
        """Training images."""
        return images_of(self.plan.images, held_out=False, data_root=self.data_root, download=self._download)

    @cached_property
    def test(self) -> ImageSet:
        """Test images."""
        return images_of(self.plan.images, held_out=True, data_root=self.data_root, download=self._download)

    def network(self, cell: MemberSettings) -> nn.Module:
        """A network with its weights, or with the initial ones that its seed decides."""
        spec = self.plan.network
        options: dict[str, Any] = dict(spec.options)
        shape = self.test.shape
        return models.load(spec.model, weights=spec.weights or spec.initial, image_shape=shape, seed=cell.seed, **options).to(
            self.device
        )

    def trained(self, cells: list[MemberSettings], folder: Path | None) -> Trained:
        """Networks after the plan's training, which goes on from the folder if it was begun there; what is damaged is removed."""
        train_all = partial(
            train_group,
            self.network,
            self.training,
            settings=self.plan.training,
            cells=cells,
            held_out=self.test,
            checkpoint=folder / "group.safetensors" if folder else None,
            progress=lambda done, total, seen: self.say("training", done, total, _in_words(seen)),
        )
        try:
            return train_all()
        except CheckpointError:
            if folder is None:
                raise
            text = f"A state in {folder} is damaged or of another run. It was removed, and training starts again."
            warnings.warn(text, ReliabilityWarning, stacklevel=2)
            for state in folder.glob("*.safetensors"):
                state.unlink()
            return train_all()

    def perturbation(self, spec: PerturbationSpec) -> Any:
        """A perturbation or attack."""
        return by_name(spec.kind, spec, components=lambda: self._components)

    @cached_property
    def _components(self) -> PrincipalComponents:
        return PrincipalComponents.fit(self.training)

    def made(self, spec: PerturbationSpec, strength: float) -> ImageSet:
        """Images that another network makes from training images (Ilyas et al. 2019), or a data set that was made so.

        That network is the plan's, with another seed and without penalties, trained adversarially with ``strength`` as its l2
        budget. What was made once is kept beside unfinished training.

        Raises:
            TrainingError: the other network cannot be trained.
        """
        if spec.data:
            found = self.released[spec.data]
            return found.subset(min(spec.count or MADE_FROM, len(found)), seed=0)
        source = source_of(self.plan, strength)
        count = min(spec.count or MADE_FROM, len(self.training))
        construction = Construction(spec.kind, steps=spec.n_steps)  # type: ignore[arg-type]
        if self._states is None:
            return self._make(source, construction, count, None).images
        folder = self._states.absolute() / "made" / f"{RESULT_VERSION}-{source.network_identity}{code_digest(source)}"
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps([self._digest, count, asdict(construction)], sort_keys=True)
        path = folder / f"{spec.kind}-{short_digest(text)}.safetensors"
        with alone(folder / "lock"):  # several processes may need the same images
            if not path.exists():
                self._make(source, construction, count, folder).save(path)
        return datasets.load(f"tensors:{path}")

    @cached_property
    def released(self) -> dict[str, ImageSet]:
        """Data sets that the plan names in place of images that would be made.

        Raises:
            DataError: one is not there.
        """
        named = {spec.data for spec in self.plan.reading.perturbations if spec.data}
        return {name: datasets.load(name, root=self.data_root) for name in sorted(named)}

    @cached_property
    def _digest(self) -> str:
        """Of the training images, so that images made from others are not taken for theirs."""
        return digest_of({"inputs": self.training.inputs, "labels": self.training.labels})

    def _make(self, source: CellConfig, construction: Construction, count: int, folder: Path | None) -> ConstructedSet:
        name = source.network_identity
        if name not in self._sources:
            others = GroupResources(source, data_root=self.data_root, device=self.device, report=self._report)
            trained = others.trained([source.member], folder)
            if trained.failed:
                reason = trained.failed[source.member]
                raise TrainingError(f"{construction.kind}: the network that makes these images cannot be trained: {reason}")
            self._sources[name] = trained.networks[source.member]
        return construct(
            self._sources[source.network_identity], self.training.subset(count, seed=0), construction, progress=self.say
        )

    def say(self, stage: str, done: int, total: int, seen: str = "") -> None:
        """Reports what is being done."""
        if self._report:
            self._report(stage, done, total, seen)


def _in_words(seen: dict[str, float]) -> str:
    """Loss, accuracy and alpha, as far as they are known."""
    return "  ".join(f"{name} {value:.3f}" for name, value in seen.items() if not math.isnan(value))


def code_digest(plan: CellConfig) -> str:
    """A hash of the code that a user's own network is made by, since the plan names its file alone; empty for others."""
    if not plan.network.model.startswith("file:"):
        return ""
    code = Path(plan.network.model.removeprefix("file:").rpartition(":")[0])
    return f"-{short_digest(code.read_bytes())}" if code.is_file() else ""


def source_of(plan: CellConfig, budget: float) -> CellConfig:
    """The plan of a network that makes images: trained alone, as nothing but the budget of its attacks says."""
    attacked = replace(plan.training.adversarial, epsilon=budget, norm="l2")
    training = replace(plan.training, adversarial=attacked, spectral=SpectralSettings(layers=""), jacobian=JacobianSettings())
    member = MemberSettings(seed=SOURCE_SEED, learning_rate=plan.member.learning_rate)
    return replace(plan, training=training, member=member, reading=Readout())
