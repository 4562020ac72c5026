"use strict";
// Asks the server that the page came from for what is new, again and again, while somebody looks.
lockstep.address = (path, asked = {}) => {
  const found = new URL(path, location.href);
  found.search = location.search; // a token is there
  for (const [name, value] of Object.entries(asked)) found.searchParams.set(name, value);
  return found;
};

// `take` says whether more is waiting there already.
lockstep.follow = (position, take) => {
  const EVERY_MS = 1000, LATEST_MS = 15000, SHARE = 0.05; // of the time, at most, that answers take
  const said = document.getElementById("connection");
  let pause = EVERY_MS, timer = 0, isAsking = false;

  async function ask() {
    if (document.hidden || isAsking) return;
    isAsking = true;
    const began = performance.now();
    try {
      const answer = await fetch(lockstep.address("data.json", { at: position() }), { cache: "no-store" });
      if (!answer.ok) throw new Error(`the server says ${answer.status}`);
      const isMore = await take(await answer.json());
      const lasted = performance.now() - began;
      pause = isMore ? EVERY_MS : Math.min(LATEST_MS, Math.max(EVERY_MS, lasted / SHARE));
      said.textContent = "";
    } catch (error) {
      pause = Math.min(LATEST_MS, 2 * pause);
      said.textContent = ` · not up to date: ${error.message}`;
    } finally {
      isAsking = false;
      clearTimeout(timer);
      timer = setTimeout(ask, pause);
    }
  }

  document.addEventListener("visibilitychange", ask);
  timer = setTimeout(ask, EVERY_MS);
};
