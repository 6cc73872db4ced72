// A run that was held: release it and let it run on in one click, inside Airflow. Clearing the task `assess`
// and what follows is a request to Airflow's own REST API, with the session of whoever is signed in.
"use strict";

async function clearAssess(address, runId) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      dry_run: false,
      dag_run_id: runId,
      task_ids: ["assess"],
      include_downstream: true,
      only_failed: false,
      reset_dag_runs: true,
    }),
  });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    const why = typeof problem.detail === "string" ? problem.detail : `status ${answer.status}`;
    throw new Error(`Airflow did not clear the task assess (${why}). Clear it on the DAG run's page.`);
  }
  return (await answer.json()).total_entries;
}

async function release(form) {
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new URLSearchParams(new FormData(form)),
    redirect: "manual",
  });
  // The page redirects when it has released the run.
  if (answer.type !== "opaqueredirect" && !answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `It was not released: status ${answer.status}.`);
  }
}

async function runOn(element, before) {
  const status = document.querySelector("[data-clear-status]");
  status.textContent = "Working…";
  try {
    await before();
    const tasks = await clearAssess(element.dataset.clear, element.dataset.runId);
    status.textContent = `The run goes on: ${tasks} tasks are cleared. Its ledger here is new when it ends.`;
    element.querySelectorAll("button").forEach((button) => button.remove());
    element.matches("button") && element.remove();
  } catch (error) {
    status.textContent = error.message;
    element.querySelectorAll("button").forEach((button) => (button.disabled = false));
  }
}

document.addEventListener("submit", (event) => {
  if (event.target.matches("form[data-clear]")) {
    event.preventDefault();
    runOn(event.target, () => release(event.target));
  }
});

for (const button of document.querySelectorAll("button[data-clear]")) {
  button.hidden = false;
  button.addEventListener("click", () => runOn(button, async () => {}));
}
