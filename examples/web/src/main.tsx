import { render } from "preact";
import { App } from "./app.js";
import { CardPage, isCardPage } from "./screens/card.js";
import "./style.css";

const root = document.getElementById("wallet");
if (root) render(isCardPage() ? <CardPage /> : <App />, root);
