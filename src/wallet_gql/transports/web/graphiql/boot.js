// Starts GraphiQL with the example tabs of this server.
"use strict";

// Everything the page keeps is in the browser's storage, under this prefix. What belongs to the tabs stands under the
// id of the examples besides: a wallet with other accounts has other examples, and edits of the old ones would fail.
const PREFIX = "wallet-gql:";
const OF_TABS = ["tabState", "query", "variables", "headers", "operationName", "shouldPersistHeaders"].map(
  (name) => `graphiql:${name}`,
);

function storageFor(id) {
  const place = (key) => PREFIX + (OF_TABS.includes(key) ? `${id}:` : "") + key;
  const ours = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  return {
    getItem: (key) => localStorage.getItem(place(key)),
    setItem: (key, value) => localStorage.setItem(place(key), value),
    removeItem: (key) => localStorage.removeItem(place(key)),
    get length() {
      return ours().length;
    },
    clear: () => ours().forEach((key) => localStorage.removeItem(key)),
    // Forget all tabs, or those of other examples.
    forgetTabs: (others) =>
      ours()
        .filter((key) => OF_TABS.some((name) => key.endsWith(`:${name}`)) && !(others && key.startsWith(PREFIX + id)))
        .forEach((key) => localStorage.removeItem(key)),
  };
}

const asText = (value) => (Object.keys(value).length ? JSON.stringify(value, null, 2) : null);

// The examples as GraphiQL stores tabs. Its `defaultTabs` will not do: it shows the first one without its variables.
const asStored = (tabs) => ({
  activeTabIndex: 0,
  tabs: tabs.map((tab, index) => ({
    id: `example-${index}`,
    title: tab.title,
    query: tab.query,
    variables: asText(tab.variables),
    headers: asText(tab.headers),
    operationName: tab.title,
    response: null,
  })),
});

// Puts into the storage what GraphiQL shall begin with: the visitor's tabs, or the examples if there are none or they
// cannot be read. It looks for the tab that equals the query, variables and headers that are stored besides, and adds
// one if there is none; so they are made equal.
function prepare(storage, examples) {
  let state;
  let active;
  try {
    state = JSON.parse(storage.getItem("graphiql:tabState"));
    active = state.tabs[state.activeTabIndex];
  } catch {
    state = asStored(examples);
    [active] = state.tabs;
  }
  if (!active) return;
  storage.setItem("graphiql:tabState", JSON.stringify(state));
  for (const name of ["query", "variables", "headers"]) {
    const text = active[name];
    if (text) storage.setItem(`graphiql:${name}`, text);
    else storage.removeItem(`graphiql:${name}`);
  }
  const split = "graphiql:secondaryEditorFlex"; // the height of the query to 1 of the variables
  if (!storage.getItem(split)) storage.setItem(split, "1.3");
}

// GraphiQL leaves its editors without names for screen readers.
function nameEditors(root) {
  const places = [".graphiql-query-editor", ".graphiql-editor-tool", ".graphiql-response"];
  const names = [["Query"], ["Variables", "Headers"], ["Answer"]];
  const observer = new MutationObserver(() => {
    const found = places.map((place) => [...root.querySelectorAll(`${place} .CodeMirror textarea`)]);
    if (names.some((list, place) => found[place].length < list.length)) return;
    observer.disconnect();
    names.forEach((list, place) => list.forEach((name, i) => found[place][i].setAttribute("aria-label", name)));
  });
  observer.observe(root, { childList: true, subtree: true });
}

const isSubscription = ({ documentAST } = {}, operationName) =>
  documentAST?.definitions.some(
    ({ operation, name }) => operation === "subscription" && (!operationName || name?.value === operationName),
  );

// The results in a response that is a stream of server-sent events, one by one, until it ends or is given up.
async function* resultsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const lines of events.map((event) => event.split("\n"))) {
      if (lines.includes("event: complete")) return;
      const data = lines.find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}

// What GraphiQL takes for a subscription: it asks for results, and calls `return` when somebody presses stop.
function subscribe(request) {
  const control = new AbortController();
  const run = async function* () {
    try {
      const response = await request(control.signal);
      const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (isStream) yield* resultsOf(response);
      else yield response.json();
    } catch (error) {
      if (!control.signal.aborted) throw error;
    }
  };
  const results = run();
  const iterator = {
    [Symbol.asyncIterator]: () => iterator,
    next: () => results.next(),
    return: () => {
      control.abort();
      return results.return();
    },
  };
  return iterator;
}

async function start() {
  const root = document.getElementById("graphiql");
  const examples = await (await fetch(root.dataset.tabs)).json();
  const storage = storageFor(examples.id);
  storage.forgetTabs(true);
  prepare(storage, examples.tabs);

  const fetcher = async ({ operationName, ...parameters }, options) => {
    // For a moment after a change of tabs GraphiQL still names the operation of the tab before.
    if (new RegExp(`\\b${operationName}\\b`).test(parameters.query)) parameters.operationName = operationName;
    const send = (accept, signal) =>
      fetch(root.dataset.graphql, {
        method: "POST",
        credentials: "same-origin", // the cookie of the log-in
        headers: { "Content-Type": "application/json", Accept: accept, ...options?.headers },
        body: JSON.stringify(parameters),
        signal,
      });
    if (isSubscription(options, parameters.operationName)) {
      return subscribe((signal) => send("text/event-stream, application/json;q=0.5", signal));
    }
    return (await send("application/json")).json();
  };
  const properties = {
    fetcher,
    storage,
    shouldPersistHeaders: examples.tabs.some((tab) => asText(tab.headers)) || undefined,
    defaultEditorToolsVisibility: "variables",
  };
  nameEditors(root);
  ReactDOM.createRoot(root).render(React.createElement(GraphiQL, properties));

  const restore = document.getElementById("restore");
  restore.hidden = !examples.tabs.length;
  restore.addEventListener("click", () => {
    if (!confirm("Put the example tabs back as they were? Your own tabs are dropped.")) return;
    storage.setItem = () => {}; // GraphiQL stores edits half a second later
    storage.forgetTabs(false);
    location.reload();
  });
}

start().catch((error) => {
  document.getElementById("graphiql").textContent = `GraphiQL did not start: ${error.message}`;
  throw error;
});
