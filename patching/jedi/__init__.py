"""JeDi (arXiv 2407.06187) inside ComfyUI."""
