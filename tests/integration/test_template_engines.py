"""A receipt is plain text with any template engine, and a broken template is found before the first sale."""

from __future__ import annotations

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from jinja2 import Environment, FileSystemBytecodeCache

from django_kpwa import receipts
from django_kpwa.dispatch import drive
from django_kpwa.models import DatabaseNow, OutboundMessage, Status
from tests.shop.models import Line, Sale

pytestmark = pytest.mark.django_db

NAME = "Kopi & Roti <b>\"A\"</b> 'x'"
DJANGO = "django.template.backends.django.DjangoTemplates"
JINJA = "django.template.backends.jinja2.Jinja2"
STRINGS = "django.template.backends.dummy.TemplateStrings"


BASE = "{% autoescape on %}{% block b %}{% endblock %}{% endautoescape %}"


def with_bytecode(**options):
    return Environment(bytecode_cache=FileSystemBytecodeCache(with_bytecode.folder), **options)


@pytest.fixture
def site(settings, tmp_path):
    """Write templates and make the engine the only one. Return the receipt class for `Sale`."""
    registered = []

    def make(backend, template_name="struk.txt", options=None, **templates):
        for name, text in templates.items():
            (tmp_path / f"{name}.txt").write_text(text)
        settings.TEMPLATES = [{"BACKEND": backend, "DIRS": [tmp_path], "APP_DIRS": False, "OPTIONS": options or {}}]

        class Struk(receipts.Receipt):
            event = "struk"

            def should_send(self, sale):
                return True

            def get_phone_number(self, sale):
                return "081234567890"

            def get_occurred_at(self, sale):
                return sale.sold_at

            def get_context_data(self, sale, **context):
                return {**super().get_context_data(sale, **context), "name": NAME, "names": [NAME, "&"]}

        Struk.template_name = template_name
        registered.append(receipts.register(Sale)(Struk))
        return Struk

    yield make
    for receipt_class in registered:
        receipts.unregister(receipt_class)


def sold(license_):
    Sale.objects.create(status=Sale.Status.OPEN)
    OutboundMessage.objects.update(due_at=DatabaseNow())
    drive(license_.pk)
    return OutboundMessage.objects.get()


@pytest.mark.parametrize(
    "text",
    [
        "{{ name }}",
        "{% autoescape true %}{{ name }}{% endautoescape %}",
        "{{ name|e }}",
        "{{ name|escape }}",
        "{{ name|forceescape }}",
        "{% include 'part.txt' %}",
        "{% from 'macro.txt' import m %}{{ m(name) }}",
        "{% set n = name %}{{ n }}",
        "{% filter escape %}{{ name }}{% endfilter %}",
        "{{ '%s'|format(name) }}",
        "{{ [name]|join }}",
        "{% autoescape true %}{% include 'part.txt' %}{% endautoescape %}",
        "{% block b scoped %}{{ name }}{% endblock %}",
    ],
)
@pytest.mark.parametrize("options", [{}, {"autoescape": True}], ids=["by default", "told to escape"])
def test_jinja2_writes_the_text_as_it_is(license_, site, text, options):
    macro = "{% macro m(x) %}{{ x }}{% endmacro %}"
    site(JINJA, options=options, struk=text, part="{{ name }}", macro=macro)
    assert sold(license_).text == NAME


def test_a_page_of_the_same_environment_escapes_still(license_, site, tmp_path):
    from django.template.loader import get_template

    with_bytecode.folder = str(tmp_path)
    site(JINJA, options={"environment": f"{__name__}.with_bytecode"}, struk="{{ name }}")
    assert "&amp;" in get_template("struk.txt").render({"name": NAME})
    assert sold(license_).text == NAME
    assert "&amp;" in get_template("struk.txt").render({"name": NAME})


@pytest.mark.parametrize(
    "text",
    [
        "{{ name }}",
        "{% autoescape on %}{{ name }}{% endautoescape %}",
        "{% include 'part.txt' %}",
        "{% firstof '' name %}",
        "{% autoescape on %}{% include 'part.txt' with name=name only %}{% endautoescape %}",
        "{% with n=name %}{{ n }}{% endwith %}",
        "{% autoescape on %}{% load i18n %}{% blocktranslate %}{{ name }}{% endblocktranslate %}{% endautoescape %}",
        "{% extends 'base.txt' %}{% block b %}{% autoescape on %}{{ name }}{% endautoescape %}{% endblock %}",
    ],
)
def test_djangos_engine_writes_the_text_as_it_is_whatever_a_shared_template_turns_on(license_, site, text):
    site(
        DJANGO, struk=text, part="{{ name }}", base="{% autoescape on %}{% block b %}{% endblock %}{% endautoescape %}"
    )
    assert sold(license_).text == NAME


def test_another_engine_is_refused_loudly_and_by_a_check(license_, site):
    receipt_class = site(STRINGS, struk="$name")
    with pytest.raises(ImproperlyConfigured, match="HTML entities"):
        receipt_class().render(Sale(pk=1))
    message = sold(license_)
    assert (message.status, message.text) == (Status.FAILED, "")
    assert "HTML entities" in message.reason_words
    assert "kpwa.W072" in found()


def found():
    """What the checks report about the receipt of these tests."""
    return {message.id: message for message in checks.run_checks(tags=["kpwa"], databases=()) if "Struk" in message.msg}


def test_a_missing_template_is_found_by_a_check(site):
    site(DJANGO, template_name="sales/recepit.txt")
    message = found()["kpwa.W070"]
    assert "sales/recepit.txt" in message.msg
    assert "Struk" in message.msg
    assert message.hint


@pytest.mark.parametrize(
    "text",
    [
        "{% include 'gone.txt' %}",
        "{% extends 'gone.txt' %}",
        "{% if name %}{% include 'gone.txt' %}{% endif %}",
    ],
)
def test_so_is_one_that_a_template_includes_or_extends(site, text):
    site(DJANGO, struk=text)
    assert "gone.txt" in found()["kpwa.W070"].msg


def test_a_template_that_includes_itself_is_no_problem(site):
    site(DJANGO, struk="{% if 0 %}{% include 'struk.txt' %}{% endif %}{% include name %}")
    assert not {"kpwa.W070", "kpwa.W071"} & set(found())


@pytest.mark.parametrize("backend", [DJANGO, JINJA])
def test_a_template_that_cannot_be_read_is_found_by_a_check(site, backend):
    site(backend, struk="{{ name|rupee:1 }}{% nonsense %}")
    assert "struk.txt" in found()["kpwa.W071"].msg


@pytest.mark.parametrize("text", ["{{ name|escape }}", "{% if name %}{{ name|lower|force_escape }}{% endif %}"])
def test_a_filter_that_escapes_is_found_by_a_check(site, text):
    site(DJANGO, struk=text)
    assert "struk.txt" in found()["kpwa.W073"].msg


@pytest.mark.parametrize("backend", [DJANGO, JINJA])
def test_a_good_template_is_no_problem(site, backend):
    site(backend, struk="{{ name }}")
    assert not {"kpwa.W070", "kpwa.W071", "kpwa.W072", "kpwa.W073"} & set(found())


def test_the_lines_of_a_sale_are_read_in_jinja2(license_, site):
    site(JINJA, struk="{% for line in sale.lines.all() %}{{ line.name }}{% endfor %}")
    sale = Sale.objects.create(status=Sale.Status.OPEN)
    Line.objects.create(sale=sale, name="Kopi & Roti", price=1)
    OutboundMessage.objects.update(due_at=DatabaseNow())
    drive(license_.pk)
    assert OutboundMessage.objects.get().text == "Kopi & Roti"
