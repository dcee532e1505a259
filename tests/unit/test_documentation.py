"""The documentation agrees with the code, as far as a test can compare them."""

from __future__ import annotations

import ast
import builtins
import gettext
import re
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path

from django_kpwa import conf, exceptions, receipts, signals
from django_kpwa.cli import SUBCOMMANDS
from tests.shop.models import Ticket

ROOT = Path(__file__).resolve().parent.parent.parent


def documented_settings() -> dict[str, tuple[str, str]]:
    table = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) \|$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    return {name: (default, text) for name, default, text in table}


def test_every_setting_is_documented_with_its_default_and_its_meaning():
    documented = documented_settings()
    assert set(documented) == {setting.name for setting in fields(conf.Settings)}
    for setting in fields(conf.Settings):
        default, text = documented[setting.name]
        expected = setting.default if setting.default is not MISSING else setting.default_factory()
        if setting.name != "BASE_URLS":
            assert ast.literal_eval(default.strip("`")) == expected, setting.name
        assert text, f"{setting.name} has no description"


def test_every_exception_stands_in_the_drawn_tree_and_only_those():
    drawn = set(re.findall(r"\b\w+Error\b", exceptions.__doc__)) - {"ValueError"}
    defined = {name for name, value in vars(exceptions).items() if isinstance(value, type)} - {"Any"}
    assert drawn == defined


def test_every_signal_is_described_where_it_is_defined():
    described = set(re.findall(r"`(\w+)`", signals.__doc__))
    defined = {name for name, value in vars(signals).items() if isinstance(value, signals.Signal)}
    assert defined <= described


def test_every_check_is_documented_and_only_those():
    written = "".join(path.read_text() for path in (ROOT / "django_kpwa/checks").glob("*.py"))
    made = set(re.findall(r"""["'](?:kpwa\.)?([EWI]\d{3})["']""", written))
    documented = set(re.findall(r"^\| `kpwa\.([EWI]\d{3})`", (ROOT / "docs/checks.md").read_text(), re.MULTILINE))
    assert made == documented


def test_a_receipt_is_on_the_phone_after_eight_commands_and_twelve_lines():
    """Count what a user of the tutorial types, from `pip install` to the first receipt on the phone.

    A command is one that a shell runs at once, including everything between its quotes. A line of code is a line of
    Python in a file that is neither blank nor a comment. The lines of the site's own model count too. Not counted are
    the receipt's text and the steps that create pip's environment.
    """
    page = (ROOT / "docs/tutorial.md").read_text()
    begun = page.index("pip install django-kpwa")
    receipt_at = page.index("The receipt is on the phone after a few seconds")
    blocks = list(re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE))
    to_receipt = [(block[1], block[2]) for block in blocks if begun <= block.end() <= receipt_at]
    console = "".join(text for kind, text in to_receipt if kind == "console")
    unquoted = re.sub(r'"[^"]*"', "…", console)
    commands = [line for line in unquoted.splitlines() if line.strip() and not line.startswith("#")]
    assert [commands[0], commands[-1]] == ["pip install django-kpwa", "python manage.py shell -c …"]
    assert "Sale.objects.create" in console
    assert sum(1 + len(re.findall(r"&&|;|\|", command)) for command in commands) <= 8
    python = [line for kind, text in to_receipt if kind == "python" for line in text.splitlines()]
    assert len([line for line in python if line.strip() and not line.startswith("#")]) <= 12
    assert {kind for kind, _ in to_receipt} == {"console", "python", "django", "text"}


def test_every_receipt_class_of_the_pages_may_be_registered(monkeypatch):
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    written = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    drawn = receipts.__doc__.split("\n\n", 1)[1].split("\n\n`")[0]
    samples = [block for block in (*written, textwrap.dedent(drawn)) if "@receipts.register" in block]
    assert len(samples) == 5
    for field in ("customer_phone", "paid_at"):
        monkeypatch.setattr(Ticket, field, None, raising=False)
    for sample in samples:
        named: dict[str, object] = {"__name__": "a_site", "Sale": Ticket, "receipts": receipts}
        exec(sample.replace("from .models import Sale", ""), named)
        (receipt_class,) = (each for each in named.values() if getattr(each, "__module__", "") == "a_site")
        receipts.unregister(receipt_class)


