"""One `requests.Session` a process, made when it is first asked for: its connection outlives tasks and batches."""

from __future__ import annotations

import functools

import requests

session = functools.cache(requests.Session)
