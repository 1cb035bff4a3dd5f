"""Processes that are killed while they save: every file that is listed is whole."""

import os
import random
import signal

import folder_paths
import pytest
import torch
from likeness.patching.host import files
from likeness.patching.pick_and_draw import template_file
from likeness.patching.pick_and_draw.template import Template
from safetensors.torch import save


def template() -> Template:
    return Template("SD 1.x", {}, torch.full((1, 64, 64), 0.25))


def die_within_the_second_file(share: float) -> None:
    """Saves a file, and a share of another one's bytes; then the system ends this process."""
    template_file.save(template(), "one")

    def half(tensors, path, metadata):
        data = save(tensors, metadata)
        path.write_bytes(data[: round(share * len(data))])
        os.kill(os.getpid(), signal.SIGKILL)

    files.save_file = half
    template_file.save(template(), "one")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only: Windows cannot fork")
def test_a_killed_writer_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    rng, kills = random.Random(0), 5
    for _ in range(kills):
        child, share = os.fork(), rng.random()
        if child == 0:
            try:
                torch.set_num_threads(1)
                die_within_the_second_file(share)
            finally:
                os._exit(1)
        ended = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL
    assert len(list(tmp_path.rglob("*.tmp"))) == len(template_file.STORE.names()) == kills
    for name in template_file.STORE.names():
        assert torch.equal(template_file.load(name).mask, template().mask)
    monkeypatch.setattr(files, "_STALE_AFTER", -1.0)
    template_file.save(template(), "two")
    assert not list(tmp_path.rglob("*.tmp")) and len(template_file.STORE.names()) == kills + 1
