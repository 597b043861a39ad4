"""A reranking transformer that starts as a matcher: its first layer compares patches across the two photos.

Trained from random weights, a small transformer sees only hard pairs it cannot tell apart and learns little.
This start writes soft local matching into the weights: a query patch attends to the gallery's patches by
their similarity, and to [CLS] and [SEP] at a fixed threshold; the share of attention that goes to the other
photo says how well the patch is matched; [CLS] averages these shares and the read-out scores the average.
Training goes on from there.
"""

import math

import torch
from torch import Tensor

from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer

CONTENT = 30  # leading channels that hold the patches' content, two less than a head's width
QUERY, GALLERY, SPECIAL = 112, 114, 116  # channels that mark a token's photo, and [CLS] and [SEP]
MATCHED = (118, 120, 122)  # channels for the shares of the first three heads
READ_OUT = 124  # channel of [CLS] that the score reads
MARK = 8.0  # size of a marker
GAIN = 8.0  # size of a share of one
SHARPNESS = ((16.0, 0.8), (8.0, 0.7), (30.0, 0.9))  # factor of the cosine and threshold, for three heads
SMALL = 0.1  # what is left of the random weights elsewhere


@torch.no_grad()
def start_as_matching(reranker: RerankingTransformer, local_norm: float) -> None:
    """Write soft local matching into a reranker of width 128 with 4 heads and at least 2 layers, in place.

    Args:
        reranker: with random weights; the last of its heads keeps them.
        local_norm: length of the local features, whose content is in the first `CONTENT` channels.
    """
    dim, heads = reranker.segment.embedding_dim, reranker.encoder.layers[0].self_attn.num_heads
    width = dim // heads  # of a head
    reranker.segment.weight.mul_(SMALL)
    for token, channel in enumerate((SPECIAL, SPECIAL, QUERY, GALLERY)):
        reranker.segment.weight[token, channel] = MARK
    for layer in reranker.encoder.layers:
        layer.linear2.weight.mul_(SMALL)
        layer.self_attn.out_proj.weight.mul_(SMALL)
        layer.self_attn.in_proj_weight[: 2 * dim].mul_(SMALL)  # attention starts even

    first, last = reranker.encoder.layers[0].self_attn, reranker.encoder.layers[-1].self_attn
    query, key, value = first.in_proj_weight.chunk(3)  # (D, D) each, views
    root = math.sqrt(width)
    cross = math.sqrt(10.0 * root) / MARK  # the other photo 20 above the own one
    for head, (factor, threshold) in enumerate(SHARPNESS):
        rows = slice(head * width, head * width + width)
        query[rows], key[rows] = 0.0, 0.0
        for matrix in (query, key):
            matrix[head * width : head * width + CONTENT, :CONTENT] = (
                math.sqrt(factor * root) / local_norm * torch.eye(CONTENT)
            )
        sides, bar = head * width + CONTENT, head * width + CONTENT + 1
        query[sides, QUERY], query[sides, GALLERY] = cross, -cross
        key[sides, QUERY], key[sides, GALLERY] = -cross, cross
        query[bar, QUERY] = query[bar, GALLERY] = 1 / MARK
        key[bar, SPECIAL] = (10.0 + factor * threshold) * root / MARK
        share = head * width
        value[share] = 0.0
        value[share, QUERY] = value[share, GALLERY] = 1 / MARK  # 1 for patches, 0 for [CLS] and [SEP]
        first.out_proj.weight[:, share] = 0.0
        first.out_proj.weight[MATCHED[head], share] = GAIN

        value_last = last.in_proj_weight[2 * dim :]
        value_last[share] = 0.0
        value_last[share, MATCHED[head]] = 1.0
        last.out_proj.weight[:, share] = 0.0
        last.out_proj.weight[READ_OUT, share] = 1.0
    reranker.score.weight.mul_(SMALL)
    reranker.score.weight[0, READ_OUT] = 4.0


@torch.no_grad()
def content_head(model: ImageModel, maps: Tensor) -> None:
    """Set the local head to the principal axes of the globally projected patches, strongest first, in place.

    Args:
        model: its global head says what matters about a patch; its local head is replaced.
        maps: (N, channels, h, w) feature maps of train photos.
    """
    projection = model.global_head.weight  # (D, channels)
    patches = maps.flatten(2).transpose(1, 2).flatten(0, 1).float() @ projection.T  # (N*h*w, D)
    mean = patches.mean(dim=0)
    _, axes = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    rows = axes.flip(1)[:, :CONTENT].T  # (CONTENT, D), strongest first
    weight = model.local_head.weight  # (D, channels, 1, 1)
    weight.zero_()
    weight[:CONTENT, :, 0, 0] = rows @ projection
    model.local_head.bias.zero_()
    model.local_head.bias[:CONTENT] = -rows @ mean


@torch.no_grad()
def calibrate(reranker: RerankingTransformer, logits: Tensor) -> None:
    """Shift and scale the read-out so that the given (B,) logits of typical pairs get mean 0 and deviation
    2."""
    scale = 2 / logits.std()
    reranker.score.weight.mul_(scale)
    reranker.score.bias.sub_(logits.mean()).mul_(scale)
