"""A site's own gateway for the provider Warta. Warta is invented: no provider has this name or these URLs."""

from django_kpwa.exceptions import BadRequestError, UnexpectedAnswerError
from django_kpwa.gateway import SentMessage, ServiceStatus, SessionStatus, WebhookAnswer, require_content
from django_kpwa.gateway.http import ApiGateway


class WartaGateway(ApiGateway):
    """`POST /messages` sends, `GET /session` reports if a phone is linked, and `POST /webhook` sets the webhook."""

    def get_headers(self):
        return {"Authorization": f"Bearer {self.api_key.reveal()}"}

    def send_message(self, phone_number, text="", image_url=""):
        require_content(text, image_url)
        content = {"to": phone_number, "text": text}
        if image_url:
            content["image"] = image_url
        answer = self.ask_json("POST", "/messages", content)
        if not isinstance(answer.get("id"), str) or not answer["id"].strip():
            raise UnexpectedAnswerError("Warta accepted a message without giving its id.")  # in doubt
        return SentMessage(id=answer["id"], body=text, to=phone_number)

    def get_status(self, *, deadline_seconds=None):
        state = self.ask_json("GET", "/session", deadline_seconds=deadline_seconds).get("state")
        known = {"online": SessionStatus.CONNECTED, "offline": SessionStatus.QR}
        return ServiceStatus(known.get(str(state), SessionStatus.UNKNOWN), word=str(state))

    def set_webhook(self, url):
        self.ask_json("POST", "/webhook", {"url": url})
        return WebhookAnswer()

    def reset_webhook(self):
        self.ask_json("POST", "/webhook", {"url": ""})
        return self.get_status()

    def _refuse(self, *arguments):
        raise BadRequestError("Warta does not offer this.")

    send_group_message = restart = get_login_qr = check_number = _refuse
