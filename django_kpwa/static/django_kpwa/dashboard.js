// Keeps the dashboard up to date: requests its parts every few seconds while the page is visible, and replaces those that
// have changed. It preserves the focus, selected messages and an opened table. If the server can't be reached, the page
// says so and turns grey, so that old figures are not taken for current ones. Without this script it is a static page.
"use strict";

(() => {
  const EVERY = 5000;
  const PATIENCE = 10000;
  const DAYS_EVERY = 12; // the chart of 30 days changes slowly, and is the most expensive to compute
  const { address } = document.currentScript.dataset;
  const shown = new Map();
  let round = 0;
  let timer = 0;
  let isAsking = false;

  const parts = (root) => [...root.querySelectorAll("[data-kpwa-part]")];
  // A form's CSRF token differs in each response.
  const html = (part) => part.outerHTML.replace(/(name="csrfmiddlewaretoken" value=")[^"]*/g, "$1");

  async function refresh() {
    clearTimeout(timer);
    if (!document.hidden && !isAsking) {
      isAsking = true;
      round += 1;
      const answer = await ask();
      isAsking = false;
      if (answer.page) replace(answer.page);
      say(answer.problem);
    }
    timer = setTimeout(refresh, EVERY);
  }

  async function ask() {
    try {
      const url = round % DAYS_EVERY ? address : `${address}?days=yes`;
      const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      // A redirect leads to the login page.
      if (answer.redirected || answer.status === 403) return { problem: "loggedOut" };
      if (!answer.ok) return { problem: "away" };
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      return parts(page).length ? { page } : { problem: "away" };
    } catch {
      return { problem: "away" };
    }
  }

  function replace(page) {
    for (const fresh of parts(page)) {
      const name = fresh.dataset.kpwaPart;
      const old = parts(document).find((part) => part.dataset.kpwaPart === name);
      const now = html(fresh);
      if (!old || shown.get(name) === now) continue;
      shown.set(name, now);
      const restore = whatIsInUse(old);
      old.className = fresh.className;
      old.replaceChildren(...fresh.childNodes);
      restore(old);
      prepare(old);
    }
  }

  function whatIsInUse(part) {
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const chosen = [...part.querySelectorAll("input:checked")].map((box) => box.id);
    const opened = [...part.querySelectorAll("details[open]")].map((details) => details.id);
    const scrolled = [...part.querySelectorAll(".kpwa-scroll")].map((box) => box.scrollTop);
    return (now) => {
      for (const id of chosen) if (find(now, id)) find(now, id).checked = true;
      for (const id of opened) if (find(now, id)) find(now, id).open = true;
      now.querySelectorAll(".kpwa-scroll").forEach((box, index) => { box.scrollTop = scrolled[index] ?? 0; });
      if (focused && find(now, focused)) find(now, focused).focus({ preventScroll: true });
    };
  }

  function find(part, id) {
    return id ? part.querySelector(`#${CSS.escape(id)}`) : null;
  }

  function say(problem) {
    const place = document.querySelector("[data-kpwa-stale]");
    if ((place.dataset.problem ?? "") === (problem ?? "")) return;
    place.dataset.problem = problem ?? "";
    place.parentElement.classList.toggle("kpwa-is-stale", Boolean(problem));
    place.replaceChildren();
    if (!problem) return;
    place.append(place.dataset[problem].replace("TIME", document.querySelector("[data-kpwa-time]").textContent));
    if (problem === "loggedOut") {
      const link = document.createElement("a");
      link.href = place.dataset.here;
      link.textContent = place.dataset.logIn;
      place.append(" ", link);
    }
  }

  // The box that selects all needs this script, so only this script shows it.
  function prepare(root) {
    const all = root.querySelector("[data-kpwa-all]");
    if (!all) return;
    const boxes = [...root.querySelectorAll("input[name=_selected_action]")];
    const follow = () => { all.checked = boxes.every((box) => box.checked); };
    all.closest("[hidden]")?.removeAttribute("hidden");
    all.addEventListener("change", () => boxes.forEach((box) => { box.checked = all.checked; }));
    for (const box of boxes) box.addEventListener("change", follow);
    follow();
  }

  for (const part of parts(document)) shown.set(part.dataset.kpwaPart, html(part));
  prepare(document);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  timer = setTimeout(refresh, EVERY);
})();
