"use strict";
// Fetches the page again and replaces its main part. Without a script the page has a link that does the same.
{
  const button = document.getElementById("pause");
  const note = document.getElementById("note");
  let paused = false;
  let busy = false;

  const pause = (yes) => {
    paused = yes;
    button.textContent = yes ? "Resume refresh" : "Pause refresh";
  };

  const show = (next) => {
    const main = next.querySelector("main");
    if (!main) throw new Error("no page came");
    const focused = document.activeElement?.closest("main a")?.getAttribute("href");
    document.querySelector("main").replaceChildren(...main.childNodes);
    document.title = next.title;
    if (focused) document.querySelector(`main a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    // Nobody's selection is taken away, and nobody is asked for who does not look.
    if (paused || busy || document.hidden) return;
    if (!getSelection().isCollapsed) {
      note.textContent = "Not refreshed while text is selected.";
      return;
    }
    busy = true;
    try {
      const address = location.origin + location.pathname + location.search;
      const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(16000) });
      // A browser would ask for the password each time.
      if (answer.status === 401) pause(true);
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const text = await answer.text();
      if (!paused) show(new DOMParser().parseFromString(text, "text/html"));
      note.textContent = "";
    } catch (error) {
      note.textContent = `Not refreshed: ${error.message}. What is shown may be out of date.`;
    }
    busy = false;
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    pause(!paused);
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, 15000);
}
