"""The training losses of the study: contrastive for the global model, pairwise or list-wise for the
reranker."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of the global model, in the authors' form (RRT; Tan et al., ICCV 2021).

    For each anchor, minus the log of the share of softmax mass that falls on images of the same
    product. The authors set the anchor's similarity to itself to 0 before the exponential, so
    the anchor counts once as a negative of similarity 0. An anchor without positives adds 0.
    `logsumexp` keeps the loss finite in half precision, where `exp(similarity / 0.05)` is not.

    Args:
        embeddings: (B, D), unit length.
        labels: (B,) product of each image, best in main memory: a GPU need not stop for the check.
        temperature: divides the cosine similarities; 0.05 in the authors' code.

    Returns:
        Scalar, the sum over anchors divided by B.

    Raises:
        ValueError: no image of the batch has another image of its product in it.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels) & ~itself  # (B, B)
    has_positive = positive.any(dim=1)  # (B,)
    if not has_positive.any():
        raise ValueError("the batch holds no two images of one product: draw at least 2 images per product")
    counted = positive | ~has_positive[:, None]  # (B, B): a row that adds 0 counts all, to be finite

    itself, has_positive, counted = (
        mask.to(embeddings.device, non_blocking=True) for mask in (itself, has_positive, counted)
    )
    similarity = (embeddings @ embeddings.T).float() / temperature  # (B, B)
    log_all = similarity.masked_fill(itself, 0.0).logsumexp(dim=1)  # (B,)
    log_positive = similarity.masked_fill(~counted, -torch.inf).logsumexp(dim=1)  # (B,)
    return (log_all - log_positive).where(has_positive, 0.0).sum() / len(labels)


def pair_loss(positive_logits: Tensor, negative_logits: Tensor) -> Tensor:
    """Binary cross-entropy of the reranker's pair logits (RRT; Tan et al., ICCV 2021).

    Args:
        positive_logits: (P,) scores of pairs that show the same product.
        negative_logits: (N,) scores of pairs that show two products.

    Returns:
        Scalar, the mean over all P + N pairs.
    """
    logits = torch.cat([positive_logits, negative_logits]).float()
    target = torch.cat([torch.ones_like(positive_logits), torch.zeros_like(negative_logits)]).float()
    return F.binary_cross_entropy_with_logits(logits, target)


def list_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Loss of the small profiles' reranker over lists of candidates, beside the published pair loss.

    Binary cross-entropy of every pair, in which the candidates that show the anchor's product weigh as much
    as the others of a list together, plus cross-entropy over each list: the first candidate should come out
    on top.

    Args:
        logits: (A, 1 + n) scores of each anchor's candidates, the first of which shows its product.
        same: (A, 1 + n) bool: whether a candidate shows the anchor's product.

    Returns:
        Scalar, the mean over pairs plus the mean over lists.
    """
    logits = logits.float()
    first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    weight = torch.full((), logits.shape[1] - 1.0, device=logits.device)
    return F.cross_entropy(logits, first) + F.binary_cross_entropy_with_logits(
        logits, same.float(), pos_weight=weight
    )
