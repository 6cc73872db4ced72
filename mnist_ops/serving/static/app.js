// What every page does with JavaScript; the pages work without it.
"use strict";

// Airflow shows the pages in a frame whose links stay in it. A link to Airflow's own UI (data-airflow-ui) is
// followed by the window around the frame instead.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow-ui]");
  if (!link || window.parent === window || event.button !== 0 || event.ctrlKey || event.metaKey) {
    return;
  }
  const around = window.parent.document;
  const follower = around.createElement("a");
  follower.href = link.href;
  around.body.append(follower);
  follower.click();
  follower.remove();
  event.preventDefault();
});

// A form that is being sent cannot be sent twice (data-once), and one may ask first (data-confirm).
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) {
    event.preventDefault();
    return;
  }
  if ("once" in form.dataset) {
    window.setTimeout(() => {
      for (const button of form.querySelectorAll("button")) {
        button.disabled = true;
      }
    });
  }
});

// A text that can be copied: <button data-copy="id of an element">.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) {
    return;
  }
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = "Copied";
  } catch {
    window.getSelection().selectAllChildren(source);
    button.textContent = "Selected: copy it";
  }
});
