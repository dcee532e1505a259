// Shows the code that links WhatsApp without leaving the page: requests a new one before it expires, notices the scan,
// and removes the code when the time is up. Every response is the page's panel; without this script the browser submits
// the same forms. Nothing of a code is kept except the drawing itself.
"use strict";

(() => {
  const root = document.querySelector("[data-kpwa-link]");
  if (!root) return;
  const MAX_MISSES = 2; // failed requests in a row before an error is shown: a single one may be a hiccup
  const said = root.querySelector("[data-kpwa-said]");
  const panel = () => root.querySelector("[data-kpwa-panel]");
  const milliseconds = (name) => Number(root.dataset[name]) * 1000;
  const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
  const instead = (name) =>
    root.querySelector(`[data-kpwa-instead=${name}]`).content.firstElementChild.cloneNode(true);
  const passkey = root.querySelector("[data-kpwa-passkey]");
  let run = 0; // number of the current run: a run ends when a new run or the time limit has increased it

  // Return the panel of the response; null if there is none: no connection, logged out, no longer permitted.
  async function ask(address) {
    const token = root.querySelector("[name=csrfmiddlewaretoken]").value;
    try {
      const answer = await fetch(address, {
        method: "POST",
        body: new URLSearchParams({ csrfmiddlewaretoken: token }),
        headers: { "X-Kpwa-Part": "panel" },
        cache: "no-store",
        signal: AbortSignal.timeout(100000),
      });
      if (!answer.ok || answer.redirected) return null;
      return new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-kpwa-panel]");
    } catch {
      return null;
    }
  }

  function show(fresh) {
    const old = panel();
    const hadFocus = old.contains(document.activeElement) || document.activeElement === document.body;
    old.replaceWith(fresh);
    const heading = fresh.querySelector("[data-kpwa-heading]");
    said.textContent = heading.textContent.trim();
    if (hadFocus) heading.focus({ preventScroll: true });
    fresh.scrollIntoView({ block: "nearest" });
  }

  function stop(name) {
    run += 1;
    if (panel().dataset.step === "code") show(instead(name));
  }

  async function start(form) {
    const mine = ++run;
    const button = form.querySelector("button");
    button.disabled = true;
    if (button.dataset.busy) button.textContent = said.textContent = button.dataset.busy;
    const answer = await ask(root.dataset.code);
    if (mine !== run) return;
    show(answer ?? instead("offline"));
    if (panel().dataset.step === "code") {
      askAboutPasskey();
      watch();
    }
  }

  async function watch() {
    const mine = ++run;
    const end = setTimeout(() => mine === run && stop("expired"), milliseconds("stopSeconds"));
    let drawnAt = Date.now();
    for (let misses = 0; misses < MAX_MISSES; ) {
      await wait(milliseconds("pollSeconds"));
      if (mine !== run) break;
      if (document.hidden) continue;
      const isOld = Date.now() - drawnAt >= milliseconds("redrawSeconds");
      const answer = await ask(isOld ? root.dataset.code : root.dataset.check);
      if (mine !== run) break;
      const step = answer?.dataset.step;
      if (step === "linked") {
        passkey.hidden = true;
        show(answer);
        break;
      }
      if (answer?.querySelector("[data-kpwa-asks-for-passkey]")) passkey.hidden = false;
      if (step === "code") {
        panel().querySelector("[data-kpwa-code]").replaceWith(answer.querySelector("[data-kpwa-code]"));
        drawnAt = Date.now();
      }
      misses = step === "code" || step === "waiting" ? 0 : misses + 1;
      if (misses === MAX_MISSES) show(answer ?? instead("offline"));
    }
    clearTimeout(end);
  }

  // Shown after a minute without a link, because some phones ask for a passkey after the scan.
  function askAboutPasskey() {
    setTimeout(() => (passkey.hidden = panel().dataset.step === "linked"), milliseconds("passkeySeconds"));
  }

  root.classList.add("kpwa-live");
  root.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-kpwa-ask]")) return;
    event.preventDefault();
    start(event.target);
  });
  // A page that is left may be shown again by "back", and must not show a code then.
  addEventListener("pagehide", () => stop("expired"));
  if (panel().dataset.step === "code") {
    askAboutPasskey();
    watch();
  }
})();
