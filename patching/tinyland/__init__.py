"""The bundled demo model as ComfyUI objects."""
