"""The network: encoders, fusion, decoders."""
