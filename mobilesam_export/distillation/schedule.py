"""Learning rate, decay of the averaged weights, and the other numbers of the optimizer.

From EfficientSAM3's first stage, the only published recipe that distils into a TinyViT: AdamW,
weight decay 0.01, gradients clipped at 5, a tenth of the steps of warm-up, then a cosine to a
hundredth.
"""

import math

WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.999)  # PyTorch's defaults
CLIP_NORM = 5.0
WARM_UP_SHARE = 0.1
FINAL_SHARE = 0.01  # of the learning rate, at the last step
EMA_DECAY = 0.999
# Of the learning rate in the second phase, which only refines: ours, tried on the demo weights.
MASK_SHARE = 0.1
# Of the loss of embeddings beside that of masks: with it both gradients are of like size in a
# student half as wide as demo, after 200 steps at 256. 40 more steps, embeddings and mean mask IoU:
# 0 (masks alone) 30.4 -> 27.8 dB and 0.823 -> 0.789, 10 30.3 dB and 0.820, 50 30.5 dB and 0.824.
EMBEDDING_WEIGHT = 50.0


def learning_rate(step: int, total: int, maximum: float) -> float:
    """Linear up to the maximum, then a cosine down to `FINAL_SHARE` of it.

    Args:
        step: from 0 to total - 1.
        total: steps of the run.
        maximum: of the learning rate.
    """
    warm_up = max(1, round(WARM_UP_SHARE * total))
    if step < warm_up:
        return maximum * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - 1 - warm_up)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return maximum * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def ema_decay(step: int) -> float:
    """Decay of the averaged weights: small at first, so that they forget where training began.

    The rule of TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return min(EMA_DECAY, (1 + step) / (10 + step))
