"""The run-time type checker behind --jaxtyping-packages: whole numbers pass as real ones, as they do for mypy."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
