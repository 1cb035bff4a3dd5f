"""Layout-and-Retouch (arXiv 2407.09779) inside ComfyUI."""
