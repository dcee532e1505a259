// Keeps the banner and the chips of a page up to date: requests a URL of the site and takes over those parts of the
// response that the page has. The site's own view decides who may see what. Optional: nothing depends on it.
//   <script defer src="…/counter.js" data-address="/sales/recent/" data-seconds="5"></script>
"use strict";

(() => {
  const { address = location.href, seconds = "5" } = document.currentScript.dataset;
  const milliseconds = Math.max(1, Number(seconds) || 5) * 1000;
  const parts = (root) => [...root.querySelectorAll("[data-kpwa-part]")];
  const words = (element) => element.textContent.replace(/\s+/g, " ");
  const isInUse = (part) => part.contains(document.activeElement) || part.querySelector("details[open]");

  async function refresh() {
    if (!document.hidden && parts(document).length) {
      const fresh = await ask();
      for (const part of parts(document)) part.classList.toggle("kpwa-stale", !fresh);
      if (fresh) replace(fresh);
    }
    setTimeout(refresh, milliseconds);
  }

  async function ask() {
    try {
      const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(15000) });
      // A redirect most likely leads to a login page.
      if (!answer.ok || answer.redirected) return null;
      return new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      return null;
    }
  }

  function replace(fresh) {
    const byName = new Map(parts(fresh).map((part) => [part.dataset.kpwaPart, part]));
    for (const part of parts(document)) {
      const other = byName.get(part.dataset.kpwaPart);
      // Compared by their text, because a form's CSRF token differs in each response.
      if (other && !isInUse(part) && words(part) !== words(other)) part.replaceChildren(...other.childNodes);
    }
  }

  setTimeout(refresh, milliseconds);
})();
