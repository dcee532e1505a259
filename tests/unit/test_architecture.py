"""`docs/architecture.md` says what the code is, and what is to be written in the store alone is written there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.apps import apps

from django_kpwa.dispatch.verdict import PAUSED_AT_ONCE
from django_kpwa.gateway import outcome
from django_kpwa.gateway.outcome import Cause, OutcomeKind
from django_kpwa.models import (
    ARRIVED,
    ENDED_BY_STATUS,
    HELD_BY_PEOPLE,
    RESENDABLE,
    UNSETTLED,
    Lane,
    OutboundMessage,
    PauseReason,
    Status,
    WebhookEvent,
)
from django_kpwa.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "django_kpwa"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ELSEWHERE = ("store", "migrations", "apps.py")
"""Where the rules about SQL and state do not apply."""


def table(*heads: str) -> list[list[str]]:
    """The cells of the page's table that begins with these columns, without the marks of code."""
    _, _, after = PAGE.partition(f"\n| {' | '.join(heads)} ")
    rows = re.match(r"[^\n]*\n\|[-|]+\n((?:\|.*\n)+)", after)
    assert rows is not None, f"The page has no table of {heads}."
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1].splitlines()]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TRANSITIONS = [
    (codes(before)[0] if codes(before) else "", codes(after)[0], codes(methods))
    for before, after, methods, _ in table("from", "to", "`store()` methods")
]


# Layers


def test_the_layers_of_the_page_are_those_of_import_linter():
    kept = re.search(r'type = "layers".*?^layers = (\[.*?^\])', (ROOT / "pyproject.toml").read_text(), re.S | re.M)
    drawn = re.search(r"```layers\n(.*?)\n```", PAGE, re.DOTALL)
    assert kept
    assert drawn
    assert drawn[1].splitlines() == ast.literal_eval(kept[1])


