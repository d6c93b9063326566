// The home page: new jobs, the jobs that are not done, deletion.
import { api, clock, element, say, sentence, size } from "./common.mjs";

const form = document.getElementById("new");
const problem = document.getElementById("problem");
const state = document.getElementById("upload-state");
const bar = document.getElementById("upload-progress");
const limit = Number(form.dataset.limitMb) * 1e6;

const show = (words) => {
  problem.textContent = words;
  problem.hidden = !words;
};

/** Seconds of 90, 1:30 or 0:01:30; null: nothing was typed. */
function seconds(input) {
  const text = input.value.trim();
  if (!text) return null;
  const parts = text.split(":").map(Number);
  if (parts.length > 3 || parts.some((part) => !(part >= 0))) throw new Error(`“${text}” is not a time: write 1:30 or 90.`);
  return parts.reduce((sum, part) => 60 * sum + part, 0);
}

function options() {
  const settings = {};
  const start = seconds(document.getElementById("start"));
  const end = seconds(document.getElementById("end"));
  if (start) settings.start_s = start;
  if (end !== null) settings.end_s = end;
  const scene = document.getElementById("scene").value;
  if (scene !== "video") settings.scene = scene;
  return { preset: document.getElementById("preset").value, settings, folder: document.getElementById("folder").value };
}

function went(answer) {
  if (answer.ids.length === 1) location.assign(`/jobs/${answer.id}`);
  else {
    state.textContent = `${answer.ids.length} jobs were added.`;
    refresh();
  }
}

function upload(files) {
  show("");
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let chosen;
  try {
    if (total > limit) throw new Error(`These are ${size(total)}; the limit is ${size(limit)}.`);
    chosen = options();
  } catch (error) {
    show(error.message);
    return;
  }
  const body = new FormData();
  body.append("preset", chosen.preset);
  body.append("settings", JSON.stringify(chosen.settings));
  body.append("folder", chosen.folder);
  for (const file of files) body.append("file", file);
  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  request.open("POST", "/api/jobs");
  request.responseType = "json";
  bar.hidden = false;
  bar.value = 0;
  request.upload.addEventListener("progress", (event) => {
    bar.value = event.loaded / total;
    state.textContent = `Sent ${size(Math.min(event.loaded, total))} of ${size(total)}.`;
  });
  const ended = (words) => {
    bar.hidden = true;
    state.textContent = "";
    show(words);
  };
  request.addEventListener("error", () => ended("The upload was broken off: the server cannot be reached, or refuses it."));
  request.addEventListener("load", () => {
    if (request.status === 201) {
      bar.hidden = true;
      went(request.response);
    } else ended(sentence(request.response?.error ?? `The server answered with ${request.status}.`));
  });
  request.send(body);
}

document.getElementById("files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (files.length) upload(files);
});

const drop = document.getElementById("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  if (files.length) upload(files);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  show("");
  const url = document.getElementById("address").value.trim();
  if (!url) {
    show("Type an address, or choose files.");
    return;
  }
  try {
    went(await api("/api/jobs", { method: "POST", json: { url, ...options() } }));
  } catch (error) {
    show(error.message);
  }
});

// Jobs

const section = document.getElementById("jobs");
const list = document.getElementById("job-list");
let known = new Map();

const words = {
  queued: "waiting",
  running: "running",
  failed: "failed",
  cancelled: "canceled",
};

function row(job) {
  const left = job.left_s === null ? "" : `, about ${clock(job.left_s)} left`;
  const now = job.state === "running" ? `${job.stage || "running"}, ${Math.round(100 * job.progress)} %${left}` : words[job.state];
  const item = element("li", { "data-job": job.id }, element("a", { href: `/jobs/${job.id}`, class: "name" }, job.title), element("span", {}, now));
  if (job.state === "running") item.append(element("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.title}` }));
  if (job.error) item.append(element("small", {}, sentence(job.error)));
  return item;
}

async function refresh() {
  let jobs;
  try {
    jobs = await api("/api/jobs");
  } catch {
    setTimeout(refresh, 5000);
    return;
  }
  const open = jobs.filter((job) => job.state !== "done");
  for (const job of jobs) {
    if (job.state === "done" && known.has(job.id) && known.get(job.id) !== "done") {
      location.reload(); // its run is in the list
      return;
    }
  }
  known = new Map(jobs.map((job) => [job.id, job.state]));
  section.hidden = !open.length;
  list.replaceChildren(...open.map(row));
  const active = open.some((job) => job.state === "queued" || job.state === "running");
  setTimeout(refresh, active ? 1500 : 10000);
}
refresh();

// Deletion

const dialog = document.getElementById("confirm");
for (const button of document.querySelectorAll("button.delete")) {
  button.addEventListener("click", () => {
    const line = button.closest("tr");
    const title = line.querySelector(".name").textContent;
    document.getElementById("confirm-text").textContent = `“${title}”, with its upload, tables, report and corrections. This cannot be undone.`;
    dialog.returnValue = "no";
    dialog.onclose = async () => {
      if (dialog.returnValue !== "yes") return;
      try {
        await api(`/api/runs/${line.dataset.run}`, { method: "DELETE" });
        line.remove();
        say(`“${title}” was deleted.`);
      } catch (error) {
        show(error.message);
        problem.scrollIntoView({ block: "center" });
      }
    };
    dialog.showModal();
  });
}