WHAT_A_READER_HAS = {
    *("KPWA", "DEBUG", "DATABASES", "INSTALLED_APPS", "CELERY_BEAT_SCHEDULE", "urlpatterns"),
    *("models", "admin", "path"),  # imported by the files of a new project
    *("Sale", "order", "KITCHEN", "logger"),  # from the page's example
    *("receipts", "send_message", "OutboundMessage"),  # shown in full on the same page or the previous one
}
"""Names that a code block may use without importing them."""


def test_a_block_of_python_can_be_pasted():
    """The import of `os` is easily forgotten, because the settings of a new project do not import it."""
    unknown = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"^ *```python\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE):
            tree = ast.parse(textwrap.dedent(block))
            names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
            known = {*dir(builtins), *(node.id for node in names if isinstance(node.ctx, ast.Store))}
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and node.name:
                    known.add(node.name)
                elif isinstance(node, ast.arg):
                    known.add(node.arg)
                elif isinstance(node, (ast.Import, ast.ImportFrom)):
                    known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            unknown += [
                (page.name, block[:60], name) for name in {node.id for node in names} - known - WHAT_A_READER_HAS
            ]
    assert unknown == []


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that common forges and the documentation site give to the headings of `page`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_of_the_readme_and_the_docs_leads_somewhere():
    pages = [*ROOT.glob("*.md"), ROOT / "benchmarks/README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for name, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name} links to {name}, which does not exist"
            assert not anchor or anchor in anchors_of(target), (
                f"{page.name} links to {name}#{anchor}, which does not exist"
            )


def test_the_symptoms_name_what_is_on_the_screen_and_commands_that_exist():
    page = (ROOT / "docs/symptoms.md").read_text()
    catalogue = (ROOT / "django_kpwa/locale/id/LC_MESSAGES/django.po").read_text()
    # The admin capitalizes the names of its lists.
    shown = {text.casefold() for text in re.findall(r'^msgid(?:_plural)? "(.+)"$', catalogue, re.MULTILINE)}
    named = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page))
    assert len(named) > 30
    assert [name for name in sorted(named) if name.casefold() not in shown] == []
    commands = set(re.findall(r"`kpwa ([a-z-]+)", page))
    assert len(commands) > 5
    assert commands <= set(SUBCOMMANDS)


def test_the_owners_pages_name_what_is_on_the_screen_and_say_no_word_of_technology():
    with (ROOT / "django_kpwa/locale/id/LC_MESSAGES/django.mo").open("rb") as file:
        shown = {text.casefold().rstrip(".") for text in gettext.GNUTranslations(file)._catalog.values()}
    shown |= {"whatsapp"}
    pages = sorted((ROOT / "docs/pemilik").glob("*.md"))
    assert len(pages) == 5
    for page in pages:
        text = page.read_text()
        named = re.findall(r"\*\*([^*\n]+)\*\*", text)
        assert len(named) > 2
        assert [name for name in named if name.casefold().rstrip(".") not in shown] == [], page.name
        assert "![" in text
        plain = text.replace("**Gateway tidak bisa dihubungi**", "")
        assert re.findall(r"(?i)\b(gateway|webhook|worker|server|broker|api|url|celery|database|token)\b", plain) == []


def test_every_test_that_the_guarantees_name_is_there():
    written = {
        f"{file.name} {name}"
        for file in (ROOT / "tests/faults").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    files = {test.split()[0] for test in written}
    page = (ROOT / "docs/guarantees.md").read_text()
    # `test_file.py`, followed by the names of its tests.
    named = re.findall(r"`(?:tests/faults/)?(test_\w+\.py)`((?:[\s,]*`test_\w+`)*)", page)
    assert len(named) > 20
    for file, tests in named:
        assert file in files | {"test_invariants.py"}, file
        for test in re.findall(r"test_\w+", tests):
            assert f"{file} {test}" in written, test
