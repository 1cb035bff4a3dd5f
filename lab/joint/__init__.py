"""Training of joint models on your own checkpoint and sets."""
