"""Towers and learners. Importing this room teaches `transformers`' Auto classes our models."""

from . import babyllava, clip, predictor, vision  # noqa: F401
