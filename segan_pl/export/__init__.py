"""Models that leave the package: ONNX, torch.export, safetensors and MONAI bundles, each with a model card."""
