"""The mathematics of the pack: functions of tensors, without ComfyUI."""
