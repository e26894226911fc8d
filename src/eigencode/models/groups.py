"""Groups of networks by one name. Nothing heavy is imported here."""

from __future__ import annotations

GROUPS = {
    # The paper gives five families and the number eleven, not the list: chosen so that every family and size is there.
    "schaeffer2020": tuple(
        f"torchvision:{name}"
        for name in (
            "alexnet",
            "googlenet",
            "mnasnet0_5",
            "mnasnet1_0",
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "vgg16",
            "vgg19",
        )
    )
}


def expand(spec: str) -> tuple[str, ...]:
    """The networks of a named group, or the name itself.

    Example:
        >>> len(expand("schaeffer2020")), expand("gerum_cnn")
        (11, ('gerum_cnn',))
    """
    return GROUPS.get(spec, (spec,))
