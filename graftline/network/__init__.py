"""The network: backbones, pretrained weights, cutting, freezing plans, what runs it."""
