"""``eigencode doctor``."""

from __future__ import annotations

from eigencode.configuration import DoctorConfig
from eigencode.doctor import examine


def run(config: DoctorConfig) -> None:
    """Prints what there is and what is missing."""
    found = examine(config.data_root)
    for section in ("versions", "hardware", "data"):
        print(f"{section}:")
        for key, value in found[section].items():
            shown = {True: "there", False: "missing"}.get(value, value) if isinstance(value, bool) else value
            print(f"  {key}: {shown}")
    print(f"data root: {found['data_root']}")
    print("missing:" if found["missing"] else "missing: nothing")
    for what, remedy in found["missing"].items():
        print(f"  {what}: {remedy}")
