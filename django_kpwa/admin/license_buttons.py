"""The buttons of a license. Those that call the gateway show its answer, or why there is none."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import license_actions
from ..conf import kpwa_settings
from ..gateway import ServiceStatus, SessionStatus, session_trouble_of
from ..license_conditions import lane_of
from ..models import HELD_BY_PEOPLE, License, PauseReason
from ..phone import mask, written
from ..words import TROUBLES, Words
from .base import MAY_OPERATE
from .buttons import Button, Done
from .gateway_failures import ASKING_ERRORS, failure_of
from .license_state import pause_of, webhook_of

NOTHING_CHANGED = _("Nothing was changed: somebody else was faster, or it was done already.")
_RESUMABLE = {reason.value for reason in license_actions.RESUMABLE} - {PauseReason.LOGGED_OUT.value}
"""Pause reasons with a "Resume" button. A log-out has none: without a new scan, the license would pause again."""

_Press = Callable[[HttpRequest, License], Done]


def _asking(ask: Callable[[License], Done]) -> _Press:
    """Return the press of a button that calls the gateway.

    The `ASKING_ERRORS` are not raised: the user sees the full text, and the admin's log gets the title only.
    """

    def press(request: HttpRequest, license_: License) -> Done:
        try:
            return ask(license_)
        except ASKING_ERRORS as error:
            failure = failure_of(error)
        return Done(failure.sentence, messages.ERROR, logged=failure.title)

    return press


def _deciding(decide: Callable[[License], bool], words: Words) -> _Press:
    def press(request: HttpRequest, license_: License) -> Done:
        return Done(words) if decide(license_) else Done(NOTHING_CHANGED, messages.WARNING, logged="")

    return press


def told(status: ServiceStatus) -> Done:
    """Return the result to show for a status of the link to WhatsApp."""
    if status.session_status == SessionStatus.CONNECTED:
        return Done(_("WhatsApp is linked."))
    if status.session_status == SessionStatus.QR:
        return Done(_("WhatsApp is not linked. Press “Link WhatsApp” and scan the code."), messages.WARNING)
    trouble = session_trouble_of(status.word)
    if trouble is not None:
        return Done(TROUBLES[trouble].explained, messages.WARNING)
    words = gettext(
        "The gateway does not say whether WhatsApp is linked; its answer is “%(word)s”. Check again in a minute."
    )
    return Done(words % {"word": status.word or "–"}, messages.WARNING)


def _check(license_: License) -> Done:
    seconds = min(kpwa_settings().status_deadline_seconds, license_actions.WEB_SECONDS)
    return told(license_actions.check_status(license_, deadline_seconds=seconds))


def _restart(license_: License) -> Done:
    done = told(license_actions.restart(license_, within_seconds=license_actions.WEB_SECONDS))
    return Done(gettext("Restarted. %(told)s") % {"told": done.words}, done.level)


def _register(license_: License) -> Done:
    license_actions.check_webhook_address(license_)
    license_actions.set_webhook(license_, within_seconds=license_actions.WEB_SECONDS)
    return Done(
        _(
            "The webhook is registered: the gateway now reports the status of messages, and customers' answers, to "
            "this site."
        )
    )


def _reset(license_: License) -> Done:
    license_actions.reset_webhook(license_, within_seconds=license_actions.WEB_SECONDS)
    return Done(_("The webhook is removed. Late events are accepted for one more day."))


def _is_stopped_for_its_number(license_: License) -> bool:
    return pause_of(license_) == PauseReason.NUMBER_CHANGED


def _question_of_number(license_: License) -> str:
    words = gettext("From now on %(new)s sends instead of %(old)s. The waiting messages go out.")
    return words % _written_numbers(license_) if _is_stopped_for_its_number(license_) else ""


def _question_of_old_number(license_: License) -> str:
    words = gettext("%(old)s is linked again instead of %(new)s. The waiting messages go out.")
    return words % _written_numbers(license_) if _is_stopped_for_its_number(license_) else ""


def _numbers(license_: License) -> dict[str, str]:
    lane = lane_of(license_)
    return {"old": lane.confirmed_number, "new": lane.linked_number} if lane else {"old": "", "new": ""}


def _written_numbers(license_: License) -> dict[str, str]:
    return {name: written(number) for name, number in _numbers(license_).items()}


def _confirming(*, keep: bool) -> _Press:
    def press(request: HttpRequest, license_: License) -> Done:
        numbers = _numbers(license_)
        if not license_actions.confirm_number(license_, keep=keep):
            return Done(NOTHING_CHANGED, messages.WARNING, logged="")
        number = numbers["old"] if keep else numbers["new"]
        words = gettext("%(number)s sends from now on.")
        return Done(words % {"number": written(number)}, logged=words % {"number": mask(number)})

    return press


HARD_TO_GET_BACK = _(
    "A link that is lost may be hard to get back: WhatsApp asks some accounts for a passkey, which not every gateway "
    "can answer."
)
CHECK_STATUS = Button("check_status", _("Check status"), MAY_OPERATE, _asking(_check))
RESTART = Button(
    "restart",
    _("Restart"),
    MAY_OPERATE,
    _asking(_restart),
    confirm=format_lazy(
        "{} {}",
        _(
            "The gateway's WhatsApp service is restarted. Messages wait in the meantime. Afterwards the code may "
            "have to be scanned again."
        ),
        HARD_TO_GET_BACK,
    ),
)
PAUSE = Button(
    "pause",
    _("Pause"),
    MAY_OPERATE,
    _deciding(license_actions.pause, _("Paused. Messages are kept until you press “Resume”.")),
    is_offered=lambda license_: pause_of(license_) not in HELD_BY_PEOPLE,
)
RESUME = Button(
    "resume",
    _("Resume"),
    MAY_OPERATE,
    _deciding(license_actions.resume, _("Sending continues.")),
    is_offered=lambda license_: pause_of(license_) in _RESUMABLE,
)
END_RESTRICTION = Button(
    "end_restriction",
    _("End the restriction"),
    MAY_OPERATE,
    _deciding(license_actions.end_restriction, _("What waited for that is sent.")),
    confirm=_(
        "Press this only if WhatsApp on the shop's phone says that the restriction is over. Trying too soon makes it "
        "longer."
    ),
    is_offered=lambda license_: _is_restricted(license_),
)
CONFIRM_NUMBER = Button(
    "confirm_number",
    _("Confirm this number"),
    MAY_OPERATE,
    _confirming(keep=False),
    confirm_for=_question_of_number,
    is_offered=_is_stopped_for_its_number,
)
KEEP_NUMBER = Button(
    "keep_number",
    _("The previous phone is linked again"),
    MAY_OPERATE,
    _confirming(keep=True),
    confirm_for=_question_of_old_number,
    is_offered=_is_stopped_for_its_number,
)
REGISTER_WEBHOOK = Button(
    "register_webhook",
    _("Register the webhook"),
    MAY_OPERATE,
    _asking(_register),
    is_offered=lambda license_: webhook_of(license_) is None,
)
RENEW_WEBHOOK = Button(
    "renew_webhook",
    _("Change the webhook's address"),
    MAY_OPERATE,
    _asking(_register),
    confirm=_(
        "The gateway gets a new secret address of this site. The old one remains valid until a day after the "
        "first event at the new one."
    ),
    is_offered=lambda license_: webhook_of(license_) is not None,
)
RESET_WEBHOOK = Button(
    "reset_webhook",
    _("Remove the webhook"),
    MAY_OPERATE,
    _asking(_reset),
    confirm=_("The gateway will no longer report whether messages arrived, nor what customers answer."),
    is_offered=lambda license_: webhook_of(license_) is not None,
)


def _is_restricted(license_: License) -> bool:
    lane = lane_of(license_)
    return lane is not None and lane.restricted_until is not None


def _archive(request: HttpRequest, license_: License) -> Done:
    license_.archive()
    return Done(_("Archived. It no longer sends; its messages stay."))


def _take_back(request: HttpRequest, license_: License) -> Done:
    license_.take_back()
    return Done(_("It is back in the list. Tick “active” to have it send."))


ARCHIVE = Button(
    "archive",
    _("Archive"),
    MAY_OPERATE,
    _archive,
    confirm=format_lazy(
        "{} {}",
        _("It no longer sends, is never chosen for a message, and is hidden from the lists. Its messages stay."),
        HARD_TO_GET_BACK,
    ),
    # An active license has to be made inactive first.
    is_offered=lambda license_: license_.archived_at is None and not license_.is_active,
)
TAKE_BACK = Button(
    "take_back",
    _("Restore from the archive"),
    MAY_OPERATE,
    _take_back,
    is_offered=lambda license_: license_.archived_at is not None,
)

BUTTONS = (
    ARCHIVE, TAKE_BACK,
    CHECK_STATUS, RESTART, PAUSE, RESUME, END_RESTRICTION,
    CONFIRM_NUMBER, KEEP_NUMBER, REGISTER_WEBHOOK, RENEW_WEBHOOK, RESET_WEBHOOK
)  # fmt: skip
