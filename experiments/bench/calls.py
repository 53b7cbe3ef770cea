"""Arguments of a call, as they are typed on a command line."""

import ast
from typing import Any


def arguments_in(text: str) -> dict[str, Any]:
    """Read arguments as they stand in a call.

    >>> arguments_in("mask_size=8, views=None")
    {'mask_size': 8, 'views': None}

    Raises:
        ValueError: If they are no plain values with names.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            found = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
            if None not in found:
                return {name: value for name, value in found.items() if name is not None}
    except (SyntaxError, ValueError):
        pass
    raise ValueError(f"expected NAME=VALUE, NAME=VALUE with plain values, got {text!r}")
