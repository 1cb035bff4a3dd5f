"""One subject, one prompt and one sampler over the three papers: the only folder that may import them."""
