"""Chooses the answer to a request: rules, then the queue, then the default. Holds the little state there is."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque

import attrs

from clonk_claudecode.testing.conversation import RecordedRequest
from clonk_claudecode.testing.script import Attempts, Rule, Script, Step, Turn, as_script, as_turn


class Selection:
    """The script of one running model, with what is left of its queue and how often each request was tried."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._queue = deque(script.queue)
        self._tries: Counter[str] = Counter()

    def add(self, *steps: Step | Attempts | Rule) -> None:
        """Add answers to the end of the queue, and rules behind the other rules, while the model runs."""
        added = as_script(steps)
        self._queue.extend(added.queue)
        self._script = attrs.evolve(self._script, rules=(*self._script.rules, *added.rules))

    def choose(self, request: RecordedRequest) -> Turn:
        """Return the answer; uses up the queue and counts the tries, so ask once per request."""
        if request.kind == "side":
            return _resolve(self._script.side, request)
        step = self._from_rules(request)
        if step is None:
            step = self._queue.popleft() if self._queue else self._script.default
        if isinstance(step, Attempts):
            step = self._attempt(step, request)
        return _resolve(step, request)

    def _from_rules(self, request: RecordedRequest) -> Step | Attempts | None:
        for rule in self._script.rules:
            if re.search(rule.when, request.prompt, re.IGNORECASE | re.DOTALL):
                place = request.place
                return rule.turns[place] if place < len(rule.turns) else None
        return None

    def _attempt(self, attempts: Attempts, request: RecordedRequest) -> Step:
        """Pick by how often this very conversation was asked before; the last answer stays."""
        key = _fingerprint(request)
        tried = self._tries[key]
        self._tries[key] += 1
        return attempts.answers[min(tried, len(attempts.answers) - 1)]


def _resolve(step: Step, request: RecordedRequest) -> Turn:
    return as_turn(step(request) if callable(step) else step)


def _fingerprint(request: RecordedRequest) -> str:
    """Tell retries of one request from another request; cache marks move between retries and do not count."""
    text = json.dumps(_without_cache_marks(request.messages), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_cache_marks(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_cache_marks(inner) for key, inner in value.items() if key != "cache_control"}
    if isinstance(value, list):
        return [_without_cache_marks(inner) for inner in value]
    return value
