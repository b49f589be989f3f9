"use strict";
(() => {
  const EVERY = 2000;
  const lost = document.getElementById("lost");

  const ask = async (address, options = {}) => {
    const answer = await fetch(address, { cache: "no-store", ...options });
    lost.hidden = true;
    return answer;
  };

  // Parts of a page that change: replaced where they have, but not under a finger or a focus.
  const parts = Array.from(document.querySelectorAll("[data-part]"));
  const put = (part, html) => {
    if (part.dataset.seen === html) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.dataset.post : null;
    part.dataset.seen = html;
    part.innerHTML = html;
    if (focused) part.querySelector(`[data-post="${CSS.escape(focused)}"]`)?.focus();
    show();
  };
  const renew = async () => {
    for (const part of parts) {
      const answer = await ask(part.dataset.part);
      if (answer.ok) put(part, await answer.text());
    }
  };

  // Pause, resume, stop.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-post]");
    if (!button || (button.dataset.sure && !confirm(button.dataset.sure))) return;
    button.disabled = true;
    const answer = await ask(button.dataset.post, { method: "POST", headers: { "X-Studyflow": "1" } });
    const text = await answer.text();
    const part = button.closest("[data-part]");
    if (answer.ok && part) put(part, text);
    else {
      button.disabled = false;
      alert(new DOMParser().parseFromString(text, "text/html").querySelector("main p")?.textContent ?? "This failed.");
    }
  });

  // The report: a frame as tall as its content; the next one is drawn behind it before it is shown.
  let frame = document.getElementById("report");
  let shown = document.querySelector("[data-version]")?.dataset.version;
  const fit = (of) => {
    const page = of.contentDocument;
    if (!page?.body) return;
    of.style.height = `${page.documentElement.scrollHeight}px`;
    for (const link of page.querySelectorAll('a[href]:not([href^="#"])')) link.target = "_top";
    new ResizeObserver(() => { of.style.height = `${page.body.scrollHeight + 24}px`; }).observe(page.body);
  };
  frame?.addEventListener("load", () => fit(frame));
  if (frame?.contentDocument?.readyState === "complete") fit(frame);
  function show() {
    const version = document.querySelector("[data-version]")?.dataset.version;
    if (!frame || version === shown) return;
    shown = version;
    const open = Array.from(frame.contentDocument?.querySelectorAll("details[id]") ?? []).filter((d) => d.open).map((d) => d.id);
    const next = frame.cloneNode();
    next.removeAttribute("id");
    Object.assign(next.style, { position: "absolute", visibility: "hidden", height: "100vh" });
    next.addEventListener("load", () => {
      for (const id of open) { const found = next.contentDocument.getElementById(id); if (found) found.open = true; }
      Object.assign(next.style, { position: "", visibility: "" });
      fit(next);
      frame.remove();
      next.id = "report";
      frame = next;
    }, { once: true });
    document.body.append(next);
  }

  // A log as it is written.
  const log = document.querySelector("[data-log]");
  let offset = null;
  let isOver = false;
  const read = async () => {
    if (!log || isOver) return;
    for (;;) {
      const answer = await ask(offset === null ? log.dataset.log : `${log.dataset.log}?offset=${offset}`);
      if (!answer.ok) return;
      const text = await answer.text();
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      offset = answer.headers.get("X-Next-Offset");
      if (text) log.append(text);
      if (text && atEnd) log.scrollTop = log.scrollHeight;
      isOver = answer.headers.get("X-Is-Over") === "1" && !text;
      if (!text) break;
    }
    document.getElementById("log-note").textContent = isOver ? (log.textContent ? "The trial has ended." : "Nothing of this log is left here: it is among the artifacts of the trial's run in MLflow.") : "";
  };

  const turn = async () => {
    if (!document.hidden) {
      try {
        await renew();
        await read();
      } catch { lost.hidden = false; }
    }
    setTimeout(turn, EVERY);
  };
  turn();
})();
