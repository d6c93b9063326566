// The page of a job: its state as the server tells it.
import { api, clock, element, sentence, size } from "./common.mjs";

const article = document.getElementById("job");
const id = article.dataset.job;
const get = (name) => document.getElementById(name);
const titles = { queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Canceled" };
const names = { downloading: "Download", reading: "Read", analyzing: "Analyze", rendering: "Draw the video" };
let watched = article.dataset.state !== "done";
let before = "";

function draw(job) {
  const running = job.state === "running";
  let words = titles[job.state];
  if (job.canceling) words = "Canceling";
  else if (running) words = `${{ downloading: "Downloading", reading: "Reading", analyzing: "Analyzing", rendering: "Drawing" }[job.stage] ?? "Running"}, ${Math.round(100 * job.progress)} %`;
  else if (job.state === "queued" && job.error) words = job.next_try_s ? `Waiting to try again in ${clock(job.next_try_s)}` : "Waiting to try again";
  if (words !== before) get("state").textContent = before = words;
  get("progress").value = job.progress;
  get("progress").hidden = job.state === "failed" || job.state === "cancelled";
  const stages = [job.address ? "downloading" : "reading", "analyzing", ...(job.stage === "rendering" ? ["rendering"] : [])];
  const at = job.state === "done" ? stages.length : running ? stages.indexOf(job.stage) : -1;
  get("stages").replaceChildren(
    ...stages.map((stage, n) => element("li", { class: n < at ? "past" : n === at ? "now" : null, "aria-current": n === at ? "step" : null }, names[stage])),
  );
  const facts = [];
  if (job.received_bytes) facts.push(["Received", job.total_bytes ? `${size(job.received_bytes)} of ${size(job.total_bytes)}` : size(job.received_bytes)]);
  if (job.duration_s) facts.push(["Length", clock(job.duration_s)]);
  if (job.faces) facts.push(["Faces so far", String(job.faces)]);
  if (job.people !== null) facts.push(["People", String(job.people)]);
  if (job.left_s !== null) facts.push(["Time left", `about ${clock(job.left_s)}`]);
  get("facts").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  get("error").textContent = job.error ? sentence(job.error) : "";
  get("error").hidden = !job.error;
  get("cancel").hidden = !(job.state === "queued" || running) || job.canceling;
  get("retry").hidden = get("delete").hidden = !(job.state === "failed" || job.state === "cancelled");
  get("open").hidden = !job.run;
  if (job.run) get("open").href = `/runs/${job.run}`;
  if (job.run && watched) location.replace(`/runs/${job.run}`);
}

let source;
function follow() {
  source = new EventSource(`/api/jobs/${id}/events`);
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    draw(job);
    if (["done", "failed", "cancelled"].includes(job.state)) source.close();
  });
  // Browsers connect again by themselves, but not after a refusal.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

async function act(method, path = "") {
  get("problem").hidden = true;
  try {
    const answer = await api(`/api/jobs/${id}${path}`, { method });
    if (answer.deleted) location.assign("/");
    else {
      draw(answer);
      if (source.readyState === EventSource.CLOSED) follow();
    }
  } catch (error) {
    get("problem").textContent = error.message;
    get("problem").hidden = false;
  }
}

get("cancel").addEventListener("click", () => act("DELETE"));
get("delete").addEventListener("click", () => act("DELETE"));
get("retry").addEventListener("click", () => {
  watched = true;
  act("POST", "/retry");
});
addEventListener("pagehide", () => source.close());
follow();
