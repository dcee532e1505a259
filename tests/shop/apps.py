"""The shop's app; in processes that tests start it also changes constants of the package, as tests/settings.py says."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings
from django.utils.module_loading import import_string


class ShopConfig(AppConfig):
    name = "tests.shop"

    def ready(self):
        for path, value in getattr(settings, "CONSTANTS", {}).items():
            owner, _, name = path.rpartition(".")
            # Classes begin with a capital letter; everything else that has constants is a module.
            is_class = owner.rpartition(".")[2][0].isupper()
            holder = import_string(owner) if is_class else import_module(owner)
            assert hasattr(holder, name), f"There is no {path}."
            setattr(holder, name, value)
