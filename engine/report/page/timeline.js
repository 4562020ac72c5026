"use strict";
// One step as a timeline: a canvas, as no library of charts draws rows of spans that one may zoom.
(() => {
  const { data, colour, element } = lockstep;
  const ROW = 20, GAP = 3, AXIS = 24, RANK = 8;

  const microseconds = (us) => us === 0 ? "0" : (us < 1000 ? `${Number(us.toPrecision(3))} µs` : `${Number((us / 1000).toPrecision(4))} ms`);

  function ticks(from, to, most) {
    const rough = (to - from) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    const found = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
    return found;
  }

  function timeline(place) {
    const step = data.steps[Number(place.dataset.step)];
    const canvas = place.querySelector("canvas"), hint = place.querySelector(".hint");
    const view = { from: 0, to: step.length };
    const several = new Set(step.rows.map((row) => row.rank)).size > 1;
    let gutter = 0, width = 0, over = null, focus = -1, isDrawn = false;
    let top = 0;
    const rows = step.rows.map((row, number) => {
      if (number > 0 && row.rank !== step.rows[number - 1].rank) top += RANK;
      const at = { ...row, top };
      top += ROW + GAP;
      return at;
    });
    const height = top + AXIS;
    // In the order of time, for the keyboard.
    const ordered = rows.flatMap((row) => row.spans.map((span) => ({ row, span }))).sort((a, b) => a.span[0] - b.span[0]);

    const x = (us) => gutter + ((us - view.from) / (view.to - view.from)) * (width - gutter);
    const us = (px) => view.from + ((px - gutter) / (width - gutter)) * (view.to - view.from);

    function draw() {
      const ratio = window.devicePixelRatio || 1;
      width = place.clientWidth;
      gutter = Math.min(width < 600 ? 118 : 205, width / 3);
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
      const brush = canvas.getContext("2d");
      brush.scale(ratio, ratio);
      brush.clearRect(0, 0, width, height);
      brush.font = "12px system-ui, sans-serif";
      brush.textBaseline = "middle";
      drawGrid(brush);
      const colours = step.kinds.map((kind) => colour(kind));
      const ink = colour("on-part"), soft = colour("soft");
      for (const row of rows) {
        brush.fillStyle = soft;
        brush.textAlign = "left";
        brush.fillText(fitted(brush, several ? `${width < 600 ? "" : "rank "}${row.rank} ${row.name}` : row.name, gutter - 10), 0, row.top + ROW / 2);
        brush.save();
        brush.beginPath();
        brush.rect(gutter, row.top, width - gutter, ROW);
        brush.clip();
        for (const span of row.spans) drawSpan(brush, row, span, colours, ink);
        brush.restore();
      }
      isDrawn = true;
    }

    function drawGrid(brush) {
      brush.textAlign = "center";
      const grid = colour("grid"), soft = colour("faint");
      for (const at of ticks(view.from, view.to, Math.max(2, (width - gutter) / 90))) {
        const px = Math.round(x(at)) + 0.5;
        brush.fillStyle = grid;
        brush.fillRect(px - 0.5, 0, 1, height - AXIS + 2);
        brush.fillStyle = soft;
        const label = microseconds(at), half = brush.measureText(label).width / 2;
        if (px + half <= width && px - half >= gutter - 30) brush.fillText(label, px, height - AXIS / 2 + 2);
      }
    }

    function drawSpan(brush, row, span, colours, ink) {
      const left = x(span[0]), right = x(span[0] + span[1]);
      if (right < gutter || left > width) return;
      brush.fillStyle = colours[span[2]];
      const wide = Math.max(0.6, right - left - (right - left > 4 ? 1 : 0));
      brush.fillRect(left, row.top, wide, ROW);
      if (over && over.span === span) {
        brush.strokeStyle = colour("ink");
        brush.lineWidth = 2;
        brush.strokeRect(left + 1, row.top + 1, Math.max(1, wide - 2), ROW - 2);
      }
      const from = Math.max(left, gutter), room = Math.min(left + wide, width) - from - 8;
      const name = step.names[span[3]];
      if (room > 14 && brush.measureText(name).width <= room) {
        brush.fillStyle = ink;
        brush.textAlign = "center";
        brush.fillText(name, from + 4 + room / 2, row.top + ROW / 2 + 0.5);
      }
    }

    function fitted(brush, text, room) {
      if (brush.measureText(text).width <= room) return text;
      let kept = text;
      while (kept && brush.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
      return `${kept}…`;
    }

    function say() {
      if (!over) {
        hint.textContent = "Point at a span, or press the arrow keys up and down, to read what it is.";
        return;
      }
      const { row, span } = over;
      const where = several ? `rank ${row.rank} ${row.name}` : row.name;
      hint.textContent = `${step.names[span[3]]}, ${step.labels[span[2]]}: ${microseconds(span[1])}, from ${microseconds(span[0])} on (${where})`;
    }

    function show(from, to) {
      const least = Math.max(0.05, step.length * 1e-5), length = Math.min(step.length, Math.max(least, to - from));
      const start = Math.min(Math.max(0, from), step.length - length);
      view.from = start;
      view.to = start + length;
      draw();
    }

    function zoom(factor, at = (view.from + view.to) / 2) {
      show(at - (at - view.from) * factor, at + (view.to - at) * factor);
    }

    // The last drawn lies on top.
    function under(event) {
      const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
      const row = rows.find((each) => py >= each.top && py < each.top + ROW);
      if (!row || px < gutter) return null;
      const at = us(px), near = (2 * (view.to - view.from)) / (width - gutter);
      const span = row.spans.findLast(([start, length]) => at >= start && at <= start + length)
        ?? row.spans.findLast(([start, length]) => at >= start - near && at <= start + length + near);
      return span ? { row, span } : null;
    }

    function point(found) {
      if (found?.span === over?.span) return;
      over = found;
      draw();
      say();
    }

    const pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, event.clientX);
      canvas.setPointerCapture(event.pointerId);
      point(under(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) {
        point(under(event));
        return;
      }
      const before = [...pointers.values()];
      pointers.set(event.pointerId, event.clientX);
      const after = [...pointers.values()], left = canvas.getBoundingClientRect().left;
      if (after.length === 1) {
        const moved = us(before[0] - left) - us(after[0] - left);
        show(view.from + moved, view.to + moved);
      } else {
        const spread = (pair) => Math.max(20, Math.abs(pair[0] - pair[1]));
        zoom(spread(before) / spread(after), us((after[0] + after[1]) / 2 - left));
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("dblclick", (event) => {
      const found = under(event);
      if (found) show(found.span[0] - found.span[1] * 0.05, found.span[0] + found.span[1] * 1.05);
      else show(0, step.length);
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.002)), us(event.clientX - canvas.getBoundingClientRect().left));
    }, { passive: false });

    function go(by) {
      focus = Math.min(ordered.length - 1, Math.max(0, focus + by));
      over = ordered[focus] ?? null;
      if (over && (over.span[0] < view.from || over.span[0] > view.to)) {
        const length = view.to - view.from;
        show(over.span[0] - length / 10, over.span[0] + 0.9 * length);
      } else draw();
      say();
    }

    canvas.addEventListener("keydown", (event) => {
      const length = view.to - view.from;
      const keys = {
        ArrowLeft: () => show(view.from - length / 8, view.to - length / 8),
        ArrowRight: () => show(view.from + length / 8, view.to + length / 8),
        ArrowDown: () => go(1),
        ArrowUp: () => go(-1),
        "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6),
        0: () => show(0, step.length), Escape: () => show(0, step.length),
      };
      const work = keys[event.key];
      if (!work || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      work();
    });
    for (const button of place.querySelectorAll("[data-zoom]")) {
      const work = { in: () => zoom(0.6), out: () => zoom(1 / 0.6), all: () => show(0, step.length) };
      button.addEventListener("click", work[button.dataset.zoom]);
    }
    new ResizeObserver(() => {
      if (!isDrawn || place.clientWidth !== width) draw();
    }).observe(place);
    lockstep.onRedraw(draw);
    draw();
    say();
  }

  for (const place of document.querySelectorAll(".timeline")) timeline(place);
})();
