"""Train a light image encoder to give a heavy one's embeddings; the mask decoder stays as it is.

Decoupled distillation as MobileSAM introduced it (Zhang et al., 2023, arXiv:2306.14289): no labels,
no prompts, one loss on the embeddings of unlabelled images.
"""
