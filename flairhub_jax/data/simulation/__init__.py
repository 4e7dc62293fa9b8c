"""Simulation of landscapes and of the images that sensors take of them."""
