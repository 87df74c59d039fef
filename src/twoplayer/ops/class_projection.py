"""What a discriminator adds to its logit for a label: the projection of its features on a vector of the class.

Source: Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637, equation 3: logit(x, y) = psi(phi(x)) + <v_y, phi(x)>.
This layer is the second term; the first is the ordinary last layer.
"""

from __future__ import annotations

from torch import Tensor, nn

from twoplayer.ops.labels import one_hot
from twoplayer.ops.logits import full_precision


class ClassProjection(nn.Module):
    """Features [N, F] and labels int64 [N] to [N]: <v_label, features>.

    The vectors are the columns of a dense layer's weight, so that what constrains D's weights (spectral normalization,
    clipping) finds them. They begin with length 1 on average.

    Args:
        num_features: F.
        num_classes: labels are from 0 to this.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.vectors = nn.Linear(num_classes, num_features, bias=False)
        nn.init.normal_(self.vectors.weight, std=num_features**-0.5)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        chosen = full_precision(self.vectors, one_hot(labels, self.num_classes, features))
        return (chosen * features.to(chosen.dtype)).sum(1)
