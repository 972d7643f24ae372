// Where the page is: the part after `#`, so that one file serves every address, and back and deep links work.
import { useEffect, useState } from "preact/hooks";

export interface Route {
  readonly screen: string;
  readonly argument: string;
  /** Counts the visits: who leaves a screen and comes back before it was drawn anew finds it as at first, too. */
  readonly visit: number;
}

function here(visit: number): Route {
  const [screen = "", argument = ""] = location.hash.replace(/^#\/?/, "").split("/");
  return { screen, argument: decode(argument), visit };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // somebody wrote the address by hand
  }
}

export const link = (screen: string, argument = ""): string =>
  `#/${screen}${argument ? `/${encodeURIComponent(argument)}` : ""}`;

export function useRoute(): Route {
  const [route, setRoute] = useState(() => here(0));
  useEffect(() => {
    const listen = () => {
      setRoute((former) => here(former.visit + 1));
      scrollTo(0, 0);
    };
    addEventListener("hashchange", listen);
    return () => removeEventListener("hashchange", listen);
  }, []);
  return route;
}
