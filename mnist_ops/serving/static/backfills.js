// Starts the previewed backfill through Airflow's own REST API, as the user who is signed in to Airflow.
"use strict";

const SAID = {
  401: "Airflow does not know you any more. Sign in to Airflow again, then come back to this page.",
  403: "Your role in Airflow may not start backfills. Give the command to somebody whose role may.",
  404: "Airflow does not know the DAG. Is it in the DAG folder, and without import errors?",
  409: "Another backfill of this DAG is running. Wait for its end, or cancel it.",
};

function sentence(status, answer) {
  if (SAID[status]) {
    return SAID[status];
  }
  const detail = typeof answer?.detail === "string" ? answer.detail : JSON.stringify(answer?.detail ?? "");
  return `Airflow refused it with status ${status}. ${detail}`;
}

function show(place, kind, text, link) {
  const box = document.createElement("p");
  box.className = `alert ${kind}`;
  box.textContent = text;
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = link;
    anchor.dataset.airflowUi = "";
    anchor.textContent = "See its runs in Airflow";
    box.append(" ", anchor);
  }
  place.replaceChildren(box);
}

async function start(form, place) {
  let response;
  try {
    response = await fetch(form.dataset.api, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      credentials: "same-origin",
      body: form.dataset.body,
    });
  } catch {
    show(place, "bad", "Not started: Airflow did not answer. Look whether it was started before you try again.", form.dataset.page);
    return false;
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    show(place, "bad", `Not started: ${sentence(response.status, answer)}`, response.status === 409 ? form.dataset.page : "");
    return false;
  }
  show(place, "good", `Started: backfill ${answer.id}. Its runs begin within seconds.`, form.dataset.page);
  return true;
}

const form = document.getElementById("start");
if (form) {
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    const started = await start(form, document.getElementById("started"));
    button.disabled = started;
  });
}
