"""Inside ComfyUI: one folder per paper, and the two floors that they share."""
