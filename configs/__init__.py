"""Configurations; `base.py` holds every field."""
