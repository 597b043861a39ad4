"""The reranking transformer prepared for scoring many pairs: the scores of its `forward` in a fraction of the
time."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waldo_utils.models.devices import device, linear
from waldo_utils.models.inference import Compiled
from waldo_utils.models.matching import local_matching
from waldo_utils.models.reranker import RerankingTransformer, sine_position_code

QUERY, GALLERY = 2, 3  # the photo's side of the pair: rows of the reranker's segment embedding
SAFE_LOGIT = 80.0  # exp(80) times some hundred tokens is finite, exp(-80) is a normal number
ENCODED_AT_ONCE = 64  # photos; what lies between features and codes stays in the processor's cache
PAIRS = {"cpu": 48, "cuda": 4096}  # computed at once: their activations fit the processor's cache
COMPILED = 8  # likewise, by one core, where the layers are compiled


class Scorer:
    """Scores pairs of photos as `RerankingTransformer.forward` does, without gradients.

    What depends on one photo alone is computed once per photo (`encode`): its tokens and their queries, keys
    and values in the first layer. `score` runs the layers on pairs of such codes; the last one computes
    `[CLS]` only. In float32 on processors they are compiled (see `Compiled`).
    The weights are copied and cast once: a scorer does not follow later changes of the reranker.

    Args:
        reranker: the transformer.
        precision: of the products. float32 gives the scores of `forward` up to rounding; bfloat16 keeps three
            digits. What runs through the layers, tokens plus all that is added to them, is float32 in both.
    """

    def __init__(self, reranker: RerankingTransformer, precision: torch.dtype = torch.float32):
        self.precision = precision
        self.layers = _Layers(reranker, precision)
        self.segment, self.reduce = self.layers.segment, self.layers.reduce
        self.dim, self.local = self.layers.dim, reranker.local
        self.compiled: dict[tuple, Compiled] = {}  # by the forms of the photos' codes

    def photo_bytes(self, places: int) -> int:
        """Return the size of the code of a photo with so many local features."""
        return places * self._width * self.precision.itemsize

    @property
    def _width(self) -> int:
        """How many numbers the code of a patch holds."""
        return 4 * self.dim + (0 if self.layers.matching is None else self.local)

    @torch.inference_mode()
    def encode(self, local: np.ndarray, rows: np.ndarray, side: int) -> Tensor:
        """Return the codes of some photos: tokens, and their queries, keys and values in the first layer.

        Args:
            local: (N, L, h, w) local features, in memory or mapped from a file; only `rows` are read.
            rows: (R,) photos to encode.
            side: `QUERY` or `GALLERY`.

        Returns:
            (R, h * w, 4 * D) in the scorer's precision, on the device; 4 * D + L with the local
            features themselves, where the reranker matches them.

        Raises:
            ValueError: the features are not finite.
        """
        _, _, height, width = local.shape
        added = sine_position_code(height, width, self.dim).to(device()) + self.segment[side]  # (h*w, D)
        codes = torch.empty(len(rows), height * width, self._width, dtype=self.precision, device=device())
        for start in range(0, len(rows), ENCODED_AT_ONCE):
            part = slice(start, start + ENCODED_AT_ONCE)
            features = torch.from_numpy(local[rows[part]]).to(device())  # (b, L, h, w)
            patches = features.float().flatten(2).transpose(1, 2)  # (b, h*w, L)
            tokens = self.reduce(patches) + added  # (b, h*w, D)
            if not tokens.sum().isfinite():
                name = "query" if side == QUERY else "gallery"
                raise ValueError(f"some {name} local features are not finite: extract them again")
            codes[part, :, : 4 * self.dim] = self.layers.first_projections(tokens)
            if self.layers.matching is not None:
                codes[part, :, 4 * self.dim :] = patches
        return codes

    @torch.inference_mode()
    def score(self, query: Tensor, gallery: Tensor, pairs: np.ndarray) -> Tensor:
        """Score pairs of codes, as `encode` gives them.

        Args:
            query, gallery: codes of photos.
            pairs: (2, P) rows of `query` and of `gallery`.

        Returns:
            (P,) float32 logits.
        """
        if self.precision == torch.float32 and query.device.type == "cpu":
            return self._score_compiled(query, gallery, pairs)
        parts = torch.from_numpy(pairs).to(query.device).split(PAIRS[query.device.type], dim=1)
        return torch.cat([self.layers(query[rows[0]], gallery[rows[1]]) for rows in parts])

    def _score_compiled(self, query: Tensor, gallery: Tensor, pairs: np.ndarray) -> Tensor:
        forms, count = (query.shape[1:], gallery.shape[1:]), pairs.shape[1]
        if forms not in self.compiled:
            self.compiled[forms] = Compiled(self.layers, [torch.zeros(COMPILED, *form) for form in forms])
        query, gallery = query.numpy(), gallery.numpy()  # which gathers without torch's threads
        rows = (pairs[:, start : start + COMPILED] for start in range(0, count, COMPILED))
        parts = ([query[of_query], gallery[of_gallery]] for of_query, of_gallery in rows)
        return self.compiled[forms].run(parts, count)[0]


class _Layers(nn.Module):
    """The transformer's layers on codes of pairs; see `Scorer`."""

    def __init__(self, reranker: RerankingTransformer, precision: torch.dtype):
        super().__init__()
        self.precision = precision
        self.dim = reranker.segment.embedding_dim
        self.heads = reranker.encoder.layers[0].self_attn.num_heads
        weights = copy.deepcopy(reranker).eval().requires_grad_(False).to(device(), torch.float32)
        for layer in weights.encoder.layers:  # softmax(q k / sqrt(d)): 1 / sqrt(d) goes into the weights of q
            for projection in (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias):
                projection[: self.dim] *= (self.dim // self.heads) ** -0.5
        self.segment, self.read_out = weights.segment.weight, weights.score  # (4, D); these stay in float32
        self.reduce = weights.reduce
        self.layers = weights.encoder.layers.to(precision)
        for layer in self.layers:
            layer.norm1.float()
            layer.norm2.float()
        self.matching = None if weights.matching is None else weights.matching.item()
        self.special = self.first_projections(self.segment[:2, None])  # (2, 1, 4 * D): [CLS] and [SEP]

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Return (B,) float32 logits of B pairs of codes."""
        matched = 0.0
        if self.matching is not None:
            query, query_patches = query.split([4 * self.dim, query.shape[2] - 4 * self.dim], dim=2)
            gallery, gallery_patches = gallery.split([4 * self.dim, gallery.shape[2] - 4 * self.dim], dim=2)
            matched = self.matching * local_matching(query_patches.float(), gallery_patches.float())
        cls, sep = self.special[:, None].expand(2, len(query), 1, -1)
        sequence = torch.cat([cls, query, sep, gallery], dim=1)  # (B, T, 4 * D)
        x, q, k, v = sequence.chunk(4, dim=2)  # (B, T, D) each
        x = x.float()
        for i, layer in enumerate(self.layers):
            rows = x[:, :1] if i == len(self.layers) - 1 else x  # only [CLS] is read at the end
            if i > 0:
                weight, bias = layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
                q = _linear(rows, weight[: self.dim], bias[: self.dim])
                k, v = _linear(x, weight[self.dim :], bias[self.dim :]).chunk(2, dim=2)
            attended = self._attend(q[:, : rows.shape[1]], k, v)
            rows = layer.norm1(rows + _module(attended, layer.self_attn.out_proj))
            x = layer.norm2(rows + _module(_module(rows, layer.linear1, relu=True), layer.linear2))
        return self.read_out(x[:, 0]).squeeze(1) + matched

    def first_projections(self, tokens: Tensor) -> Tensor:
        """Return (b, n, 4 * D): tokens (b, n, D) and their queries, keys and values in the first layer."""
        attention = self.layers[0].self_attn
        projected = linear(
            tokens.to(self.precision), attention.in_proj_weight, attention.in_proj_bias
        )  # (b, n, 3 * D)
        return torch.cat([tokens.to(self.precision), projected], dim=2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return softmax(q k) v of every head: (B, n, D) from q (B, n, D), k and v (B, T, D)."""
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, heads, ., d)
        if self.precision == torch.float32 or q.is_cuda:
            attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        else:  # on processors the fused call is slow in bfloat16
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))  # (B * heads, ., d)
            attended = _softmax_product(torch.bmm(q, k.transpose(1, 2)), v).unflatten(0, (-1, self.heads))
        return attended.transpose(1, 2).flatten(2)


def _softmax_product(logits: Tensor, v: Tensor) -> Tensor:
    """Return softmax(logits) v of (B, n, T) and (B, T, d); the logits are overwritten.

    Where no exponential can overflow or vanish, a column of ones beside v gives the softmax's denominator.
    """
    low, high = logits.aminmax()
    if low < -SAFE_LOGIT or high > SAFE_LOGIT:
        return torch.bmm(logits.softmax(dim=2), v)
    product = torch.bmm(logits.exp_(), F.pad(v, (0, 1), value=1.0))  # (B, n, d + 1)
    return product[..., :-1] / product[..., -1:]


def _module(x: Tensor, module: nn.Linear, relu: bool = False) -> Tensor:
    return _linear(x, module.weight, module.bias, relu)


def _linear(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    if weight.dtype != torch.float32:
        return linear(x.to(weight.dtype), weight, bias, relu)
    x = F.linear(x, weight, bias)  # which can be compiled
    return x.relu() if relu else x
