"""Checks of the receipt classes' templates: a broken one would otherwise be noticed only when receipts fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.base import Template, VariableNode
from django.template.loader import get_template
from django.template.loader_tags import ExtendsNode, IncludeNode

from ..receipts import Receipt, registry
from ..receipts.plain_text import is_plain, refusal
from .configuration import make_warning
from .registration import register

_ESCAPING = frozenset(("escape", "force_escape", "escapeseq"))


@register()
def check_receipt_templates(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W070 to W073: templates that are missing, do not compile, may escape for HTML, or do so with a filter."""
    found: dict[tuple[type[Receipt], str], list[CheckMessage]] = {}
    for registration in registry.registrations():
        receipt = registration.receipt
        # A class without `template_name` overrides `render()` and needs no template.
        if receipt.template_name and (type(receipt), receipt.template_name) not in found:
            name = f"{type(receipt).__module__}.{type(receipt).__qualname__}"
            found[type(receipt), receipt.template_name] = list(_problems(name, receipt.template_name, set()))
    return [message for messages in found.values() for message in messages]


def _problems(receipt: str, name: str, seen: set[str]) -> Iterator[CheckMessage]:
    """Check the template `name` and, recursively, those that it extends or includes; `seen`: names checked already."""
    seen.add(name)
    try:
        wrapped = get_template(name)
    except TemplateDoesNotExist as error:
        missing = str(error) or name
        yield make_warning(
            "W070",
            f"The template {missing!r} of the receipt {receipt} does not exist: each of its receipts would fail.",
            "Correct template_name, or put the file where TEMPLATES looks for it.",
        )
        return
    except TemplateSyntaxError as error:
        yield make_warning(
            "W071",
            f"The template {name!r} of the receipt {receipt} cannot be read: {error}",
            "Correct the template: each of its receipts would fail.",
        )
        return
    if not is_plain(wrapped):
        yield make_warning("W072", f"The template {name!r} of the receipt {receipt} is not rendered.", refusal(wrapped))
    elif isinstance(template := getattr(wrapped, "template", None), Template):
        if _escapes(template):
            yield make_warning(
                "W073",
                f"The template {name!r} of the receipt {receipt} escapes for HTML with a filter: the customer "
                "would read Kopi &amp; Roti.",
                "Remove escape and force_escape; for a customer's text, use wa_escape of {% load kpwa %}.",
            )
        for other in _named_in(template):
            if other not in seen:
                yield from _problems(receipt, other, seen)


def _escapes(template: Template) -> bool:
    nodes: Any = template.nodelist.get_nodes_by_type(VariableNode)
    return any(
        getattr(function, "_filter_name", "") in _ESCAPING
        for node in nodes
        for function, _ in node.filter_expression.filters
    )


def _named_in(template: Template) -> Iterator[str]:
    """The names of the templates that `template` extends or includes by a literal name."""
    extended: list[Any] = template.nodelist.get_nodes_by_type(ExtendsNode)
    included: list[Any] = template.nodelist.get_nodes_by_type(IncludeNode)
    for expression in [*(node.parent_name for node in extended), *(node.template for node in included)]:
        if isinstance(expression.var, str) and not expression.filters:
            yield expression.var
