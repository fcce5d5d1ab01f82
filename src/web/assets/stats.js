// Refreshes the numbers, while somebody looks.
"use strict";
(() => {
  const place = document.getElementById("numbers");
  let shown = place.innerHTML;

  async function refresh() {
    if (document.hidden) return;
    try {
      const answer = await fetch("/stats/numbers", { signal: AbortSignal.timeout(10000) });
      const text = await answer.text();
      // What the server's template has escaped; the same text is not set again, so that a selection stays.
      if (text !== shown && (answer.ok || answer.status === 503)) {
        shown = text;
        place.innerHTML = text;
      }
    } catch {
      // The next one may get through.
    }
  }

  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
})();
