"""The repeated blocks of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def blocks_of(model: nn.Module, modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Names of the repeated blocks of a network.

    The blocks are the modules of one class, with children of their own, of which any one container has most (a Sequential,
    ModuleList or ModuleDict); of two classes, those with more weights. All modules of that class that lie in containers are
    blocks. Where the network has more as its own attributes, these are the blocks: of all classes of which it has several, but
    for those that others of them are made of.

    Args:
        model: Network.
        modules: Name -> module, in the order of the network.

    Returns:
        Names, in that order; none if nothing is repeated.
    """
    contained = {
        f"{name}.{key}": child
        for name, module in modules.items()
        if isinstance(module, _CONTAINERS)
        for key, child in module.named_children()
        if _may_be_block(child)
    }
    most: dict[type, tuple[int, int, int]] = {}
    for kind in {type(child) for child in contained.values()}:
        own = [(name, child) for name, child in contained.items() if type(child) is kind]
        longest = max(Counter(name.rpartition(".")[0] for name, _ in own).values())
        most[kind] = (longest, len(own), sum(weights.numel() for _, child in own for weights in child.parameters()))
    kind = max(most, key=lambda each: most[each], default=nn.Module)
    attributes = Counter(type(child) for child in model.children() if _may_be_block(child))
    parts = {
        type(part) for child in model.children() if attributes[type(child)] > 1 for part in child.modules() if part is not child
    }
    named = {each: count for each, count in attributes.items() if count > 1 and each not in parts}
    if max(named.values(), default=1) > most.get(kind, (1,))[0]:
        return tuple(name for name, module in modules.items() if "." not in name and type(module) in named)
    found = tuple(name for name in modules if type(contained.get(name)) is kind)
    return found if len(found) > 1 else ()


def _may_be_block(module: nn.Module) -> bool:
    """Whether it has children of its own, and is more than a container of them."""
    return type(module) not in _CONTAINERS and any(True for _ in module.children())
