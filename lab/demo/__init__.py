"""The demo on a farm of ComfyUIs."""
