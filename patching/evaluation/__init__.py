"""Metrics of personalized pictures: embeddings, similarities and masks, from weights on the user's disk."""
