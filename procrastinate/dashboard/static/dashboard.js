// Makes the pages live. Without it, all pages and actions work.
(function () {
  "use strict";
  const page = document.querySelector("[data-page]");
  if (!page) return;
  const status = page.querySelector("[data-status]");
  const choice = page.querySelector("[data-refresh]");
  const stored = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem(name);
      localStorage.setItem(name, value);
    } catch (error) { /* storage is off: keep nothing */ }
    return null;
  };

  // Refresh

  let timer = 0;
  let stopped = ""; // why the operation of this page does not go on
  let busy = false;

  function seconds() {
    return Number(choice.value);
  }

  function inUse(part) {
    if (part.querySelector("input[type=checkbox]:checked, .pq-menu[open]")) return true;
    if (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  }

  function keepOpen(from, to) {
    for (const old of from.querySelectorAll("details[id]")) {
      const fresh = to.querySelector("#" + CSS.escape(old.id));
      if (fresh) fresh.open = old.open;
    }
    const focused = document.activeElement;
    if (!from.contains(focused)) return () => {};
    const places = [...from.querySelectorAll("a, button, summary")];
    const place = places.indexOf(focused);
    return () => [...to.querySelectorAll("a, button, summary")][place]?.focus({ preventScroll: true });
  }

  function replaceParts(fresh) {
    for (const part of page.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other || inUse(part)) continue;
      if (other.innerHTML === part.dataset.source) continue;
      const source = other.innerHTML;
      const copy = document.importNode(other, true);
      const refocus = keepOpen(part, copy);
      copy.dataset.source = source;
      part.replaceWith(copy);
      refocus();
    }
    enhance();
  }

  async function refresh() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      replaceParts(new DOMParser().parseFromString(await answer.text(), "text/html"));
      say(stopped);
    } catch (error) {
      say("not up to date");
    } finally {
      busy = false;
    }
  }

  function say(text) {
    if (!status || status.textContent === text) return;
    status.textContent = text;
    status.hidden = !text;
  }

  function schedule() {
    clearTimeout(timer);
    if (!seconds()) return;
    const jitter = 0.9 + Math.random() * 0.2;
    timer = setTimeout(async () => { await refresh(); schedule(); }, seconds() * 1000 * jitter);
  }

  // The message about an action is shown once, and not after a reload.
  const address = new URL(location.href);
  if (address.searchParams.has("done")) {
    address.searchParams.delete("done");
    history.replaceState(history.state, "", address);
  }

  if (choice) {
    choice.hidden = false;
    const before = stored("procrastinate-refresh");
    if (before !== null && [...choice.options].some((one) => one.value === before)) choice.value = before;
    choice.addEventListener("change", () => { stored("procrastinate-refresh", choice.value); schedule(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && seconds()) refresh(); });
    schedule();
  }

  // The menu of a phone shows the entry of the page, and the row of states the chosen one.

  for (const row of page.querySelectorAll(".pq-nav, .pq-tabs")) {
    const current = row.querySelector("[aria-current]");
    if (!current) continue;
    const [outer, inner] = [row.getBoundingClientRect(), current.getBoundingClientRect()];
    row.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
  }

  // An operation on many jobs goes on while its page is open. A server that is busy or away is asked again.

  async function goOn() {
    const form = page.querySelector("form[data-continue]");
    if (!form) return;
    let status = 0;
    try {
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.action, { method: "POST", body });
      status = answer.status;
      if (!answer.ok) throw new Error(String(status));
      await refresh();
      setTimeout(goOn, 100);
    } catch (error) {
      const isRefused = status >= 400 && status < 500;
      if (isRefused) stopped = "stopped: reload the page to continue";
      say(stopped || "not up to date");
      if (!isRefused) setTimeout(goOn, 5000);
    }
  }
  goOn();

  // Colours

  const themes = ["auto", "light", "dark"];
  const switcher = page.querySelector("[data-theme-switch]");
  if (switcher) {
    switcher.hidden = false;
    switcher.addEventListener("click", () => {
      const now = document.documentElement.dataset.theme || "auto";
      const next = themes[(themes.indexOf(now) + 1) % themes.length];
      if (next === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = next;
      stored("procrastinate-theme", next);
    });
  }

  // Parts that a refresh replaces

  function enhance() {
    for (const all of page.querySelectorAll("[data-select-all]")) all.hidden = false;
    for (const copy of page.querySelectorAll("[data-copy]")) copy.hidden = !navigator.clipboard;
  }
  enhance();

  page.addEventListener("change", (event) => {
    if (!event.target.matches("[data-select-all]")) return;
    for (const box of event.target.form.querySelectorAll("input[name=job]")) box.checked = event.target.checked;
  });

  page.addEventListener("submit", (event) => {
    const many = event.submitter?.dataset.confirmMany;
    const count = event.target.querySelectorAll("input[name=job]:checked").length;
    const question = many ? `${many} ${count} ${count === 1 ? "job" : "jobs"}?` : event.target.dataset.confirm;
    if (question && !(many && !count) && !window.confirm(question)) event.preventDefault();
  });

  page.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      await navigator.clipboard.writeText(document.getElementById(copy.dataset.copy).textContent);
      copy.textContent = "Copied";
    }
    const time = event.target.closest("time[data-time]");
    if (time) {
      const relative = time.dataset.relative ?? time.textContent;
      time.dataset.relative = relative;
      time.textContent = time.textContent === relative ? time.title : relative;
    }
  });

  // Keys

  function move(step) {
    const rows = [...page.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const now = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.min(Math.max(now + step, 0), rows.length - 1)];
    next.querySelector("a")?.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      page.querySelector("[data-find]")?.focus();
    } else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "x") {
      const box = document.activeElement.closest("[data-row]")?.querySelector("input[name=job]");
      if (box) box.checked = !box.checked;
    } else if (event.key === "r") refresh();
  });
})();
