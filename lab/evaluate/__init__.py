"""Evaluation of personalization methods by the protocols of the papers."""
