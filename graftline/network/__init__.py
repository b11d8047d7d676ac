"""The network: pretrained weights, cutting, freezing plans, and what runs it."""
