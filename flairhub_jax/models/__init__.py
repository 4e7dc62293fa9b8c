"""Encoders, fusion, decoders: the whole network."""
