"use strict";
// The page of all runs in a folder: rows change, new ones come on top, and those that are gone go.
(() => {
  const { data, element } = lockstep;
  const body = document.querySelector("table.runs tbody");
  const rows = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  let at = data.at;

  function made(told) {
    const row = element("tr"), name = element("th"), link = element("a", "", told.name);
    const state = element("td");
    row.dataset.key = told.key;
    name.scope = "row";
    link.href = told.href;
    name.append(link);
    state.append(element("span", "state"));
    row.append(name, state, ...told.cells.map(() => element("td", "n")));
    body.prepend(row);
    return row;
  }

  function take(answer) {
    if (!answer.rows) return location.reload(); // the folder is one of a run by now
    for (const told of answer.rows.reverse()) {
      const row = rows.get(told.key) ?? made(told);
      rows.set(told.key, row);
      const [, state, ...cells] = row.cells;
      state.firstChild.className = `state ${told.kind}`;
      state.firstChild.textContent = told.state;
      cells.forEach((cell, place) => (cell.textContent = told.cells[place]));
    }
    if (answer.all) {
      const there = new Set(answer.rows.map((told) => told.key));
      for (const [key, row] of rows) {
        if (there.has(key)) continue;
        row.remove();
        rows.delete(key);
      }
    }
    document.getElementById("about").textContent = answer.about;
    at = answer.at;
    return answer.more;
  }

  lockstep.follow(() => at, take);
})();
