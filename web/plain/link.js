// The token of a share link. It stands after the # of the address, which no browser sends anywhere.

const kept = "doorstep-link";

/**
 * Takes the token out of the address, so that neither the bar nor the history shows it. It stays in the tab's own storage, because a phone
 * throws away tabs in the background and loads them again. "" where there is none.
 */
export function takeLink() {
  const fresh = location.hash.slice(1);
  if (fresh) {
    history.replaceState(null, "", location.pathname + location.search);
    sessionStorage.setItem(kept, fresh);
  }
  addEventListener("hashchange", () => location.hash && location.reload());
  const token = fresh || (sessionStorage.getItem(kept) ?? "");
  return /^[\w.~-]*$/.test(token) ? token : "malformed";
}

export const dropLink = () => sessionStorage.removeItem(kept);
