"use strict";
(() => {
  const html = (name, parent, text = null, kind = null) => {
    const element = document.createElement(name);
    if (text !== null) element.textContent = text;
    if (kind) element.className = kind;
    if (parent) parent.appendChild(element);
    return element;
  };

  // Copy buttons. The clipboard API is missing in sandboxed frames and on file://.
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      let done = false;
      try {
        await navigator.clipboard.writeText(source.textContent);
        done = true;
      } catch {
        const range = document.createRange();
        range.selectNodeContents(source);
        const selection = window.getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        try { done = document.execCommand("copy"); } catch { done = false; }
      }
      button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  }

  // The replay: one picture at a time, by slider, buttons, arrow keys or clock.
  const replay = document.getElementById("replay");
  if (replay) {
    const frames = Array.from(replay.querySelectorAll("[data-frame]"));
    const tools = html("div", null, null, "chart-tools");
    const button = (text, name, act) => {
      const made = html("button", tools, text);
      made.type = "button";
      made.setAttribute("aria-label", name);
      made.addEventListener("click", act);
      return made;
    };
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: frames.length - 1, value: frames.length - 1 });
    slider.setAttribute("aria-label", "Picture");
    const count = html("span", null);
    let clock = null;
    const show = (index) => {
      frames.forEach((frame, i) => { frame.hidden = i !== index; });
      slider.value = index;
      slider.setAttribute("aria-valuetext", frames[index].dataset.frame);
      count.textContent = `${index + 1} of ${frames.length}`;
    };
    const rest = () => {
      clearInterval(clock);
      clock = null;
      play.textContent = "▶ Play";
    };
    const step = (by) => { rest(); show(Math.min(Math.max(Number(slider.value) + by, 0), frames.length - 1)); };
    button("‹", "Previous picture", () => step(-1));
    tools.appendChild(slider);
    button("›", "Next picture", () => step(1));
    const play = button("▶ Play", "Play or pause", () => {
      if (clock !== null) { rest(); return; }
      if (Number(slider.value) === frames.length - 1) show(0);
      play.textContent = "❚❚ Pause";
      clock = setInterval(() => {
        if (Number(slider.value) === frames.length - 1) rest();
        else show(Number(slider.value) + 1);
      }, 900);
    });
    tools.appendChild(count);
    slider.addEventListener("input", () => { rest(); show(Number(slider.value)); });
    replay.prepend(tools);
    show(frames.length - 1);
  }

  // The table of trials: sorting by any column, filtering by text.
  const table = document.getElementById("trial-table");
  if (table) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const key = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.v ?? cell.textContent.trim();
    };
    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = rows.map((row) => {
          const text = key(row, column);
          return { row, text, value: text === "" || text === "–" ? NaN : parseFloat(text) };
        });
        const numeric = head.classList.contains("num");
        keyed.sort((a, b) => {
          if (numeric) {
            const gap = Number.isNaN(a.value) - Number.isNaN(b.value);
            if (gap) return gap;  // rows without a value stay last
            return (down ? b.value - a.value : a.value - b.value) || 0;
          }
          if (!a.text !== !b.text) return a.text ? -1 : 1;
          return (down ? -1 : 1) * a.text.localeCompare(b.text);
        });
        body.append(...keyed.map((entry) => entry.row));
      });
    });
    const filter = document.getElementById("filter");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !words.every((word) => texts[i].includes(word));
        shown += !row.hidden;
      });
      document.getElementById("filter-count").textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
  }

  // One panel of several, chosen by name.
  for (const choose of document.querySelectorAll("select[data-choose]")) {
    const panels = choose.closest("figure").querySelectorAll("[data-panel]");
    const show = () => panels.forEach((panel, i) => { panel.hidden = i !== choose.selectedIndex; });
    choose.addEventListener("change", show);
    choose.closest(".chart-tools").hidden = false;
    show();
  }

  // What stands behind a mark: the words of its trial's row, by pointer or by arrow keys.
  const heads = table ? Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent.trim()) : [];
  const words = (number) => {
    const row = document.getElementById(`trial-${number}`);
    if (!row) return `trial ${number}`;
    return Array.from(row.cells)
      .map((cell, i) => [heads[i], cell.textContent.trim()])
      .filter(([head, text]) => text && text !== "–" && head !== "links" && head !== "message")
      .map(([head, text]) => `${head} ${text}`)
      .join("\n");
  };
  const tip = html("div", document.body);
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  const leave = () => {
    tip.hidden = true;
    for (const mark of document.querySelectorAll(".hot")) mark.classList.remove("hot");
  };
  const point = (mark, x, y) => {
    leave();
    tip.textContent = words(mark.dataset.n);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 8))}px`;
    for (const other of document.querySelectorAll(`[data-n="${mark.dataset.n}"]`)) other.classList.add("hot");
  };
  const goTo = (number) => {
    const row = document.getElementById(`trial-${number}`);
    if (!row) return;
    row.scrollIntoView({ block: "center" });
    row.focus();
  };
  for (const svg of document.querySelectorAll("figure svg[role=img]")) {
    const marks = Array.from(svg.querySelectorAll("[data-n]"));
    if (!marks.length) continue;
    marks.sort((a, b) => a.dataset.n - b.dataset.n);
    svg.addEventListener("pointerover", (event) => {
      const mark = event.target.closest("[data-n]");
      if (mark) point(mark, event.clientX, event.clientY);
      else leave();
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("click", (event) => {
      const mark = event.target.closest("[data-n]");
      if (mark) goTo(mark.dataset.n);
    });
    let at = -1;
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by && event.target === svg) {
        at = (at + by + marks.length) % marks.length;
        const box = marks[at].getBoundingClientRect();
        point(marks[at], box.right, box.bottom);
      } else if (event.key === "Enter" && at >= 0 && event.target === svg) goTo(marks[at].dataset.n);
      else if (event.key === "Escape") leave();
      else return;
      event.preventDefault();
    });
    svg.addEventListener("blur", leave);
  }

  // Parallel coordinates: keep the lines within a range of an axis, by dragging or by arrow keys.
  for (const svg of document.querySelectorAll("figure svg")) {
    const handles = Array.from(svg.querySelectorAll(".handle"));
    if (!handles.length) continue;
    const lines = Array.from(svg.querySelectorAll("[data-u]"), (line) => [line, line.dataset.u.split(",").map(Number)]);
    const note = html("p", null, null, "remark");
    const hint = "Drag along an axis, or press ↑ and ↓ on it, to keep only the trials there; a click or Escape lets go.";
    note.setAttribute("role", "status");
    note.textContent = hint;
    svg.before(note);
    const kept = new Map();
    const apply = () => {
      let count = 0;
      for (const [line, units] of lines) {
        const inside = [...kept].every(([axis, [low, high]]) => units[axis] >= low && units[axis] <= high);
        line.classList.toggle("away", !inside);
        count += inside;
      }
      note.textContent = kept.size ? `${count} of ${lines.length} trials kept` : hint;
    };
    for (const handle of handles) {
      const axis = Number(handle.dataset.axis);
      const [top, length] = [Number(handle.dataset.top), Number(handle.dataset.length)];
      const band = handle.cloneNode();
      band.removeAttribute("data-axis");
      band.setAttribute("class", "brush");
      band.setAttribute("height", 0);
      svg.insertBefore(band, handle);
      const keep = (low, high) => {
        if (high - low < 0.01) { kept.delete(axis); band.setAttribute("height", 0); }
        else {
          kept.set(axis, [low, high]);
          band.setAttribute("y", top + length * (1 - high));
          band.setAttribute("height", length * (high - low));
        }
        apply();
      };
      const shareAt = (event) => {
        const y = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).y;
        return Math.min(Math.max(1 - (y - top) / length, -0.2), 1);
      };
      let start = null;
      handle.setAttribute("tabindex", 0);
      handle.setAttribute("role", "slider");
      handle.setAttribute("aria-label", `Range of ${handle.dataset.name}`);
      handle.setAttribute("aria-valuenow", 0);
      handle.setAttribute("aria-valuetext", "all");
      handle.addEventListener("pointerdown", (event) => { start = shareAt(event); handle.setPointerCapture(event.pointerId); });
      const move = (event) => {
        if (start === null) return;
        const end = shareAt(event);
        keep(Math.min(start, end), Math.max(start, end));
      };
      handle.addEventListener("pointermove", move);
      handle.addEventListener("pointerup", (event) => { move(event); start = null; });
      const fifths = [[0, 0], [-0.2, 0.2], [0.2, 0.4], [0.4, 0.6], [0.6, 0.8], [0.8, 1]];
      let chosen = 0;
      handle.addEventListener("keydown", (event) => {
        const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!by && event.key !== "Escape") return;
        chosen = by ? (chosen + by + fifths.length) % fifths.length : 0;
        keep(...fifths[chosen]);
        handle.setAttribute("aria-valuenow", chosen);
        handle.setAttribute("aria-valuetext", chosen ? `part ${chosen} of 5` : "all");
        event.preventDefault();
        event.stopPropagation();
      });
    }
  }
})();
