"""Learning from local errors: every layer has its own fixed classifier and its own loss, and nothing crosses layers.

The update of a layer y = max(0, w x) with scores J y and cross entropy is closed: with the softmax p of the scores, the label
as one-hot t and e = p - t, it is dw = ((J' e) * [y > 0]) x'. No graph is built (Jiang et al. 2020, Eqs. (1)-(2); Mostafa et al.
2018).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eigencode.errors import TrainingError
from eigencode.models.papers import JiangNetwork


class LocalErrors:
    """K networks of layers with local errors, as stacked weights that are changed in place.

    Args:
        models: ``JiangNetwork``s of one size.

    Attributes:
        weights: Of each layer, shape (K, units, inputs).
        classifiers: Of each layer, shape (K, classes, units), fixed.

    Raises:
        TrainingError: another kind of network, or several sizes.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        networks = [model for model in models if isinstance(model, JiangNetwork)]
        if len(networks) < len(models) or not networks:
            raise TrainingError(
                f"Local errors need networks whose layers have classifiers of their own; got {type(models[0]).__name__}. "
                "Use jiang_mlp, or eigencode.models.papers.JiangNetwork."
            )
        shapes = {tuple(tuple(weight.shape) for weight in network.parameters()) for network in networks}
        if len(shapes) > 1:
            raise TrainingError("Only networks of one architecture can be stacked; these differ in depth or width.")
        self._given, self._template = networks, networks[0]
        with torch.no_grad():
            self.weights = [
                torch.stack([next(network.layers[layer].parameters()) for network in networks])
                for layer in range(len(networks[0].layers))
            ]
            self.classifiers = [
                torch.stack([next(network.classifiers[layer].parameters()) for network in networks])
                for layer in range(len(networks[0].classifiers))
            ]
        self._buffers: tuple[Tensor, ...] = ()

    @property
    def count(self) -> int:
        """Number of networks K."""
        return len(self.weights[0])

    @property
    def names(self) -> list[str]:
        """The layers' names in each network."""
        return list(self._template.local_readouts())

    @torch.no_grad()
    def step(
        self,
        inputs: Float[Tensor, "members n inputs"],
        labels: Int[Tensor, "members n"],
        rates: Float[Tensor, " members"],
        *,
        layers: range | None = None,
    ) -> tuple[Float[Tensor, "members layers"], Float[Tensor, "members layers"]]:
        """One step of gradient descent on each layer's own mean cross entropy, all layers at once.

        Args:
            inputs: Shape (K, n, inputs).
            labels: Shape (K, n).
            rates: Learning rate of each network.
            layers: Layers that learn; the others stay as they are. Default: all.

        Returns:
            Loss and fraction of correct images before the step, of each network and layer, shape (K, layers); an image whose
            best classes tie counts as one over their number.
        """
        learning = range(len(self.weights)) if layers is None else layers
        wanted, scale = labels[:, None], (rates / labels.shape[1])[:, None, None]
        losses, hits = [], []
        source = inputs
        code, spare, change, scores = self._workspace(inputs)
        for layer, (weight, classifier) in enumerate(zip(self.weights, self.classifiers, strict=True)):
            torch.bmm(source, weight.mT, out=code)
            code.relu_()
            torch.bmm(classifier, code.mT, out=scores)
            logarithms = torch.log_softmax(scores, dim=1)
            losses.append(-logarithms.gather(1, wanted)[:, 0].mean(dim=1))
            hits.append(_hits(scores, wanted).mean(dim=1))
            if layer in learning:  # at once, while weights and codes are in the cache; the next layer's source is unchanged
                errors = logarithms.exp_()
                errors.scatter_add_(1, wanted, errors.new_full((1, 1, 1), -1).expand_as(wanted))
                errors *= scale.to(errors.dtype)
                torch.bmm(errors.mT, classifier, out=change)
                torch.ops.aten.threshold_backward.grad_input(change, code, 0, grad_input=change)
                weight.baddbmm_(change.mT, source, alpha=-1)
            source, code = code, spare
            spare = source
        return torch.stack(losses, dim=1), torch.stack(hits, dim=1)

    @torch.no_grad()
    def scores(self, inputs: Float[Tensor, "members n inputs"]) -> Float[Tensor, "layers members classes n"]:
        """Scores of every layer's own classifier."""
        codes = self.codes(inputs)
        return torch.stack([classifier @ code.mT for classifier, code in zip(self.classifiers, codes, strict=True)])

    @torch.no_grad()
    def codes(self, inputs: Float[Tensor, "members n inputs"]) -> list[Float[Tensor, "members n units"]]:
        """Outputs of every layer."""
        codes, source = [], inputs
        for weight in self.weights:
            source = torch.bmm(source, weight.mT).relu_()
            codes.append(source)
        return codes

    def member(self, number: int) -> JiangNetwork:
        """A network with the present weights of a member; the network that was given, if it was one."""
        network = self._given[0] if self.count == 1 else copy.deepcopy(self._template)
        with torch.no_grad():
            for layer, classifier, weight, fixed in zip(
                network.layers, network.classifiers, self.weights, self.classifiers, strict=True
            ):
                next(layer.parameters()).copy_(weight[number])
                next(classifier.parameters()).copy_(fixed[number])
        return network

    def _workspace(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of two layers, their change, and scores: kept from step to step, fresh memory costs as much as arithmetic."""
        members, n_samples = inputs.shape[:2]
        if not self._buffers or self._buffers[0].shape[:2] != inputs.shape[:2]:
            classes, units = self.classifiers[0].shape[1:]
            outputs = (inputs.new_empty(members, n_samples, units) for _ in range(3))
            self._buffers = (*outputs, inputs.new_empty(members, classes, n_samples))
        return self._buffers


def _hits(scores: Tensor, labels: Tensor) -> Tensor:
    """What each image adds to the accuracy; several times faster than argmax over a dimension that is not the last."""
    own = scores.gather(1, labels)
    return (own[:, 0] >= scores.amax(dim=1)) / torch.count_nonzero(scores >= own, dim=1)
