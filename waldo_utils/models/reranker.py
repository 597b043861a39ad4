"""The reranking transformer: two maps of local features to the score that they show the same product."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waldo_utils.models.matching import local_matching

MATCHING = 20.0  # what a difference of one in local matching counts at the start


class RerankingTransformer(nn.Module):
    """Score how likely two images show the same product (RRT; Tan et al., ICCV 2021).

    One post-norm transformer encoder reads both images' local features as a single sequence,
    `[CLS] query [SEP] gallery`, and the score is a linear read-out of `[CLS]`. The defaults are
    the published size: 6 layers, 4 heads, feed-forward 1024, no dropout.

    Args:
        dim: width.
        heads, layers, feedforward: of the encoder.
        matching: add `matching.local_matching` of the pair, times a number that is learned, to the score, and
            start with a read-out of zero: a short training then improves on matching instead of inventing it.
            Not published.
        local: numbers of a local feature; where they are not `dim`, one linear layer brings them to it, and
            matching reads them as they are. None: `dim`, as published.
    """

    def __init__(
        self,
        dim: int = 128,
        heads: int = 4,
        layers: int = 6,
        feedforward: int = 1024,
        matching: bool = False,
        local: int | None = None,
    ):
        super().__init__()
        self.local = local or dim
        self.reduce = nn.Identity() if self.local == dim else nn.Linear(self.local, dim)
        layer = nn.TransformerEncoderLayer(dim, heads, feedforward, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.segment = nn.Embedding(4, dim)  # [CLS], [SEP], query, gallery
        self.score = nn.Linear(dim, 1)
        for weight in self.parameters():  # nn.TransformerEncoder starts every layer from the same copy
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        self.matching = nn.Parameter(torch.tensor(MATCHING)) if matching else None
        if matching:
            nn.init.zeros_(self.score.weight)
            nn.init.zeros_(self.score.bias)

    def sequence(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Return the (B, 2 * h * w + 2, D) tokens of B pairs of local feature maps, each (B, L, h, w)."""
        pairs, _, height, width = query.shape
        dim = self.segment.embedding_dim
        cls, sep, query_segment, gallery_segment = self.segment.weight  # each (D,)
        position = sine_position_code(height, width, dim).to(query, non_blocking=True)  # (h*w, D)
        query, gallery = (
            self.reduce(local.flatten(2).transpose(1, 2)) for local in (query, gallery)
        )  # (B, h*w, D)
        query_tokens = query + (position + query_segment)
        gallery_tokens = gallery + (position + gallery_segment)
        return torch.cat(
            [cls.expand(pairs, 1, dim), query_tokens, sep.expand(pairs, 1, dim), gallery_tokens], dim=1
        )  # (B, 2*h*w + 2, D)

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Return (B,) logits for B pairs of local feature maps, each (B, L, h, w).

        Only `[CLS]` is read at the end, so the last layer computes that row alone: the same
        logits as the whole layer for a sixth less work.
        """
        x = self.sequence(query, gallery)  # (B, T, D)
        for layer in self.encoder.layers[:-1]:
            x = layer(x)
        last = self.encoder.layers[-1]
        cls = x[:, :1]  # (B, 1, D)
        cls = last.norm1(cls + last.self_attn(cls, x, x, need_weights=False)[0])
        cls = last.norm2(cls + last.linear2(F.relu(last.linear1(cls))))
        score = self.score(cls[:, 0]).squeeze(-1)  # (B,)
        if self.matching is None:
            return score
        query, gallery = (
            local.float().flatten(2).transpose(1, 2) for local in (query, gallery)
        )  # (B, h*w, L)
        return score.float() + self.matching * local_matching(query, gallery)


def sine_position_code(height: int, width: int, dim: int) -> Tensor:
    """Return the (height * width, dim) sine position code of the reranker, rows first.

    The first half of the channels codes the row, the second the column (Carion et al., ECCV 2020). The angle
    of place i of n is 2.0 * (i + 1) / n, 2.0 being the scale of the authors' code, divided by
    10000 ** (2 * (c // 2) / half) for channel c of a half: sines on even channels, cosines on odd.
    """
    half = dim // 2
    frequency = 10000.0 ** (-2.0 * (torch.arange(half) // 2) / half)  # (half,)

    def line(length: int) -> Tensor:
        angle = 2.0 * (torch.arange(length) + 1)[:, None] / length * frequency
        return torch.where(torch.arange(half) % 2 == 0, angle.sin(), angle.cos())  # (length, half)

    rows = line(height)[:, None].expand(height, width, half)
    columns = line(width)[None].expand(height, width, half)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)  # (h*w, dim)
