"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes = {}, parent = null, text = null) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    if (parent) parent.appendChild(element);
    return element;
  };
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
    const frames = Array.from(replay.querySelectorAll("img"));
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
      slider.setAttribute("aria-valuetext", frames[index].alt);
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
      const words = filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !words.every((word) => texts[i].includes(word));
        shown += !row.hidden;
      });
      document.getElementById("filter-count").textContent =
        words.length ? `${shown} of ${rows.length}` : "";
    });
  }

  // Charts to explore. Without this script, or if a chart fails, its picture stays.
  const source = document.getElementById("study-data");
  if (!source) return;
  const study = JSON.parse(source.textContent);
  const { trials, parameters, objectives } = study;
  const complete = trials.filter((t) => t.v);
  const tip = html("div", document.body);
  tip.id = "tip";
  tip.hidden = true;
  const number = (v) => (v === null || v === undefined ? "–" : String(parseFloat(v.toPrecision(4))));
  const show = (parameter, v) => (v === null ? "–" : parameter.choices ? parameter.choices[v] : number(v));
  const words = (t) => [
    `trial ${t.n}${t.b ? " ★ best" : ""}${t.e ? " (enqueued)" : ""}: ${t.s}`,
    ...(t.v ? objectives.map((o, i) => `${o.name}: ${number(t.v[i])}`) : []),
    ...parameters.map((p, i) => [p, t.p[i]]).filter(([, v]) => v !== null).slice(0, 14)
      .map(([p, v]) => `${p.name}: ${show(p, v)}`),
  ].join("\n");
  const point = (event, t) => {
    tip.textContent = words(t);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
    for (const mark of document.querySelectorAll("[data-n]")) mark.classList.toggle("hot", mark.dataset.n === String(t.n));
  };
  const leave = () => {
    tip.hidden = true;
    for (const mark of document.querySelectorAll(".hot")) mark.classList.remove("hot");
  };
  const colour = (name) => `var(--${name})`;
  const first = trials[0].n;
  const last = trials[trials.length - 1].n;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const stops = dark
    ? [[96, 84, 160], [62, 128, 178], [38, 164, 140], [130, 210, 84], [253, 231, 37]]
    : [[206, 196, 24], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]];
  const strong = dark ? "brighter" : "darker";
  const mix = (share) => {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const i = Math.min(Math.floor(place), stops.length - 2);
    return `rgb(${stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (place - i))).join(" ")})`;
  };
  const byOrder = (t) => mix(last > first ? (t.n - first) / (last - first) : 1);

  // Scales: from a value to [0, 1], with ticks.
  const linear = (low, high) => {  // of trial numbers
    const step0 = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(step0));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= step0 * 0.99) ?? power * 10;
    const ticks = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) ticks.push(parseFloat(v.toPrecision(10)));
    return { unit: (v) => (v - low) / (high - low), ticks };
  };
  const between = ({ low, high, log, ticks }) => ({
    unit: log ? (v) => (v > 0 ? (Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low)) : -1) : (v) => (v - low) / (high - low),
    ticks,
    text: number,
  });
  const parameterScale = (p) => {
    if (p.choices) {
      const n = p.choices.length;
      const stride = Math.ceil(n / 12);
      return { unit: (v) => (v + 0.5) / n, ticks: p.choices.map((_, i) => i).filter((i) => i % stride === 0), text: (v) => p.choices[v] };
    }
    return p.low === p.high ? { unit: () => 0.5, ticks: [p.low], text: number } : between(p);
  };
  const objectiveScale = (i, axis = "axis") => between(objectives[i][axis]);
  const clamp = (unit) => Math.min(Math.max(unit, 0), 1);

  const frame = (parent, width, height, margin, x, y, names, label) => {
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, parent);
    const [top, right, bottom, left] = margin;
    const w = width - left - right;
    const h = height - top - bottom;
    const at = { x: (v) => left + w * clamp(x.unit(v)), y: (v) => top + h * (1 - clamp(y.unit(v))) };
    for (const v of y.ticks) {
      make("line", { x1: left, x2: left + w, y1: at.y(v), y2: at.y(v), class: "grid" }, svg);
      make("text", { x: left - 6, y: at.y(v) + 4, "text-anchor": "end" }, svg, y.text(v));
    }
    const room = Math.max(Math.floor(w / Math.max(x.ticks.length, 1) / 7), 3);
    for (const v of x.ticks) {
      const text = String(x.text(v));
      make("text", { x: at.x(v), y: top + h + 16, "text-anchor": "middle" }, svg, text.length > room ? `${text.slice(0, room - 1)}…` : text);
      make("line", { x1: at.x(v), x2: at.x(v), y1: top + h, y2: top + h + 3, class: "axis" }, svg);
    }
    make("line", { x1: left, x2: left + w, y1: top + h, y2: top + h, class: "axis" }, svg);
    make("text", { x: left + w / 2, y: height - 4, "text-anchor": "middle", class: "title" }, svg, names[0]);
    if (names[1]) make("text", { x: left, y: 13, class: "title" }, svg, names[1]);
    return { svg, at, top, left, w, h };
  };
  const listen = (shape, t) => {
    shape.dataset.n = t.n;
    shape.addEventListener("pointerenter", (event) => point(event, t));
    shape.addEventListener("pointerleave", leave);
    return shape;
  };
  const wedge = (parent, x, y) => make("path", { d: `M${x - 5} ${y - 4}h10l-5 9z`, fill: colour("pruned") }, parent);
  const mark = (parent, t, x, y, options) => {
    let shape;
    if (t.b) {
      const r = options.r * 2;
      const corners = Array.from({ length: 10 }, (_, i) => {
        const angle = (Math.PI * i) / 5 - Math.PI / 2;
        const length = i % 2 ? r * 0.45 : r;
        return `${(x + length * Math.cos(angle)).toFixed(1)},${(y + length * Math.sin(angle)).toFixed(1)}`;
      });
      shape = make("polygon", { points: corners.join(" "), fill: colour("best"), stroke: colour("card") }, parent);
    } else if (options.cross) {
      const r = options.r;
      shape = make("path", { d: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`, stroke: colour("failed"), "stroke-width": 1.5, fill: "none" }, parent);
    } else {
      shape = make("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: options.r, fill: t.f ? options.fill : "none", stroke: t.f ? "none" : colour("infeasible"), "fill-opacity": options.opacity ?? 0.85 }, parent);
    }
    return listen(shape, t);
  };
  const radius = Math.max(2, 5 - Math.log10(trials.length));

  const keys = (parent, entries) => {
    const tools = html("div", parent, null, "chart-tools");
    for (const [draw, text] of entries) {
      const key = html("span", tools, null, "key");
      draw(make("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, key));
      html("span", key, text);
    }
    return tools;
  };
  const dot = (fill) => (svg) => make("circle", { cx: 7, cy: 7, r: 4.5, fill }, svg);
  const stroke = (name, dashes = "") => (svg) => make("line", { x1: 0, x2: 14, y1: 7, y2: 7, stroke: colour(name), "stroke-width": 2.5, "stroke-dasharray": dashes }, svg);
  const star = (svg) => mark(svg, { b: true, n: "" }, 7, 7, { r: 3.4 });
  const box = (svg) => make("rect", { x: 1, y: 1, width: 12, height: 12, fill: "none", stroke: colour("enqueued"), "stroke-width": 1.6 }, svg);
  const cross = (svg) => mark(svg, { n: "" }, 7, 7, { r: 4, cross: true });

  const convergence = (parent, label) => {
    if (objectives.length !== 1) return false;
    const failed = trials.filter((t) => t.s.startsWith("failed"));
    const entries = [[dot(colour("complete")), "complete"], [star, "best"], [stroke("best"), "best so far"]];
    const pruned = trials.filter((t) => t.l !== null);
    if (pruned.length) entries.push([(svg) => wedge(svg, 7, 7), "pruned (last value)"]);
    if (trials.some((t) => t.e)) entries.push([box, "enqueued"]);
    if (failed.length) entries.push([cross, "failed"]);
    const y = objectiveScale(0, "wide_axis");
    const beyond = (v) => y.unit(v) < 0 || y.unit(v) > 1;
    if (study.target !== null) entries.push([stroke("target", "4 3"), beyond(study.target) ? "target (off axis)" : "target"]);
    if ([...complete.map((t) => t.v[0]), ...pruned.map((t) => t.l)].some(beyond)) entries.push([() => {}, "at the edge: beyond the axis"]);
    keys(parent, entries);
    const room = Math.max(0.02 * (last - first), 0.6);
    const x = { ...linear(first - room, last + room), text: number };
    x.ticks = x.ticks.filter((v) => Number.isInteger(v) && v >= first);
    const { svg, at, top, left, w, h } = frame(parent, 1160, 400, [24, 14, 44, 76], x, y, ["trial", objectives[0].name], label);
    if (study.target !== null) make("line", { x1: left, x2: left + w, y1: at.y(study.target), y2: at.y(study.target), stroke: colour("target"), "stroke-width": 1.6, "stroke-dasharray": "6 4" }, svg);
    let best = null;
    let path = "";
    for (const t of complete.filter((c) => c.f)) {
      if (best === null || (objectives[0].minimize ? t.v[0] < best : t.v[0] > best)) {
        path += best === null ? `M${at.x(t.n)} ${at.y(t.v[0])}` : `H${at.x(t.n)}V${at.y(t.v[0])}`;
        best = t.v[0];
      }
    }
    make("path", { d: path ? `${path}H${at.x(last)}` : "", fill: "none", stroke: colour("best"), "stroke-width": 2 }, svg);
    for (const t of failed) mark(svg, t, at.x(t.n), top + h - 8, { r: radius, cross: true });
    for (const t of pruned) listen(wedge(svg, at.x(t.n), at.y(t.l)), t);
    for (const t of complete) {
      mark(svg, t, at.x(t.n), at.y(t.v[0]), { r: radius, fill: colour("complete") });
      if (t.e) make("rect", { x: at.x(t.n) - 8, y: at.y(t.v[0]) - 8, width: 16, height: 16, fill: "none", stroke: colour("enqueued"), "stroke-width": 1.6, "pointer-events": "none" }, svg);
    }
    return true;
  };

  const slices = (parent, label) => {
    let objective = 0;
    const tools = keys(parent, [[dot(mix(0)), "early"], [dot(mix(1)), "late"], [star, "best"]]);
    const grid = html("div", parent, null, "grid-of-charts");
    const draw = () => {
      grid.replaceChildren();
      const y = objectiveScale(objective);
      parameters.forEach((p, i) => {
        const scale = parameterScale(p);
        const x = { ...scale, unit: (v) => 0.04 + 0.92 * scale.unit(v) };
        const { svg, at } = frame(grid, 300, 220, [22, 8, 40, 52], x, y, [p.name, i ? null : objectives[objective].name], `${objectives[objective].name} against ${p.name}`);
        for (const best of [false, true]) {
          for (const t of complete) {
            if (t.b === best && t.p[i] !== null) mark(svg, t, at.x(t.p[i]), at.y(t.v[objective]), { r: radius * 0.9, fill: byOrder(t) });
          }
        }
      });
    };
    if (objectives.length > 1) {
      const choose = html("select", html("label", tools, "objective "));
      objectives.forEach((o, i) => { html("option", choose, o.name).value = i; });
      choose.addEventListener("change", () => { objective = Number(choose.value); draw(); });
    }
    draw();
    return Boolean(label);
  };

  const parallel = (parent, label) => {
    const columns = [
      ...parameters.map((p, i) => ({ name: p.name, scale: parameterScale(p), value: (t) => t.p[i], n: p.choices ? p.choices.length : 0 })),
      ...objectives.map((o, i) => ({ name: o.name, scale: objectiveScale(i), value: (t) => t.v[i], n: 0 })),
    ];
    if (columns.length > 16 || complete.length > 2000) return false;
    const hint = `Drag along an axis to keep only the trials in that range; click it to let go. The better, the ${strong}; the best in orange.`;
    const tools = html("div", parent, null, "chart-tools");
    const note = html("span", tools, hint);
    const width = 1160;
    const height = 400;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, parent);
    const left = 70;
    const right = 40;
    const top = 40;
    const h = height - top - 16;
    const x = (c) => left + ((width - left - right) * c) / Math.max(columns.length - 1, 1);
    const y = (unit) => top + h * (1 - clamp(unit));
    const worth = (t) => { const u = clamp(columns[parameters.length].scale.unit(t.v[0])); return objectives[0].minimize ? 1 - u : u; };
    const ranked = [...complete].sort((a, b) => a.b - b.b || worth(a) - worth(b));
    const brushes = new Map();
    const units = new Map();
    ranked.forEach((t, rank) => {
      const shift = (rank + 0.5) / ranked.length - 0.5;
      units.set(t, columns.map((c) => {
        const v = c.value(t);
        return v === null ? null : c.scale.unit(v) + (c.n ? (0.35 * shift) / c.n : 0);
      }));
    });
    const lines = ranked.map((t) => {
      let path = "";
      let pen = false;
      units.get(t).forEach((unit, c) => {
        if (unit === null) { pen = false; return; }
        const next = units.get(t)[c + 1];
        if (!pen && (next === null || next === undefined)) path += `M${x(c) - 3} ${y(unit)}h6`;
        else path += `${pen ? "L" : "M"}${x(c)} ${y(unit)}`;
        pen = true;
      });
      const line = make("path", { d: path, fill: "none", stroke: t.b ? colour("best") : mix(worth(t)), "stroke-width": t.b ? 3 : 1.4, "stroke-opacity": t.b ? 1 : complete.length > 150 ? 0.45 : 0.75 }, svg);
      return [t, listen(line, t)];
    });
    const apply = () => {
      let kept = 0;
      for (const [t, line] of lines) {
        const inside = [...brushes].every(([c, [a, b]]) => { const u = units.get(t)[c]; return u !== null && u >= a && u <= b; });
        kept += inside;
        line.style.opacity = inside ? "" : "0.06";
        line.style.pointerEvents = inside ? "" : "none";
      }
      note.textContent = brushes.size ? `${kept} of ${lines.length} trials kept` : hint;
    };
    columns.forEach((column, c) => {
      make("line", { x1: x(c), x2: x(c), y1: top, y2: top + h, class: "axis" }, svg);
      const room = Math.max(Math.floor((width - left - right) / columns.length / 7), 6);
      const shown = column.name.length > room ? `${column.name.slice(0, room - 1)}…` : column.name;
      const title = make("text", { x: x(c), y: c % 2 && columns.length > 9 ? 14 : 28, "text-anchor": "middle", class: "title" }, svg, shown);
      make("title", {}, title, column.name);
      for (const v of column.scale.ticks) {
        const text = String(column.scale.text(v));
        make("text", { x: x(c) - 6, y: y(column.scale.unit(v)) + 4, "text-anchor": "end", "paint-order": "stroke", stroke: colour("card"), "stroke-width": 4, "pointer-events": "none" }, svg, text.length > 12 ? `${text.slice(0, 11)}…` : text);
      }
      const band = make("rect", { x: x(c) - 7, width: 14, y: top, height: 0, fill: colour("link"), "fill-opacity": 0.25, "pointer-events": "none" }, svg);
      const handle = make("rect", { x: x(c) - 12, width: 24, y: top, height: h, fill: "transparent", cursor: "ns-resize" }, svg);
      const unitAt = (event) => {
        const box = svg.getBoundingClientRect();
        return clamp(1 - (((event.clientY - box.top) * height) / box.height - top) / h);
      };
      let start = null;
      handle.addEventListener("pointerdown", (event) => { start = unitAt(event); handle.setPointerCapture(event.pointerId); });
      const move = (event) => {
        if (start === null) return;
        const [a, b] = [start, unitAt(event)].sort((p, q) => p - q);
        if (b - a < 0.01) { brushes.delete(c); band.setAttribute("height", 0); }
        else { brushes.set(c, [a, b]); band.setAttribute("y", y(b)); band.setAttribute("height", y(a) - y(b)); }
        apply();
      };
      handle.addEventListener("pointermove", move);
      handle.addEventListener("pointerup", (event) => { move(event); start = null; });
    });
    return true;
  };

  const draw = { convergence, slices, parallel_coordinates: parallel };
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const picture = figure.querySelector("img");
    const chart = html("div", null);
    let drawn = false;
    try { drawn = draw[figure.dataset.chart](chart, picture.alt); } catch (error) { console.error(error); }
    if (drawn) figure.replaceChildren(chart);
  }
})();
