// Presses without loading the page again. One press at a time: each answer brings the cookie with the new count.
"use strict";
(() => {
  const form = document.getElementById("press");
  const line = document.getElementById("line");
  const presses = document.getElementById("presses");
  const problem = document.getElementById("problem");
  const button = form.querySelector("button");
  let waiting = 0;
  let busy = false;

  async function work() {
    if (busy) return;
    busy = true;
    while (waiting > 0) {
      waiting -= 1;
      await press();
    }
    busy = false;
  }

  async function press() {
    button.classList.add("down");
    try {
      const answer = await fetch("/", {
        method: "POST",
        headers: { Accept: "application/json" },
        signal: AbortSignal.timeout(20000),
      });
      const told = await answer.json();
      if (answer.ok) {
        line.textContent = told.line;
        presses.textContent = told.presses;
        problem.hidden = true;
      } else {
        fail(told.problem);
      }
    } catch {
      fail("The server does not answer, so this press is not counted. Please try again in a moment.");
    }
    button.classList.remove("down");
  }

  function fail(text) {
    waiting = 0;
    problem.textContent = text;
    problem.hidden = false;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Whoever presses faster than the broker answers for so long has had their fun.
    waiting = Math.min(waiting + 1, 20);
    work();
  });
})();
