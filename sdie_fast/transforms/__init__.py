"""Enhancement as a step of other libraries' pipelines.

`Enhance` is for torchvision's v2 transforms, and so for anomalib; `sdie_fast.transforms.albumentations.Enhance` is for
albumentations. Neither library is imported before its transform is asked for; where it is missing, that raises
`MissingPackageError`.

>>> from sdie_fast.transforms import Enhance  # doctest: +SKIP
>>> Enhance("recipe/")(image)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .torchvision import Enhance

__all__ = ["Enhance"]


def __getattr__(name: str) -> Any:
    if name == "Enhance":
        from .torchvision import Enhance

        return Enhance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
