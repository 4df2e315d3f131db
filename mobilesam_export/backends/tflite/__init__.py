"""TFLite files, by litert-torch, run by LiteRT's interpreter with XNNPACK."""
