"""Farm of ComfyUI servers: a queue of pictures to draw, and workers that draw them."""
