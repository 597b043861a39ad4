"""The photos of one split, with what is known of them, as every notebook after the first reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from waldo_utils.data import photo_cache
from waldo_utils.data.photo_cache import PhotoCache
from waldo_utils.disk import artifacts
from waldo_utils.study import Study


@dataclass(frozen=True)
class Split:
    """The photos of a split.

    Attributes:
        rows: the N rows of the manifest, with its index.
        photos: the N photos, in the order of `rows`.
        maps: what the frozen trunk of the image model gives of them (`trunk_maps.TrunkMaps`), where a study
            computes with it.
    """

    rows: pd.DataFrame
    photos: PhotoCache
    maps: Sequence[Tensor] | None = None

    @property
    def inputs(self) -> Sequence[Tensor]:
        """What the image model computes with: the trunk's maps where there are any, else the photos."""
        return self.photos if self.maps is None else self.maps

    @property
    def labels(self) -> np.ndarray:
        """(N,) product of each photo."""
        return self.rows.label.to_numpy()

    @property
    def sets(self) -> np.ndarray | None:
        """(N,) name of the set that each photo comes from, which is searched by itself; None where all are of
        one."""
        return self.rows["set"].to_numpy() if "set" in self.rows else None

    @property
    def categories(self) -> np.ndarray:
        """(N,) category of each photo."""
        return self.rows.category.to_numpy()

    def take(self, places: np.ndarray) -> "Split":
        """Return the split of some photos, in the order of `places`, which count from 0 in this one."""
        maps = None if self.maps is None else self.maps.subset(places)
        return Split(self.rows.iloc[places], self.photos.subset(places), maps)


def open_splits(study: Study, transfer: bool = False) -> dict[str, Split]:
    """Open the photos of a study by split, in the manifest's order: "train", "validation" and "test".

    Args:
        study: whose notebook 01 has run.
        transfer: the photos of the transfer set, which has no validation products.

    Raises:
        FileNotFoundError, ValueError: manifest or photos are missing, damaged or of other settings.
    """
    prefix = "transfer_" if transfer else ""
    manifest = artifacts.load_frame(study, f"data/{prefix}manifest")
    photos = photo_cache.open_cache(artifacts.data_folder(study) / f"{prefix}photos")
    parts = {name: manifest[manifest.split == name] for name in ("train", "validation", "test")}
    return {
        name: Split(rows, photos.subset(rows.index.to_numpy())) for name, rows in parts.items() if len(rows)
    }
