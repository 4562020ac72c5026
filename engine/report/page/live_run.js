"use strict";
// The page of a run that goes on: its figures and curves grow; sections change when a file of the run does.
(() => {
  const { data } = lockstep;
  const KINDS = ["running", "silent", "over", "broken"];
  let at = data.at, grown = 0;

  function tell(answer) {
    for (const place of document.querySelectorAll("[data-live]")) {
      const text = answer.facts[place.dataset.live];
      if (text !== undefined && place.textContent !== text) place.textContent = text;
    }
    for (const place of document.querySelectorAll(".state")) {
      for (const kind of KINDS) place.classList.toggle(kind, kind === answer.kind);
    }
  }

  // Reads the page again and takes its sections; the charts stay, and what one has chosen there.
  async function renew() {
    const answer = await fetch(lockstep.address(""), { cache: "no-store" });
    if (!answer.ok) throw new Error(`the server says ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = JSON.parse(fresh.getElementById("data").textContent);
    if (!found.runs) return location.reload(); // it is a list of runs by now
    const curves = document.getElementById("curves");
    for (const each of document.querySelectorAll("main > :not(#curves)")) each.remove();
    let isBefore = true;
    for (const each of [...fresh.querySelector("main").children]) {
      if (each.id === "curves") isBefore = false;
      else if (isBefore) curves.before(document.adoptNode(each));
      else document.querySelector("main").append(document.adoptNode(each));
    }
    document.querySelector("nav").replaceWith(document.adoptNode(fresh.querySelector("nav")));
    at = found.at;
    grown = 0;
    lockstep.replaceRuns(found.runs);
  }

  async function take(answer) {
    if (answer.anew || grown > data.most) return renew();
    tell(answer);
    at = answer.at;
    if (!answer.series) return;
    grown += lockstep.growRun(0, answer.series, answer.steps_per_epoch);
  }

  lockstep.follow(() => at, take);
})();
