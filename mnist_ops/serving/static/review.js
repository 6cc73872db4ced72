// The review with keys, and with the next pictures fetched ahead. Without it the forms work alone.
"use strict";

(() => {
  const review = document.getElementById("review");
  const place = document.getElementById("review-place");
  const message = document.getElementById("review-message");
  const FETCH_BELOW = 5; // pieces in hand
  let queue = []; // the records after the one that is shown: {record, html}
  let sending = Promise.resolve(); // answers are sent one after the other
  let fetching = null;
  const unanswered = new Set(); // records whose answer, or skip, the server has not confirmed yet

  const shown = () => place.querySelector(".review-item");

  function say(text, good) {
    message.textContent = text;
    message.className = good ? "alert good" : "alert warn";
    message.hidden = false;
  }

  // `html` is a piece of the page that the server rendered and escaped.
  function show(html) {
    place.innerHTML = html;
    shown()?.focus({ preventScroll: true });
  }

  async function askFor(address, options) {
    const response = await fetch(address, { ...options, headers: { Accept: "application/json" } });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(`${answer.title}. ${answer.detail ?? ""}`);
    }
    return answer;
  }

  function fetchAhead() {
    fetching ??= fetchPieces().finally(() => {
      fetching = null;
    });
    return fetching;
  }

  async function fetchPieces() {
    const here = [shown()?.dataset.record, ...queue.map((piece) => piece.record)].filter(Boolean);
    const held = [...new Set([...here, ...unanswered])];
    const address = new URL(review.dataset.next, window.location.href);
    for (const record of held) {
      address.searchParams.append("without", record);
    }
    const answer = await askFor(address);
    queue.push(...answer.items.filter((piece) => !held.includes(piece.record)));
    document.getElementById("review-left").textContent = answer.remaining;
  }

  function offerAgain() {
    const again = document.createElement("button");
    again.type = "button";
    again.className = "primary";
    again.textContent = "Try again";
    again.addEventListener("click", () => {
      message.hidden = true;
      showNext().catch((error) => say(error.message, false));
    });
    place.replaceChildren(again);
    again.focus();
  }

  async function showNext() {
    if (queue.length === 0) {
      place.setAttribute("aria-busy", "true");
      place.replaceChildren();
      try {
        await sending;
        await fetchAhead();
      } catch (error) {
        offerAgain();
        throw error;
      } finally {
        place.removeAttribute("aria-busy");
      }
    }
    const next = queue.shift();
    if (next) {
      show(next.html);
    } else {
      window.location.reload(); // the page says why there is none
      return;
    }
    if (queue.length < FETCH_BELOW) {
      await fetchAhead();
    }
  }

  function count(answer) {
    document.getElementById("review-answered").textContent = answer.answered.toLocaleString("en");
    const rate = document.getElementById("review-rate");
    rate.textContent = answer.an_hour === null ? "" : `, at ${Math.round(answer.an_hour).toLocaleString("en")} an hour`;
  }

  // The result is that of the audit whose page this is; an undo may concern another one.
  function showResult(answer) {
    const result = document.getElementById("review-result");
    const here = new URL(review.dataset.next, window.location.href).searchParams.get("audit");
    if (result && answer.result !== null && answer.audit === here) {
      result.innerHTML = answer.result;
    }
  }

  function send(address, body, quiet) {
    const record = body.get("record");
    if (record) {
      unanswered.add(record);
    }
    const answered = sending
      .then(() => askFor(address, { method: "POST", body }))
      .finally(() => unanswered.delete(record));
    sending = answered.then(
      (answer) => {
        count(answer);
        showResult(answer);
        if (!(quiet && answer.as_wished)) {
          say(answer.message, answer.as_wished);
        }
      },
      (error) => say(`Not saved: ${error.message} The record comes back within ten minutes.`, false),
    );
    return answered;
  }

  async function undo(form) {
    const answer = await send(form.action, new URLSearchParams(), false);
    const back = answer.items[0];
    if (!back) {
      return;
    }
    const current = shown();
    if (current && current.dataset.record !== back.record) {
      queue.unshift({ record: current.dataset.record, html: current.outerHTML });
    }
    queue = queue.filter((piece) => piece.record !== back.record);
    show(back.html);
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!review.contains(form)) {
      return;
    }
    event.preventDefault();
    const failed = (error) => say(error.message, false);
    if (form.id === "review-undo") {
      undo(form).catch(failed);
      return;
    }
    const button = event.submitter;
    const body = new URLSearchParams(new FormData(form, button));
    message.hidden = true;
    send(button.getAttribute("formaction") ?? form.action, body, true).catch(() => {});
    showNext().catch(failed);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) {
      return;
    }
    const focused = document.activeElement;
    if (focused?.closest("input, select, textarea")) {
      return;
    }
    if (event.key === "Enter" && focused?.closest("a, button")) {
      return; // Enter presses what has the focus
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const button = review.querySelector(`[data-keys~="${CSS.escape(key)}"]`);
    if (button) {
      event.preventDefault();
      button.click();
    }
  });

  shown()?.focus({ preventScroll: true });
  if (shown()) {
    fetchAhead().catch((error) => say(error.message, false));
  }
})();
