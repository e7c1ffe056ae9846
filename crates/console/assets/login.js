// Says what was wrong with a key, and keeps the way to where somebody wanted to go.
const WRONG = {
  key: "This key is not known here. Check it: the admin key is not the one that applications use.",
  often: "Too many wrong keys came in the last minute, so none is looked at. Wait a minute, then try again.",
  empty: "Type the admin key.",
};
const wrong = new URLSearchParams(location.search).get("wrong");
if (Object.hasOwn(WRONG, wrong ?? "")) {
  document.getElementById("wrong").textContent = WRONG[wrong];
  document.getElementById("key").setAttribute("aria-invalid", "true");
}
// A redirect keeps the part of an address that servers never see: there is the page that was wanted.
document.querySelector("form").action = "/console/login" + location.hash;
