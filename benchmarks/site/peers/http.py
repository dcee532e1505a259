"""One `requests.Session` per process, created at first use: its connection outlives tasks and batches."""

from __future__ import annotations

import functools

import requests

session = functools.cache(requests.Session)
