// Runs before the page is painted. Inside Airflow the pages follow the theme that Airflow's UI keeps in the
// browser's storage ("light", "dark" or "system"); alone they follow the system.
"use strict";

function applyTheme() {
  let theme = null;
  try {
    theme = window.localStorage.getItem("theme");
  } catch {
    // Storage is blocked: the system decides.
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  } else {
    delete document.documentElement.dataset.theme;
  }
}

applyTheme();
window.addEventListener("storage", applyTheme);
