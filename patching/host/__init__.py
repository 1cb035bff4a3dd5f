"""The seam to ComfyUI: runs, patches, families, passes, gradients, checks. Knows no paper and no reference."""
