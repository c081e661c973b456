"""Classes of instances: a head that any method may have beside its own, its loss, and the vote.

The head tells, for the voxels of an instance, of which class it is; what it says of the background
means nothing and is not learnt. Every voxel of an instance votes with its probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from instaseg.methods.base import Head
from instaseg.methods.config import InstanceClassesSettings

if TYPE_CHECKING:
    from torch import Tensor

CLASS_HEAD = "instance_classes"
"""Name of the head, of its loss, and of the true classes in a batch."""


def class_heads(settings: InstanceClassesSettings) -> tuple[Head, ...]:
    """Return the head of classes, in a tuple; an empty one where instances have none.

    Its channel ``c`` is the probability of class ``c + 1``.
    """
    if settings.count == 0:
        return ()
    return (Head(CLASS_HEAD, settings.count, "softmax", f"volumes/pred_{CLASS_HEAD}"),)


def with_class_loss(
    loss: tuple[Tensor, dict[str, Tensor]],
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    settings: InstanceClassesSettings,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a method's loss and its parts together with that of the head of classes, if any.

    Parameters
    ----------
    loss : (Tensor, dict of str to Tensor)
        The method's own loss and its named parts.
    outputs : mapping of str to Tensor
        Of the network; the head's logits are ``(B, count, [z,] y, x)``.
    batch : mapping of str to Tensor
        ``instance_classes`` ``(B, [z,] y, x)``: 1 to `count`, 0 where no class is known.
    settings : InstanceClassesSettings
        Weight of this loss, and of each class.
    """
    if settings.count == 0:
        return loss
    from instaseg.methods.losses import class_entropy

    total, parts = loss
    classes = batch[CLASS_HEAD].long()
    weights = settings.class_weights or None
    own = class_entropy(outputs[CLASS_HEAD], classes - 1, (classes > 0).float(), weights)
    return total + settings.weight * own, {**parts, CLASS_HEAD: own}
