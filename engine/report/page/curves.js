"use strict";
// The curves: several runs over one another, drawn by uPlot.
(() => {
  const { data, colour, element, figure } = lockstep;
  const COLOURS = 8;
  const CHARTS = ["loss", "accuracy", "samples_per_second", "rate"];
  const shown = { raw: true, mean: true, test: true, run: data.runs.map(() => true) };
  const settings = { log: false, byEpoch: false, smoothing: 0 };
  const charts = new Map();
  const places = CHARTS.map((name) => [name, document.getElementById(`chart-${name}`)]).filter(([, at]) => at);
  if (!places.length) return;
  let range = null; // of the steps or epochs that all charts show; null for all
  let isSettingRange = false;

  function unpack(allLines) {
    for (const lines of Object.values(allLines)) {
      for (const series of Object.values(lines)) {
        series.steps = lockstep.steps(series.x);
        series.values = lockstep.values(series.y);
        if (series.window) {
          series.meanSteps = lockstep.steps(series.mean_x);
          series.means = lockstep.values(series.mean);
          series.windows = series.means.length; // those behind are single steps
        }
      }
    }
  }
  for (const run of data.runs) unpack(run.series);

  const positive = (values) => values.map((y) => (y !== null && y > 0 ? y : null));

  // Exponential mean, without the pull of its first value (as in Adam).
  function smoothed(values, weightOf) {
    let sum = 0, total = 0;
    return values.map((y, place) => {
      if (y === null) return null;
      const weight = weightOf(place);
      sum = weight * sum + (1 - weight) * y;
      total = weight * total + (1 - weight);
      return sum / total;
    });
  }

  // The lines of a chart: [steps, values] with how they look.
  function linesOf(name) {
    const found = [];
    const isLog = settings.log && name === "loss";
    data.runs.forEach((run, place) => {
      const lines = run.series[name];
      if (!lines || !shown.run[place]) return;
      const scale = settings.byEpoch ? run.steps_per_epoch : 1;
      if (!scale) return;
      const add = (steps, values, look) => {
        if (!steps.length) return;
        const x = scale === 1 ? steps : steps.map((step) => step / scale);
        found.push({ x, y: isLog ? positive(values) : values, run: place, ...look });
      };
      const smooth = settings.smoothing > 0 && name !== "rate";
      if (lines.raw && (shown.raw || name === "rate")) {
        const alone = name === "rate" || (!lines.mean && !smooth);
        add(lines.raw.steps, lines.raw.values, { kind: "raw", label: "each step", width: alone ? 1.5 : 1, alpha: alone ? 1 : smooth ? 0.3 : 0.45, thins: !alone });
        if (smooth) {
          const thinned = Boolean(lines.raw.means);
          const ofWindow = settings.smoothing ** (thinned ? lines.raw.window : 1);
          const weight = (place) => (thinned && place < lines.raw.windows ? ofWindow : settings.smoothing);
          const values = smoothed(thinned ? lines.raw.means : lines.raw.values, weight);
          add(thinned ? lines.raw.meanSteps : lines.raw.steps, values, { kind: "smooth", label: "smoothed", width: 1.5, alpha: 0.85 });
        }
      }
      if (lines.mean && shown.mean) add(lines.mean.steps, lines.mean.values, { kind: "mean", label: "mean of an epoch", width: 2, alpha: 1 });
      if (lines.test && shown.test) add(lines.test.steps, lines.test.values, { kind: "test", label: "test", width: 2, alpha: 1, dash: [6, 4] });
    });
    const order = ["raw", "smooth", "mean", "test"];
    return found.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  }

  function axisValues(name) {
    return (_, splits) => splits.map((value) => {
      if (value === null) return "";
      if (name === "accuracy") return `${Number((value * 100).toPrecision(4))} %`;
      if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
      if (Math.abs(value) >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
      return value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(0) : String(Number(value.toPrecision(4)));
    });
  }

  // Speeds begin at 0, and a first step that compiles, or a pause, does not press the others together.
  function rangeOf(name, lines) {
    if (name === "accuracy") {
      return (_, low, high) => (low === null ? [0, 1] : [Math.max(0, low - 0.02), Math.min(1, high + 0.02)]);
    }
    if (name === "rate") return (_, low, high) => [0, (high || 1) * 1.08];
    if (name === "samples_per_second") {
      const all = lines.flatMap((line) => line.y.filter((y) => y !== null)).sort((a, b) => a - b);
      const most = all.length ? all[Math.floor(0.995 * (all.length - 1))] : 1;
      return () => [0, most * 1.12 || 1];
    }
    return (plot, low, high) => {
      if (low === null) return settings.log ? [0.1, 1] : [0, 1];
      if (settings.log) return uPlot.rangeLog(low, high === low ? low * 10 : high, 10, false);
      const margin = 0.05 * (high - low || Math.abs(high) || 1);
      return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
    };
  }

  // Where many steps share a pixel their line becomes a band, which must not hide what lies on it.
  function paleness(plot, line) {
    const { min, max } = plot.scales.x;
    if (min == null || max == null) return 1;
    const points = nearest(line, max) - nearest(line, min) + 1;
    return Math.min(1, Math.max(0.3, (0.8 * plot.over.clientWidth) / points));
  }

  function withAlpha(name, alpha) {
    return alpha === 1 ? colour(name) : `color-mix(in srgb, ${colour(name)} ${Math.round(alpha * 100)}%, transparent)`;
  }

  function nearest(line, x) {
    let low = 0, high = line.x.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (line.x[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - line.x[low - 1] < line.x[low] - x ? low - 1 : low;
  }

  function tipPlugin(name, lines, tip) {
    return (plot) => {
      const { left, idx } = plot.cursor;
      if (idx === null || idx === undefined || left < 0 || !lines.length) {
        tip.style.display = "none";
        return;
      }
      const x = plot.posToVal(left, "x"), long = lines.reduce((a, b) => (b.x.length > a.x.length ? b : a));
      const at = long.x[nearest(long, x)];
      tip.replaceChildren(element("div", "", settings.byEpoch ? `epoch ${figure(at)}` : `step ${Math.round(at).toLocaleString("en")}`));
      for (const line of lines) {
        const row = element("div");
        const several = data.runs.length > 1;
        if (several) row.append(element("span", `swatch run-${line.run % COLOURS}`));
        row.append(element("span", "", several ? `${data.runs[line.run].name}, ${line.label}` : line.label));
        const value = line.y[nearest(line, at)];
        row.append(element("b", "", name === "accuracy" && value !== null ? `${figure(100 * value)} %` : figure(value)));
        tip.append(row);
      }
      tip.style.display = "block";
      const wide = tip.offsetWidth, over = plot.over.clientWidth;
      tip.style.left = `${left + 14 + wide > over ? Math.max(0, left - wide - 14) : left + 14}px`;
      tip.style.top = "6px";
    };
  }

  function draw(name, at) {
    const before = charts.get(name), { left = -1, top = -1 } = before?.cursor ?? {};
    before?.destroy();
    at.querySelector(".empty")?.remove();
    const lines = linesOf(name);
    const tip = element("div", "tip");
    const axis = { stroke: () => colour("soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    const isLog = settings.log && name === "loss";
    const decades = (_, splits) => splits.map((value) => (isLog && Math.abs(Math.log10(value) % 1) > 1e-6 ? null : value));
    const grid = { stroke: () => colour("grid"), width: 1, filter: decades };
    const wholes = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((each) => each * 10 ** power)).flat();
    const tables = lines.map((line) => [line.x, line.y]);
    const joined = tables.length ? uPlot.join(tables) : [[0, 1], [null, null]];
    const few = (line) => line.x.length <= 60;
    const series = lines.map((line) => ({
      label: line.label,
      scale: "y",
      stroke: (plot) => withAlpha(`run-${line.run % COLOURS}`, line.alpha * (line.thins ? paleness(plot, line) : 1)),
      width: line.width,
      dash: line.dash,
      spanGaps: false,
      points: {
        show: (line.kind === "mean" || line.kind === "test" ? few(line) : line.x.length === 1),
        size: 5, fill: colour(line.kind === "test" ? "card" : `run-${line.run % COLOURS}`), width: 1.5,
      },
    }));
    const plot = new uPlot({
      width: at.clientWidth, height: at.clientHeight,
      legend: { show: false },
      padding: [8, 20, 0, 0],
      cursor: { sync: { key: "lockstep" }, drag: { x: true, y: false }, points: { size: 6 }, y: false },
      scales: {
        x: { time: false, range: (_, low, high) => range ?? (low === high ? [low - 1, high + 1] : [low, high]) },
        y: { distr: settings.log && name === "loss" ? 3 : 1, range: rangeOf(name, lines) },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 30, gap: 6, space: 70, incrs: wholes, values: axisValues("x") },
        { ...axis, grid, size: 52, gap: 8, space: name === "loss" ? 40 : 34, values: axisValues(name) },
      ],
      series: [{}, ...(series.length ? series : [{}])],
      hooks: {
        ready: [(made) => made.over.append(tip)],
        setCursor: [tipPlugin(name, lines, tip)],
        setSelect: [(made) => {
          if (made.select.width > 4) {
            look([made.posToVal(made.select.left, "x"), made.posToVal(made.select.left + made.select.width, "x")]);
          }
        }],
      },
    }, joined, at);
    plot.over.addEventListener("dblclick", () => look(null));
    plot.over.addEventListener("mouseleave", () => (tip.style.display = "none"));
    if (!lines.length) at.append(element("p", "empty about", "nothing to draw"));
    charts.set(name, plot);
    if (left >= 0) plot.setCursor({ left, top }); // a chart that grows is still pointed at
  }

  function look(wanted) {
    if (isSettingRange) return;
    isSettingRange = true;
    range = wanted;
    document.getElementById("whole").hidden = range === null;
    for (const plot of charts.values()) {
      plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      const x = plot.data[0];
      plot.setScale("x", range ? { min: range[0], max: range[1] } : { min: x[0], max: x[x.length - 1] });
    }
    isSettingRange = false;
  }

  function drawAll() {
    for (const [name, at] of places) draw(name, at);
    if (range) look(range);
  }

  function whole() {
    const x = [...charts.values()].map((plot) => plot.data[0]);
    return [Math.min(...x.map((each) => each[0])), Math.max(...x.map((each) => each[each.length - 1]))];
  }

  function steer(event) {
    const [low, high] = range ?? whole(), length = high - low, [first, last] = whole();
    const keys = {
      "+": [low + length / 4, high - length / 4], "=": [low + length / 4, high - length / 4],
      "-": [low - length / 2, high + length / 2],
      ArrowLeft: [low - length / 4, high - length / 4], ArrowRight: [low + length / 4, high + length / 4],
    };
    if (event.key === "0" || event.key === "Escape") look(null);
    else if (event.key in keys && !event.ctrlKey && !event.metaKey && !event.altKey) {
      let [from, to] = keys[event.key];
      if (to - from >= last - first) return look(null);
      const move = Math.max(0, first - from) - Math.max(0, to - last);
      look([from + move, to + move]);
    } else return;
    event.preventDefault();
  }

  function press(button, isOn) {
    button.setAttribute("aria-pressed", String(isOn));
  }

  for (const button of document.querySelectorAll("[data-run]")) {
    button.addEventListener("click", () => {
      const place = Number(button.dataset.run);
      shown.run[place] = !shown.run[place];
      press(button, shown.run[place]);
      drawAll();
    });
  }
  for (const button of document.querySelectorAll("[data-line]")) {
    button.addEventListener("click", () => {
      shown[button.dataset.line] = !shown[button.dataset.line];
      press(button, shown[button.dataset.line]);
      drawAll();
    });
  }
  for (const [id, name] of [["log", "log"], ["by-epoch", "byEpoch"]]) {
    const button = document.getElementById(id);
    button?.addEventListener("click", () => {
      settings[name] = !settings[name];
      press(button, settings[name]);
      if (name === "byEpoch") look(null);
      drawAll();
    });
  }
  document.getElementById("whole").addEventListener("click", () => look(null));
  const slider = document.getElementById("smoothing"), said = document.getElementById("smoothing-said");
  slider.value = "0";
  slider.addEventListener("input", () => {
    settings.smoothing = Number(slider.value) / 100;
    said.textContent = settings.smoothing ? settings.smoothing.toFixed(2) : "off";
    drawAll();
  });
  for (const [, at] of places) at.addEventListener("keydown", steer);

  // Of a page that is served: other runs take the place of these.
  lockstep.replaceRuns = (runs) => {
    for (const run of runs) unpack(run.series);
    data.runs = runs;
    drawUnlessDragged();
  };

  // What has come of a run is appended; from its first step on it replaces what is there.
  lockstep.growRun = (place, fresh, stepsPerEpoch) => {
    const run = data.runs[place];
    unpack(fresh);
    run.steps_per_epoch = stepsPerEpoch;
    for (const [name, lines] of Object.entries(fresh)) {
      const there = (run.series[name] ??= {});
      for (const [kind, series] of Object.entries(lines)) there[kind] = joined(there[kind], series);
    }
    drawUnlessDragged();
    return fresh.loss.raw?.steps.length ?? 0;
  };

  function joined(old, fresh) {
    if (!old) return fresh;
    let kept = old.steps.length;
    while (kept > 0 && old.steps[kept - 1] >= fresh.from) kept -= 1;
    const both = (a, b) => [...Array.from(a).slice(0, kept), ...b];
    const found = { ...old, steps: both(old.steps, fresh.steps), values: both(old.values, fresh.values) };
    if (old.means) {
      found.meanSteps = [...old.meanSteps, ...fresh.steps];
      found.means = [...old.means, ...fresh.values];
    }
    return found;
  }

  let isPressed = false, isLate = false;
  document.addEventListener("pointerdown", () => (isPressed = true), true);
  for (const name of ["pointerup", "pointercancel"]) {
    document.addEventListener(name, () => {
      isPressed = false;
      if (isLate) setTimeout(drawUnlessDragged); // behind what the chart does with it
    }, true);
  }

  function drawUnlessDragged() {
    isLate = isPressed;
    if (!isPressed) drawAll();
  }

  let width = 0;
  new ResizeObserver(() => {
    const now = places[0][1].clientWidth;
    if (now === width) return;
    width = now;
    for (const [name, at] of places) charts.get(name)?.setSize({ width: at.clientWidth, height: at.clientHeight });
  }).observe(places[0][1]);

  lockstep.onRedraw(drawAll);
  drawAll();
  document.documentElement.dataset.drawn = String(Math.round(performance.now()));
})();
