"""Models and a gallery of a few drawn photos that several tests search in."""

import numpy as np
import torch
from PIL import Image

from waldo_utils.app import searching
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.data.transforms import TestTransform
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer


def small_models(seed=0):
    torch.manual_seed(seed)
    image = ImageModel("efficientnet_lite0", dim=16).eval()
    reranker = RerankingTransformer(dim=16, heads=2, layers=2, feedforward=32).eval()
    return Models(image, image, reranker, TestTransform(32, 32), 32, "random", False, f"digest{seed}")


def drawn_photo(seed, size=(48, 40)):
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def small_gallery(models, count=6, products=("a", "a", "b", "b", "c", "")):
    photos = [drawn_photo(i) for i in range(count)]
    batch = torch.stack([searching.prepare(models, photo) for photo in photos])
    embedding, local = searching.features(models, batch)
    names = [f"photo{i}.jpg" for i in range(count)]
    products = np.array(products)
    return Gallery(embedding, local, names, products, np.where(products == "", "", "toy"), photos.__getitem__)
