"""Does a file compute what PyTorch computes? cases -> verify -> diagnosis."""
