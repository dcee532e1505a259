# What one needs while changing the package. `make help` lists it.
.PHONY: help setup unit test one lint format catalogue docs demo ci
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## install everything into the present environment
	python -m pip install -e ".[test,lint,docs]" pre-commit

unit: ## the tests that need no server
	python -m pytest -q tests/unit

test: ## all tests, on servers that pip brings along
	python -m pytest

one: ## one file of tests, in one process: make one FILE=tests/integration/test_run.py
	python -m pytest -q -n0 $(FILE)

lint: ## ruff, mypy, import-linter, migrations
	ruff check
	ruff format --check
	mypy
	lint-imports
	python manage.py makemigrations --check --dry-run

format: ## write the code as ruff does
	ruff check --fix
	ruff format

catalogue: ## compile the Indonesian texts, and see whether all are there
	msgfmt --check -o django_kpwa/locale/id/LC_MESSAGES/django.mo django_kpwa/locale/id/LC_MESSAGES/django.po
	python -m pytest -q -n0 tests/unit/test_translations.py

docs: ## the pages as a site, in build/docs
	python docs/build.py

demo: ## a shop's day, with a simulated phone
	python manage.py demo

ci: ## everything that must hold, with all servers
	bash .ci/run
