"""What runs a network on images: LiteRT on cores, TensorFlow on GPUs, all behind one protocol."""