def test_every_file_that_the_pages_for_contributors_name_is_there():
    pages = [PAGE, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs/contributing").glob("*.md"))]
    named = {
        name for page in pages for name in re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|html|css|md|yaml|toml))`", page)
    }
    named = {name for name in named if "NAME" not in name}
    assert len(named) > 60
    places = [PACKAGE, PACKAGE / "webhooks", ROOT, ROOT / "tests/integration"]
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_as_many_files_as_the_page_counts_lead_from_a_message_to_the_socket():
    way = PAGE.partition("## How a message travels")[2].partition("\n\nThat is")[0]
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", way, re.MULTILINE)
    assert f"That is {len(files)} files" in PAGE
    assert len(files) == len(set(files))
    assert all((PACKAGE / name).exists() for name in files)


def test_the_tables_of_the_page_are_those_of_the_app():
    told = [name for names, *_ in table("table", "what it holds", "who writes it") for name in codes(names)]
    ours = [model.__name__ for model in apps.get_app_config("django_kpwa").get_models() if not model._meta.proxy]
    assert sorted(told) == sorted(ours)


# What becomes of a message


def test_the_states_of_the_page_are_those_of_the_code():
    assert {before for before, _, _ in TRANSITIONS if before} == set(Status) - {Status.READ}
    assert {after for _, after, _ in TRANSITIONS} == set(Status)


def test_what_may_be_sent_again_is_what_the_page_resends():
    resent = {before for before, after, methods in TRANSITIONS if "resend" in methods and after == Status.QUEUED}
    assert resent == set(RESENDABLE)


def test_what_has_arrived_only_moves_forward():
    moved = [(before, after) for before, after, _ in TRANSITIONS if before in ARRIVED]
    assert moved
    assert all(after in ARRIVED[ARRIVED.index(Status(before)) + 1 :] for before, after in moved)


def test_only_what_is_not_settled_can_be_sent_or_fail_without_a_decision():
    by_a_person = {"resend", "want_again", "mark_sent"}
    left = {before for before, _, methods in TRANSITIONS if before and set(methods) - by_a_person}
    assert left == {*UNSETTLED, Status.UNKNOWN, Status.SENT, Status.DELIVERED}


def functions(paths: Iterable[Path]) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, []).append(node)
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# The portable form: it is what is right.
STORE = functions([*(PACKAGE / "store").glob("*.py"), PACKAGE / "models/message.py"])
VERDICT = functions([PACKAGE / "dispatch/verdict.py"])
METHODS = [name for name in dir(Store) if not name.startswith("_") and name in STORE]


def parts_of(method: str) -> Iterator[ast.AST]:
    """All that stands in a method of the store, and in whatever of the store it calls."""
    names = [method]
    for name in names:
        for node in STORE[name]:
            for part in ast.walk(node):
                yield part
                if isinstance(part, ast.Call):
                    called = getattr(part.func, "attr", None) or getattr(part.func, "id", None)
                    if called in STORE and called not in names:
                        names.append(called)


def statuses_in(parts: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    for part in parts:
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "Status":
            found.add(Status[part.attr])
        elif isinstance(part, ast.Name) and part.id == "RESENDABLE":
            found.update(RESENDABLE)
    return found


def writes_a_status(part: ast.AST) -> bool:
    # Lookups are keywords of filter(); columns are keywords of update(), or a dict that it is given.
    if isinstance(part, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "status" for key in part.keys)
    return "status" in written_by(part)


def test_a_method_of_the_store_stands_in_the_table_where_it_writes_a_status():
    writing = {name for name in METHODS if any(map(writes_a_status, parts_of(name)))}
    assert writing == {method for before, _, methods in TRANSITIONS if before for method in methods}


def test_a_method_of_the_store_names_the_statuses_that_the_table_says():
    by_verdict = statuses_in(part for nodes in VERDICT.values() for node in nodes for part in ast.walk(node))
    for before, after, methods in TRANSITIONS:
        for method in methods:
            named = statuses_in(parts_of(method)) | (by_verdict if method == "record" else set())
            assert not before or {before, after} <= named, f"{method}: {before} -> {after}"


def test_what_is_stored_begins_where_the_table_does():
    assert [after for before, after, _ in TRANSITIONS if not before] == [OutboundMessage().status]


# What an answer means


def test_the_outcomes_of_the_page_are_those_of_the_code():
    rows = table("what happened", "kind", "cause", "then")
    told = {(codes(kind)[0], *codes(cause)) for _, kind, cause, _ in rows if codes(kind)}
    from_errors = {(kind.value, cause.value) for _, kind, cause in outcome._TABLE}
    assert told == from_errors | {
        (OutcomeKind.ACCEPTED.value,),
        (OutcomeKind.LICENSE_REFUSED.value, Cause.UNAUTHORIZED.value),
        (OutcomeKind.IN_DOUBT.value, Cause.BAD_ANSWER.value),
        (OutcomeKind.IN_DOUBT.value, Cause.WORKER_LOST.value),
    }
    assert {name for _, _, cause, _ in rows for name in codes(cause)} == set(Cause) - {Cause.NONE}
    pausing = {codes(cause)[0] for _, _, cause, then in rows if "the lane is paused" in then.lower()}
    assert pausing == set(PAUSED_AT_ONCE)


def test_the_pauses_of_the_page_end_as_those_of_the_code():
    ended_by = {codes(reason)[0]: end for reason, _, end in table("pause", "begins when", "ended by")}
    assert ended_by.keys() == set(PauseReason) - {PauseReason.NONE}
    assert {reason for reason, end in ended_by.items() if end == "people"} == set(HELD_BY_PEOPLE)
    assert {reason for reason, end in ended_by.items() if end == "status"} == set(ENDED_BY_STATUS)


# What the store alone does


def modules() -> Iterator[tuple[str, ast.Module]]:
    """The package's modules, by their paths in it, but for those that the rules do not apply to."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(ELSEWHERE):
            yield name, parsed(path)


def written_by(part: ast.AST) -> set[str]:
    """The columns that a call writes past a row's own `save()`, or by one that names them."""
    if not (isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)):
        return set()
    if part.func.attr not in ("update", "save", "bulk_update"):
        return set()
    columns = {keyword.arg for keyword in part.keywords if keyword.arg}
    # update(**{"status": …}), save(update_fields=["status"]), bulk_update(rows, ["status"])
    given = [*part.args, *(keyword.value for keyword in part.keywords if keyword.arg in (None, "update_fields"))]
    for argument in given:
        keys = argument.keys if isinstance(argument, ast.Dict) else getattr(argument, "elts", [])
        columns |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return columns


def test_no_status_and_no_column_of_a_lane_is_written_outside_the_store():
    states = {"status", *(field.name for field in Lane._meta.concrete_fields if not field.primary_key)}
    found = {
        f"{name}:{part.lineno} {column}"
        for name, module in modules()
        for part in ast.walk(module)
        for column in written_by(part) & states
    }
    assert found == set()


def test_a_lane_is_never_saved():
    saved = {
        name
        for name, module in modules()
        for part in ast.walk(module)
        if isinstance(part, ast.Call) and ast.unparse(part.func).endswith("lane.save")
    }
    assert saved == set()


def test_only_the_store_and_the_system_checks_ask_which_database_it_is():
    found = {
        name
        for name, module in modules()
        for part in ast.walk(module)
        if isinstance(part, ast.Attribute) and part.attr == "vendor" and not name.startswith("checks/")
    }
    # A field's collation is part of its table.
    assert found == {"models/source.py"}


def test_only_the_store_and_the_system_checks_write_sql():
    found = {
        name
        for name, module in modules()
        for part in ast.walk(module)
        if isinstance(part, ast.Attribute) and part.attr == "cursor" and not name.startswith("checks/")
    }
    assert found == set()


def test_what_is_inserted_by_its_columns_has_a_value_for_each_in_python():
    # An INSERT of the store writes every column: one with a default of the database alone would be written as NULL.
    without = [
        f"{model.__name__}.{field.name}"
        for model in (OutboundMessage, WebhookEvent)
        for field in model._meta.concrete_fields
        if field.has_db_default() and not field.has_default()
    ]
    assert without == []
