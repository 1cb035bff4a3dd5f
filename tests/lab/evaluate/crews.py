"""Crews of servers that draw without a network."""

from likeness.lab.farm.crew import Threads
from likeness.lab.farm.worker import Worker


def crew_of(*servers):
    """Function that gives a crew with a worker on each server."""
    return lambda: Threads([Worker(server) for server in servers])
