"""The checker of annotated types, for pytest's `--jaxtyping-packages`."""

from beartype import BeartypeConf, beartype

# A whole number is a float too, as type checkers have it (PEP 484).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
