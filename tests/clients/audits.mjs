// Every audit of graphql-http against URL, as JSON: {id: {status, name, reason}}.
import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.env.URL });
const shown = results.map(({ id, name, status, reason }) => [id, { status, name, reason }]);
console.log(JSON.stringify(Object.fromEntries(shown)));
