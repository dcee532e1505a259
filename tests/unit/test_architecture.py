"""`docs/architecture.md` agrees with the code, and only the store writes what the store alone may write."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
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
from django_kpwa.store.engine import Store

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "django_kpwa"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def table(*heads: str) -> list[list[str]]:
    """Return the cells of the page's table with these first columns, without backticks."""
    _, _, after = PAGE.partition(f"\n| {' | '.join(heads)} ")
    rows = re.match(r"[^\n]*\n\|[-|]+\n((?:\|.*\n)+)", after)
    assert rows is not None, f"The page has no table with the columns {heads}."
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


def test_the_page_counts_the_files_from_a_message_to_the_socket():
    way = PAGE.partition("## How a message travels")[2].partition("\n\nThat is")[0]
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", way, re.MULTILINE)
    assert f"That is {len(files)} files" in PAGE
    assert len(files) == len(set(files))
    assert all((PACKAGE / name).exists() for name in files)


def test_the_tables_of_the_page_are_those_of_the_app():
    told = [name for names, *_ in table("table", "what it holds", "who writes it") for name in codes(names)]
    ours = [model.__name__ for model in apps.get_app_config("django_kpwa").get_models() if not model._meta.proxy]
    assert sorted(told) == sorted(ours)


# The states of a message


def test_the_states_of_the_page_are_those_of_the_code():
    assert {before for before, _, _ in TRANSITIONS if before} == set(Status) - {Status.READ}
    assert {after for _, after, _ in TRANSITIONS} == set(Status)


def test_what_may_be_sent_again_is_what_the_page_resends():
    resent = {before for before, after, methods in TRANSITIONS if "resend" in methods and after == Status.QUEUED}
    assert resent == {*RESENDABLE, Status.SENT}, "`sent` may be resent only after it was reported as not delivered"


def test_what_has_arrived_only_moves_forward():
    moved = [(before, after) for before, after, methods in TRANSITIONS if before in ARRIVED and "resend" not in methods]
    assert moved
    assert all(after in ARRIVED[ARRIVED.index(Status(before)) + 1 :] for before, after in moved)


def test_only_what_is_not_settled_can_be_sent_or_fail_without_a_decision():
    by_a_person = {"resend", "want_again", "mark_sent"}
    left = {before for before, _, methods in TRANSITIONS if before and set(methods) - by_a_person}
    assert left == {*UNSETTLED, Status.UNKNOWN, Status.SENT, Status.DELIVERED}


def functions(paths: Iterable[Path]) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for path in paths:
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, []).append(node)
    return found


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Return all syntax nodes of a module."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


# The methods of the portable form, which is the reference for the other forms.
STORE = functions([*(PACKAGE / "store").glob("*.py"), PACKAGE / "models/message.py"])
VERDICT = functions([PACKAGE / "dispatch/verdict.py"])
METHODS = [name for name in dir(Store) if not name.startswith("_") and name in STORE]


def parts_of(method: str) -> Iterator[ast.AST]:
    """Return all syntax nodes of a method of the store, and of the store's methods that it calls."""
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
    # Keywords of filter() are lookups. Columns are the keywords of update(), or the keys of a dict passed to it.
    if isinstance(part, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "status" for key in part.keys)
    return "status" in written_by(part)


def test_store_methods_that_write_a_status_are_in_the_table():
    writing = {name for name in METHODS if any(map(writes_a_status, parts_of(name)))}
    assert writing == {method for before, _, methods in TRANSITIONS if before for method in methods}


def test_a_method_of_the_store_names_the_statuses_that_the_table_says():
    by_verdict = statuses_in(part for nodes in VERDICT.values() for node in nodes for part in ast.walk(node))
    for before, after, methods in TRANSITIONS:
        for method in methods:
            named = statuses_in(parts_of(method)) | (by_verdict if method == "record" else set())
            assert not before or {before, after} <= named, f"{method}: {before} -> {after}"


def test_what_is_stored_begins_where_the_table_does():
    stored = [after for before, after, _ in TRANSITIONS if not before]
    assert stored == [OutboundMessage().status, Status.CANCELLED], (
        "`cancelled` is for receipts whose recipient asked to stop"
    )


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
        (OutcomeKind.NOT_SENT.value, Cause.RESTRICTED.value),
    }
    assert {name for _, _, cause, _ in rows for name in codes(cause)} == set(Cause) - {Cause.NONE}
    pausing = {codes(cause)[0] for _, _, cause, then in rows if "the lane is paused" in then.lower()}
    assert pausing == set(PAUSED_AT_ONCE)


def test_the_pauses_of_the_page_end_as_those_of_the_code():
    ended_by = {codes(reason)[0]: end for reason, _, end in table("pause", "begins when", "ended by")}
    assert ended_by.keys() == set(PauseReason) - {PauseReason.NONE}
    assert {reason for reason, end in ended_by.items() if end == "people"} == set(HELD_BY_PEOPLE)
    assert {reason for reason, end in ended_by.items() if end == "status"} == set(ENDED_BY_STATUS)


# What only the store does

