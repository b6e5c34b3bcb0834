// Talking to the server: questions with their answers, and one stream of events that comes back by itself.

export const element = (id) => document.getElementById(id);

// Every tab has a name of its own: of several questions of one tab only the newest is answered.
export const page = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16)).join("");

export class Superseded extends Error {}

export async function askServer(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...body, page }),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is 'ganglion dashboard' still there?");
  }
  if (answer.status === 409) throw new Superseded();
  const found = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

const SILENCE = 15000; // milliseconds without a sign of life after which the connection counts as lost
const AGAIN = 2000;
const LOST = "connection lost, trying again";

export class Stream {
  // `told` has a function for each event, and state(text, lost).
  constructor(told) {
    this.told = told;
    this.tag = null;
    this.last = "";
    this.source = null;
    addEventListener("visibilitychange", () => this.visible());
    setInterval(() => this.check(), 1000);
  }

  open(tag) {
    this.tag = tag;
    this.last = "";
    this.connect();
  }

  connect() {
    this.source?.close();
    clearTimeout(this.timer);
    const query = new URLSearchParams();
    if (this.tag) query.set("run", this.tag);
    if (this.last) query.set("after", this.last);
    const source = (this.source = new EventSource(`/api/events?${query}`));
    this.heard = Date.now();
    for (const name of ["runs", "run", "gone", "show", "append", "beat"]) {
      source.addEventListener(name, (event) => source === this.source && this.take(name, event));
    }
    source.addEventListener("error", () => source === this.source && this.failed());
  }

  take(name, event) {
    this.heard = Date.now();
    if (event.lastEventId) this.last = event.lastEventId;
    this.told.state("connected", false);
    if (name !== "beat") this.told[name](JSON.parse(event.data));
  }

  // A browser tries again by itself after a broken connection, but not after a refusal.
  async failed() {
    this.told.state(LOST, true);
    if (this.source.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.timer);
    const answer = await fetch("/api/runs").catch(() => null);
    if (answer?.status === 403) {
      this.told.state("the server was started anew: open the address that it printed", true);
    }
    this.timer = setTimeout(() => this.connect(), AGAIN);
  }

  check() {
    if (!document.hidden && Date.now() - this.heard > SILENCE) {
      this.told.state(LOST, true);
      this.connect();
    }
  }

  // A page that nobody sees holds no connection: a browser has only six for one server.
  visible() {
    if (document.hidden) this.source?.close();
    else this.connect();
  }
}
