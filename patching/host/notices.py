"""Sentences about a run, written to the log and shown in the graph editor on the node that they concern.

While a sampler runs, the host executes the sampler's node. A patch therefore keeps the Notices of the node that made
it.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field

from comfy_execution.utils import get_executing_context


@dataclass(eq=False)
class Notices:
    """The sentences of one node, complete and without the node's name.

    Those of the node's own execution stay until it is executed again; those of a sampler's run until the next prompt.
    name: the node in the log. node_id: its id in the graph; None writes to the log alone.
    """

    name: str
    node_id: str | None = None
    _own: list[str] = field(default_factory=list, init=False, repr=False)
    _of_prompt: list[str] = field(default_factory=list, init=False, repr=False)
    _line: str = field(default="", init=False, repr=False)
    _prompt: str | None = field(default=None, init=False, repr=False)
    _shown: str = field(default="", init=False, repr=False)
    _taken: int = field(default=0, init=False, repr=False)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is shown now, except the live line."""
        return (*self._own, *self._of_prompt)

    def take(self) -> tuple[str, ...]:
        """The sentences of the node's own execution that no earlier call has returned, for the node's output."""
        new = tuple(self._own[self._taken :])
        self._taken = len(self._own)
        return new

    def tell(self, sentence: str) -> None:
        """Warns of something that the user should change, once per prompt."""
        self._add(sentence, f"Warning: {_capital(sentence)}", logging.WARNING)

    def inform(self, sentence: str) -> None:
        """Reports a fact that needs no change, such as a cost, once per prompt."""
        self._add(sentence, _capital(sentence), logging.INFO)

    def show(self, line: str) -> None:
        """Replaces the live line below the sentences, such as the losses of the current step; it is not logged."""
        self._renew()
        self._line = line
        self._refresh()

    def start(self) -> None:
        """Removes what an earlier prompt's run has left; called when a node is executed and when a run starts."""
        self._renew(always=get_executing_context() is None)
        self._refresh()

    def _add(self, sentence: str, shown: str, level: int) -> None:
        self._renew()
        if shown in self.sentences:
            return
        context = get_executing_context()
        own = context is not None and context.node_id == self.node_id
        (self._own if own else self._of_prompt).append(shown)
        logging.log(
            level, "%s: %s", self.name if self.node_id is None else f"{self.name}, node {self.node_id}", sentence
        )
        self._refresh()

    def _renew(self, always: bool = False) -> None:
        context = get_executing_context()
        prompt = None if context is None else context.prompt_id
        if always or prompt != self._prompt:
            self._prompt, self._line = prompt, ""
            self._of_prompt.clear()

    def _refresh(self) -> None:
        server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
        send = getattr(server, "send_progress_text", None)
        text = "\n".join(part for part in (*self.sentences, self._line) if part)
        if send is not None and self.node_id is not None and self._shown != text:
            self._shown = text
            # To all without an id: another client's graph may have a node of the same number.
            send(text, self.node_id, server.client_id or None)


class Heard(Notices):
    """Passes sentences on to other notices, and knows them: what is made once and kept says them at each use."""

    def __init__(self, to: Notices):
        super().__init__(to.name)
        self._to, self._heard = to, list[tuple[str, str]]()

    def tell(self, sentence: str) -> None:
        self._pass_on("tell", sentence)

    def inform(self, sentence: str) -> None:
        self._pass_on("inform", sentence)

    def show(self, line: str) -> None:
        self._to.show(line)

    def repeat(self, to: Notices) -> None:
        """Says all sentences again, of which notices show each once."""
        for how, sentence in self._heard:
            getattr(to, how)(sentence)

    def _pass_on(self, how: str, sentence: str) -> None:
        self._heard.append((how, sentence))
        getattr(self._to, how)(sentence)


_latest: dict[str, Notices] = {}
"""The Notices of each node's latest execution, since the editor never removes a text by itself."""


def notices_of(name: str, node_id: str | None) -> Notices:
    """The Notices for an execution of a node that begins now; what the one before has shown is removed.

    Where the host executes a node once for each entry of a list, all executions share theirs.
    """
    if node_id is None:
        return Notices(name)
    context, before = get_executing_context(), _latest.get(node_id)
    if before is not None and context is not None and context.list_index:
        return before
    made = _latest[node_id] = Notices(name, node_id)
    if before is not None:
        made._shown = before._shown
    made.start()
    return made


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
