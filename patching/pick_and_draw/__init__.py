"""Pick-and-Draw (arXiv 2401.16762) inside ComfyUI."""
