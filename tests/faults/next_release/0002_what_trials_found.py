from importlib import import_module

Migration = import_module("django_kpwa.migrations.0002_what_trials_found").Migration
