"""One base class for the callbacks of both packages that Lightning comes in."""

import pytorch_lightning

try:
    from lightning.pytorch import Callback as UnifiedCallback
except ImportError:
    UnifiedCallback = object


class LightningCallback(pytorch_lightning.Callback, UnifiedCallback):  # pyright: ignore[reportGeneralTypeIssues]
    """A callback that trainers of `pytorch_lightning` and of `lightning` both accept.

    Each package refuses callbacks that are not instances of its own class, so this one is an instance of both wherever
    `lightning` is installed too.
    """
