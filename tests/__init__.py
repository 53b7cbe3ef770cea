"""Tests; `checked` is their run-time type checker, for which an int will do where a float is expected."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
