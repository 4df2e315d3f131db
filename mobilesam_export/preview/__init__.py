"""A local page that shows a bundle's masks beside PyTorch's as you click."""
