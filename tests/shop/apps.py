"""The shop's app. In processes that tests start, it also sets the constants of the package from tests/settings.py."""

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
            # Names of classes start with a capital letter. Every other owner of constants is a module.
            is_class = owner.rpartition(".")[2][0].isupper()
            holder = import_string(owner) if is_class else import_module(owner)
            assert hasattr(holder, name), f"There is no {path}."
            setattr(holder, name, value)
