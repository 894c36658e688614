// Runs before the page is drawn, so that the chosen colours do not flash.
(function () {
  "use strict";
  try {
    const chosen = localStorage.getItem("procrastinate-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch (error) { /* storage is off: follow the system */ }
})();