# Each exception states its reason. A test fails if an exception is no longer needed.
WRITES_ELSEWHERE = {
    "cli/groups.py": "user groups of the site, which are not part of the outbox",
    "models/license.py": "a license is configuration: a new default license takes the flag from the others",
    "models/statistics.py": "a heartbeat is not a state, and only store/heartbeats.py requests the write",
    "receipts/failures.py": "a failure is a note for people, counted by the code that caught it",
    "statistics.py": "figures are counted from rows of the store, and no behaviour depends on them",
}
SAVES_ELSEWHERE = {
    "admin/license_form.py": "a person edits a license in a form",
    "admin/license_link.py": "a person answers a question about a license's number",
    "cli/sandbox.py": "a license of a site under development",
    "cli/licenses.py": "a person changes a license by a command",
    "models/license.py": "a license",
    "testing.py": "a license for a site's own tests",
    "gateway/qr.py": "an image, saved to memory",
}
ASKS_FOR_THE_VENDOR = {
    "store/sql.py": "dialect_of(), which chooses the SQL that differs between databases",
    "models/source.py": "a field's collation is part of its table",
    "checks/configuration.py": "the advice depends on the site's database",
    "checks/database.py": "the advice depends on the site's database",
}
NAMES_A_DATABASE = {
    "models/database.py": "the outbox's database: the manager pinned to it, and the key of a process's caches",
    "models/license.py": "License.save(using=), where the caller may name a database, as for any model",
    "models/source.py": "the content types, which are Django's and not pinned, and the meaning of an alias",
    "apps.py": "the database that is migrated, or in which a license was saved",
    "containing.py": "all databases with an open transaction",
    "receipts/queueing.py": "the database in which the site saved a sale",
    "receipts/missing.py": "the database of a class's candidates",
    "receipts/identity.py": "the database from which the site's object is read again",
    "admin/receipt_preview.py": "the database from which the site's objects are listed",
}


@cache
def modules() -> dict[str, list[ast.AST]]:
    """Return the syntax nodes of each module of the package, by the module's path within the package."""
    found = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {name: nodes_of(path) for name, path in found.items() if not name.startswith("migrations/")}


def where(does: Callable[[ast.AST], bool], *, in_the_store: bool = False) -> set[str]:
    """Return the modules with a syntax node for which the predicate is true."""
    return {
        name
        for name, nodes in modules().items()
        if (in_the_store or not name.startswith("store/")) and any(map(does, nodes))
    }


def called(part: ast.AST) -> str:
    """Return the name of the method that `part` calls, or an empty string if it calls none."""
    return part.func.attr if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) else ""


def written_by(part: ast.AST) -> set[str]:
    """Return the columns that a call names: in `update()`, `bulk_update()` or `save(update_fields=…)`."""
    if not isinstance(part, ast.Call) or called(part) not in ("update", "save", "bulk_update"):
        return set()
    columns = {keyword.arg for keyword in part.keywords if keyword.arg}
    # For example update(**{"status": …}), save(update_fields=["status"]) and bulk_update(rows, ["status"]).
    given = [*part.args, *(keyword.value for keyword in part.keywords if keyword.arg in (None, "update_fields"))]
    for argument in given:
        keys = argument.keys if isinstance(argument, ast.Dict) else getattr(argument, "elts", [])
        columns |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return columns


def writes_rows(part: ast.AST) -> bool:
    # The update() of a queryset takes keywords. The update() of a dict or a set takes a mapping or an iterable.
    name = called(part).removeprefix("a")
    if name == "update":
        return isinstance(part, ast.Call) and bool(part.keywords)
    return name in {
        "bulk_update", "bulk_create", "create", "get_or_create", "update_or_create", "_raw_delete"
    }  # fmt: skip


def test_no_row_is_written_outside_the_store():
    assert where(writes_rows) == WRITES_ELSEWHERE.keys()


def test_no_status_or_lane_column_is_written_on_unknown_rows():
    states = {"status", *(field.name for field in Lane._meta.concrete_fields if not field.primary_key)}
    assert where(lambda part: bool(written_by(part) & states)) == set()


def test_only_a_license_is_saved():
    assert where(lambda part: called(part) in ("save", "asave", "save_base")) == SAVES_ELSEWHERE.keys()


def test_no_row_is_given_a_status_outside_the_store():
    def gives_one(part: ast.AST) -> bool:
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
        return any(
            isinstance(target, ast.Attribute) and target.attr == "status" and ast.unparse(target.value) != "self"
            for target in targets
        )

    def makes_one(part: ast.AST) -> bool:
        made = isinstance(part, ast.Call) and ast.unparse(part.func) in ("OutboundMessage", "WebhookEvent")
        return made and any(keyword.arg in ("status", None) for keyword in part.keywords)  # type: ignore[attr-defined]

    assert where(gives_one) == set()
    # The remains of a purged message are shown as a message object that is never stored.
    assert where(makes_one) == {"models/message.py"}


def test_which_database_it_is_is_asked_in_one_place():
    def asks(part: ast.AST) -> bool:
        return isinstance(part, ast.Attribute) and part.attr in ("vendor", "features")

    found = where(lambda part: isinstance(part, ast.Attribute) and part.attr == "vendor", in_the_store=True)
    assert found == ASKS_FOR_THE_VENDOR.keys()
    assert where(asks) == ASKS_FOR_THE_VENDOR.keys() - {"store/sql.py"}


def test_no_database_is_named_outside_the_store():
    def names_one(part: ast.AST) -> bool:
        if isinstance(part, ast.Subscript):
            return ast.unparse(part.value) == "connections"
        return called(part) in ("using", "db_manager", "get_connection") or (
            isinstance(part, ast.keyword) and part.arg == "using"
        )

    assert where(names_one) == NAMES_A_DATABASE.keys()


def test_only_the_store_and_the_system_checks_write_sql():
    found = where(lambda part: isinstance(part, ast.Attribute) and part.attr == "cursor")
    assert found == {"checks/database.py"}


def test_what_is_inserted_by_its_columns_has_a_value_for_each_in_python():
    # The store's INSERT writes every column. A column whose default exists only in the database would become NULL.
    without = [
        f"{model.__name__}.{field.name}"
        for model in (OutboundMessage, WebhookEvent)
        for field in model._meta.concrete_fields
        if field.has_db_default() and not field.has_default()
    ]
    assert without == []
