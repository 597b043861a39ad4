"""Models and a gallery of a few drawn photos that several tests search in, and a page of them."""

import asyncio
import threading
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from waldo_utils.app import searching
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.data.transforms import TestTransform
from waldo_utils.experiments import published
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer


def small_models(seed=0):
    torch.manual_seed(seed)
    image = ImageModel("efficientnet_lite0", dim=16).eval()
    reranker = RerankingTransformer(dim=16, heads=2, layers=2, feedforward=32).eval()
    return Models(image, image, reranker, TestTransform(32, 32), 32, "random", False, f"digest{seed}")


def published_state(seed, matcher=True):
    """Return a state dict of the published form with random weights."""
    torch.manual_seed(seed)
    model, reranker = ImageModel("resnet50"), RerankingTransformer()
    state = {published.published_name(name): value for name, value in model.state_dict().items()}
    if matcher:
        own = reranker.state_dict().items()
        state |= {published.published_name(name, matcher=True): value for name, value in own}
    return state | {"classifier.weight": torch.zeros(11318, 128), "classifier.bias": torch.zeros(11318)}


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


@contextmanager
def page_served(opened, base="/"):
    """Serve a demo from a thread of this process and yield its address."""
    from tornado.httpserver import HTTPServer

    from waldo_utils.app import page

    loop = asyncio.new_event_loop()
    ready, end = threading.Event(), asyncio.Event()
    listening = page.listen("127.0.0.1", 0)

    async def serve():
        server = HTTPServer(page.application(opened, base))
        server.add_socket(listening)
        ready.set()
        await end.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}{base}"
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()
