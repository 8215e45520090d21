"""A model in memory, laid out as one on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from darkpipe.errors import ProductError
from darkpipe.files.layout import ModelDir
from darkpipe.files.products import Frame, Product


@dataclass(frozen=True, eq=False)
class HeldModel(ModelDir):
    """A model folder whose products are in memory, `held`, by the place that they would have on disk."""

    held: Mapping[Path, Frame] = field(default_factory=dict, repr=False)

    def product(self, path: Path) -> Product:
        """What is held under this place.

        Raises
        ------
        ProductError
            when nothing is.
        """
        if path not in self.held:
            raise ProductError("this model in memory does not hold the product", where=path)
        return self.held[path]

    def has(self, path: Path) -> bool:
        """Whether anything is held under this place."""
        return path in self.held
